"""The command line: each command has a file of its name, with its options and its work; `app` puts them together."""

from __future__ import annotations

import sys
from typing import NoReturn

from vae_np.cli.interrupts import leaving_at_once

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line and exit; a user's mistake is one line on standard error."""
    with leaving_at_once():
        from vae_np.cli import app
    sys.exit(app.run())
