"""The command line: its options in `app`, and one file per command."""

from vae_np.cli.app import main

__all__ = ["main"]
