"""Pictures: each function returns a figure and never shows it."""
