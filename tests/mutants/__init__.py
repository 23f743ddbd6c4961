"""Planted mistakes: each is put into the package in memory, one at a time, and a named check has to notice it.

`plant` puts a mistake in and takes it out, `mistakes_*` list them, `checks_*` are what must notice, `table` writes
the table of docs/verification.md (`python -m tests.mutants`). Whoever adds mathematics adds its mistakes here.
"""
