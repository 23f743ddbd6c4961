"""Data sets: what comes with the package, what a file holds, what its values mean, and how rows reach the model."""

from vae_np.choices import BINARIZATIONS, ValuesKind
from vae_np.choices import VALUES_KINDS as KINDS
from vae_np.data.batches import Batches, Rows
from vae_np.data.binarization import check_values, prepare
from vae_np.data.builtin import BUILT_IN, built_in, mnist
from vae_np.data.dataset import (
    Dataset,
    check_columns,
    check_for,
    digest_of_rows,
    from_arrays,
    load,
    split_validation,
)
from vae_np.data.formats import Parts, read
from vae_np.data.given import Given, beside
from vae_np.data.mapped import check_length
from vae_np.data.named_columns import cells_of, propose_columns, rows_of
from vae_np.data.synthetic import bars, rings, xor
from vae_np.data.values import (
    BINARY,
    BYTE,
    REAL,
    UNIT,
    Span,
    Standardisation,
    Values,
    decide,
    flatten,
    scan,
    takes_grey,
    unmasked,
    with_holes,
)

__all__ = [
    "BINARIZATIONS",
    "BINARY",
    "BUILT_IN",
    "BYTE",
    "KINDS",
    "REAL",
    "UNIT",
    "Batches",
    "Dataset",
    "Given",
    "Parts",
    "Rows",
    "Span",
    "Standardisation",
    "Values",
    "ValuesKind",
    "bars",
    "beside",
    "built_in",
    "cells_of",
    "check_columns",
    "check_for",
    "check_length",
    "check_values",
    "decide",
    "digest_of_rows",
    "flatten",
    "from_arrays",
    "load",
    "mnist",
    "prepare",
    "propose_columns",
    "read",
    "rings",
    "rows_of",
    "scan",
    "split_validation",
    "takes_grey",
    "unmasked",
    "with_holes",
    "xor",
]
