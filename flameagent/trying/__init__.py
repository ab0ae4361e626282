"""Trying a change: conversations asked again with another model or a changed agent, compared and judged."""
