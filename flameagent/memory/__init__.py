"""What was said, found again: turns of conversations, searched by words."""
