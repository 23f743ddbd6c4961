"""The widths at which pages are looked at."""

# A phone's width, and a desk's.
WIDTHS = (390, 1280)
