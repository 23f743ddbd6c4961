"""The package's own verification: every gradient and every closed form, on every backend that is present.

`catalogue` lists what is checked, `closed_forms` holds the exact answers, and `against_autodiff` computes the same
gradients by automatic differentiation. `files` checks other people's files. `runner` runs the package's checks, and
`vae-np verify` prints their table. `load_subject` returns one subject of a file, to look at and to check again.
"""

from __future__ import annotations

from typing import Any


def load_subject(path: str, name: str, seed: int = 0) -> Any:
    """Return the subject of this name in a user's file, which has a method `check`; the file is executed here."""
    from vae_np.verify.subjects import load

    return load(path, name, seed)
