"""Tests that look at pages in a browser: the site, its explorables, and a run's report."""
