"""What a data file holds, which arrays of several are the data, and how large a compressed file may become."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from vae_np._types import Array
from vae_np.errors import DataError

_NAMES = (
    ("train", "x_train", "train_data", "X_train"),
    ("test", "x_test", "test_data", "X_test"),
    ("train_labels", "y_train"),
    ("test_labels", "y_test"),
)
# What a compressed file may become in memory. A larger one is read in parts, as .npy.
_MOST_EXPANDED = 4 << 30


class Parts(NamedTuple):
    """What a file, or a file with its siblings, holds; arrays as they are stored.

    `columns` are the names of a table's columns, without the one of the labels, whose name is `label_column`.
    """

    train: Array
    test: Array | None = None
    train_labels: Array | None = None
    test_labels: Array | None = None
    columns: tuple[str, ...] | None = None
    label_column: str | None = None


def choose(names: Collection[str], path: Path) -> list[str | None]:
    """The names of train, test and both labels among named arrays; raises DataError where nothing says which is which.

    A single array is the data, whatever its name.
    """
    if len(names) == 1:
        return [next(iter(names)), None, None, None]
    chosen = [next((name for name in aliases if name in names), None) for aliases in _NAMES]
    if chosen[0] is None:
        found = ", ".join(names) or "nothing"
        raise DataError(f"{path}: expected an array 'train' or 'x_train', or a single one; found {found}")
    return chosen


def check_size(path: Path, size: int) -> None:
    """Raise DataError for a file that would be too large once it is expanded to so many bytes."""
    if size > _MOST_EXPANDED:
        raise DataError(
            f"{path}: {size / 2**30:.1f} GiB when it is expanded, expected at most {_MOST_EXPANDED / 2**30:.0f} GiB; "
            "a file that is not compressed (.npy, or IDX) is read in parts and may have any size"
        )
