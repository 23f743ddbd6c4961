"""What a conditional model is given beside x: labels, one-hot, or columns of numbers, standardised. [D79]

`Given` says what a model's conditions are, and is kept with the model; encoded conditions (N, C) are arrays, which
stand behind the columns of x when it reaches the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.data.formats.tables import as_labels
from vae_np.data.values import Standardisation, scan, unmasked
from vae_np.errors import DataError

# Names of categories that a message lists, at most.
_SHOWN = 12


@dataclass(frozen=True, eq=False)
class Given:
    """The categories of labels by `names`, in the order of their columns, or the mean and σ of `columns`."""

    names: tuple[str, ...] | None = None
    columns: Standardisation | None = None

    def __str__(self) -> str:
        if self.names is None:
            return f"{self.width} columns, standardized"
        return f"{self.width} labels: {self._listed()}"

    @property
    def width(self) -> int:
        """How many columns an encoded condition has."""
        if self.columns is not None:
            return len(self.columns.mean)
        return len(self.names or ())

    @property
    def expected(self) -> str:
        """What fits, in words."""
        if self.names is None:
            return f"{self.width} numbers for each row"
        return f"a label for each row, one of {self._listed()}"

    def _listed(self) -> str:
        names = self.names or ()
        return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")

    @classmethod
    def of(cls, given: Any, what: str = "given") -> Given:
        """What conditions (N,) of labels, or (N, C) of numbers, are. Raises DataError for any other array."""
        array = _array(given, what)
        if array.ndim == 2:
            scan(array, what)
            return cls(columns=Standardisation.of(array, what))
        return cls(names=tuple(dict.fromkeys(_texts(np.unique(array)))))

    def encode(self, given: Any, rows: int, what: str = "given") -> Array:
        """Conditions (rows, C) as the model takes them: one-hot bytes, or float32 standardised.

        A single label, or a single row of C numbers, is given to all rows. Raises DataError where a label is none of
        the categories, or shapes do not fit.
        """
        single = np.asarray(given) if self.names is not None else np.atleast_1d(np.asarray(given))
        if single.ndim == (0 if self.names is not None else 1):
            given = np.tile(single, rows) if self.names is not None else np.tile(single, (rows, 1))
        array = _array(given, what)
        fits = array.ndim == 1 if self.columns is None else array.ndim == 2 and array.shape[1] == self.width
        if not fits or len(array) != rows:
            raise DataError(f"{what}: got shape {array.shape} for {rows} rows, expected {self.expected}")
        if self.columns is not None:
            scan(array, what)
            return ((array - self.columns.mean) / self.columns.sigma).astype(np.float32)
        codes = {name: code for code, name in enumerate(self.names or ())}
        texts = _texts(array)
        unknown = next((place for place, text in enumerate(texts) if text not in codes), None)
        if unknown is not None:
            raise DataError(
                f"{what}: got {texts[unknown]!r} in row {unknown} (counted from 0), which the model was not trained "
                f"with, expected one of {self._listed()}"
            )
        encoded = np.zeros((rows, self.width), dtype=np.uint8)
        encoded[np.arange(rows), [codes[text] for text in texts]] = 1
        return encoded

    def parse(self, text: str) -> Any:
        """What was typed: labels separated by commas, or one row of numbers; raises DataError."""
        parts = [part.strip() for part in text.split(",")]
        if self.names is not None:
            return np.array(parts)
        try:
            return np.array([float(part) for part in parts])
        except ValueError:
            raise DataError(f"given: got {text!r}, expected {self.width} numbers separated by commas") from None

    def to_mapping(self) -> dict[str, Any]:
        """Plain data, for a checkpoint; `from_mapping` reads the very same back."""
        if self.columns is None:
            return {"names": list(self.names or ())}
        return {"mean": self.columns.mean.tolist(), "sigma": self.columns.sigma.tolist()}

    @classmethod
    def from_mapping(cls, held: Mapping[str, Any], width: int) -> Given:
        """What a checkpoint holds, for a model with `width` conditions; raises DataError where that is something else.
        """
        try:
            if "names" in held:
                found = cls(names=tuple(str(name) for name in held["names"]))
                usable = len(set(found.names or ())) == width
            else:
                mean, sigma = (np.array(held[name], dtype=np.float64) for name in ("mean", "sigma"))
                found = cls(columns=Standardisation(mean, sigma))
                usable = mean.shape == sigma.shape and bool(np.isfinite(mean).all() and (sigma > 0).all())
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"given: cannot be read ({error!r})") from None
        if not usable or found.width != width:
            raise DataError(f"given: got {found.width} conditions, expected {width} different ones")
        return found


def beside(x: Array, given: Array | None) -> Array:
    """x (B, D) with its conditions (B, C) behind it, (B, D + C); x itself where there are none. [D79]"""
    return x if given is None else np.concatenate([x, given], axis=1)


def _array(given: Any, what: str) -> Array:
    array = unmasked(given, what)
    if array.ndim == 2 and array.dtype.kind in "biuf" and array.size:
        return array
    if array.ndim == 1 and array.size and array.dtype.kind in "biuSUO":
        return as_labels(array)
    if array.ndim == 1 and array.size and array.dtype.kind == "f" and bool((array == np.rint(array)).all()):
        # Whole numbers, as some tables hold them.
        return array.astype(np.int64)
    raise DataError(
        f"{what}: got {array.dtype} of shape {array.shape}, expected labels (N,), whole numbers or text, or columns of "
        "numbers (N, C)"
    )


def _texts(labels: Array) -> list[str]:
    return [str(label) for label in labels.tolist()]
