"""The version of this package, stated once, below everything that writes it down."""

__version__ = "0.1.0"
