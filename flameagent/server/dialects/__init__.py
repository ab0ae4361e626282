"""The dialects that clients speak: each a module with its routes."""
