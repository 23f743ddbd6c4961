"""Data sets: what comes with the package, what a file holds, and how rows reach the model."""

from vae_np.data.builtin import BUILT_IN, built_in, mnist
from vae_np.data.dataset import (
    BINARIZATIONS,
    Dataset,
    Values,
    as_rows,
    check_columns,
    check_for,
    check_values,
    from_arrays,
    load,
    prepare,
    split_validation,
)
from vae_np.data.files import Parts, read
from vae_np.data.synthetic import bars, rings, xor

__all__ = [
    "BINARIZATIONS",
    "BUILT_IN",
    "Dataset",
    "Parts",
    "Values",
    "as_rows",
    "bars",
    "built_in",
    "check_columns",
    "check_for",
    "check_values",
    "from_arrays",
    "load",
    "mnist",
    "prepare",
    "read",
    "rings",
    "split_validation",
    "xor",
]
