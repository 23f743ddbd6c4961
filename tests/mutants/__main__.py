"""Write the table of planted mistakes into docs/verification.md: `python -m tests.mutants`."""

from .table import write

if __name__ == "__main__":
    write()
