"""The terminal: what is shown on it and typed at it, and Ctrl-C."""
