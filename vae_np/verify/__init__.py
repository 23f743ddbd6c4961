"""The package's own verification: every gradient, every closed form, on every backend that is present.

`catalogue` lists what is checked, `closed_forms` has the exact answers, `against` the same gradients from automatic
differentiation, `files` the checks of other people's files; `runner` runs them and `vae-np verify` prints the table.
`load_subject` gives one subject of such a file, to look at and to check again.
"""

from __future__ import annotations

from typing import Any


def load_subject(path: str, name: str, seed: int = 0) -> Any:
    """Return the subject of this name in a user's file, with `.check()`; the file is executed in this process."""
    from vae_np.verify.subjects import load

    return load(path, name, seed)
