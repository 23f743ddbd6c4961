"""The data that comes with the package: MNIST in one compressed file, and small synthetic sets.

`MNIST.md` beside this file states where the images come from and under which licence they are passed on.
"""

from __future__ import annotations

from importlib import resources

import numpy as np

from vae_np.data.formats import Parts
from vae_np.data.synthetic import bars, rings, xor

__all__ = ["BUILT_IN", "Parts", "bars", "built_in", "mnist", "rings", "xor"]

BUILT_IN = ("mnist", "bars", "xor", "rings")

_BY_ROWS = {"xor": xor, "rings": rings}
_SYNTHETIC_TRAIN = 20_000
_SYNTHETIC_TEST = 2_000


def built_in(name: str, seed: int) -> Parts:
    """One of `BUILT_IN`; the synthetic sets have 20,000 training and 2,000 test rows of one draw with
    `seed`."""
    if name == "mnist":
        return mnist()
    rows = _SYNTHETIC_TRAIN + _SYNTHETIC_TEST
    values, labels = bars(4, rows, seed) if name == "bars" else _BY_ROWS[name](rows, seed)
    cut = _SYNTHETIC_TRAIN
    return Parts(values[:cut], values[cut:], labels[:cut], labels[cut:])


def mnist() -> Parts:
    """The 60,000 training and 10,000 test digits: (N, 784) uint8 grey 0..255, with (N,) uint8 labels 0..9."""
    with resources.files(__package__).joinpath("mnist.npz").open("rb") as file, np.load(file) as arrays:
        return Parts(arrays["train"], arrays["test"], arrays["train_labels"], arrays["test_labels"])
