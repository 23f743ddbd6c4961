"""The same training step as users of other libraries would write it at its best. Each is checked before it is timed."""
