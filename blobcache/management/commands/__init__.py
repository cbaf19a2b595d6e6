"""The command that Django finds."""
