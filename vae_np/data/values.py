"""The kind of values that data hold, and on what scale: decided once, when a model is fitted, and kept with the model.

A row of a table does not say whether its 0 and 1 are pixels, bytes nearly black, or measurements. So the kind is
decided from all training rows together, or named, and every later array is read by it or refused:

- `binary`: 0 and 1;
- `byte`: whole numbers from 0 to 255, which mean grey = value / 255;
- `unit`: numbers from 0 to a scale (1 unless it is named), which mean grey = value / scale;
- `real`: any finite numbers, taken as they are, or standardised column by column [D51].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.choices import COMPOSED_LIKELIHOODS, ValuesKind
from vae_np.choices import VALUES_KINDS as KINDS
from vae_np.data.batches import are_batches, gathered
from vae_np.data.mapped import chunks
from vae_np.display import shapes_text
from vae_np.errors import DataError

_GREY = ("binary", "byte", "unit")
_WHITE = 255.0
# A model starts from numbers near 0 and 1; a value of 30 is too far from them to be chance.
_FAR = 30.0
# Whole numbers that reach no higher than this may be bytes of dark images, or levels of another scale, or counts.
_SURELY_BYTES = 128


@dataclass(frozen=True)
class Span:
    """The lowest and the highest value of an array, and whether all values are whole numbers."""

    low: float
    high: float
    whole: bool

    def __str__(self) -> str:
        return f"{'whole numbers' if self.whole else 'numbers'} from {self.low:.6g} to {self.high:.6g}"

    def within(self, low: float, high: float) -> bool:
        """Whether all values lie in [low, high]."""
        return low <= self.low and self.high <= high


@dataclass(frozen=True, eq=False, repr=False)
class Standardisation:
    """What is subtracted from each column and what divides it then: `mean` and `sigma`, (D,) float64 each. [D51]"""

    mean: Array
    sigma: Array

    def __repr__(self) -> str:
        return shapes_text(type(self).__name__, [("mean", self.mean), ("sigma", self.sigma)])

    @classmethod
    def of(cls, rows: Array, what: str = "data", measured: Sequence[bool] | None = None) -> Standardisation:
        """Mean and standard deviation (over N) of each column of rows (N, D); a constant column keeps σ = 1.

        Cells without a value, NaN, count for neither. Columns that are not `measured` keep mean 0 and σ = 1.
        """
        features = rows.shape[1]
        total, low, high = np.zeros(features), np.full(features, np.inf), np.full(features, -np.inf)
        squares, count = np.zeros(features), np.zeros(features)
        # What float64 cannot hold is reported below, with its column.
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            for _, part in chunks(rows, what):
                present = ~np.isnan(part)
                count += present.sum(axis=0)
                total += np.where(present, part, 0).sum(axis=0, dtype=np.float64)
                low, high = np.fmin(low, np.fmin.reduce(part)), np.fmax(high, np.fmax.reduce(part))
            if not count.all():
                column = int(np.argmin(count))
                raise DataError(f"{what}: column {column} (counted from 0) has no value in any row, expected some")
            # The rounded mean of equal numbers need not be that number, and a constant column has to become zero.
            constant = low == high
            mean = np.where(constant, low, total / count)
            for _, part in chunks(rows, what):
                squares += np.where(np.isnan(part), 0, (part - mean) ** 2).sum(axis=0)
            sigma = np.where(constant, 1.0, np.sqrt(squares / count))
        if measured is not None:
            mean, sigma = np.where(measured, mean, 0), np.where(measured, sigma, 1)
        lost = ~(np.isfinite(mean) & np.isfinite(sigma) & (sigma > 0))
        if lost.any():
            column = int(np.argmax(lost))
            raise DataError(
                f"{what}: column {column} (counted from 0) runs from {low[column]:.6g} to {high[column]:.6g}, "
                "expected numbers whose squares float64 can hold, to standardize them"
            )
        return cls(mean, sigma)


@dataclass(frozen=True)
class Values:
    """What the numbers of a data set mean: their `kind`, their `scale` (the number that is white), and standardisation.

    `span` is the span of the rows that the model was fitted to; None if it was never fitted.
    """

    kind: ValuesKind
    scale: float = 1.0
    span: Span | None = None
    standardisation: Standardisation | None = None

    @property
    def is_grey(self) -> bool:
        """Whether values mean a probability or a grey between 0 and 1, and can be binarised."""
        return self.kind in ("byte", "unit")

    def is_far_from_standard(self, span: Span) -> bool:
        """Whether data of that span reach the model as they are, and are so far from 0 and 1 that training may fail."""
        return self.kind == "real" and self.standardisation is None and max(abs(span.low), abs(span.high)) > _FAR

    @property
    def log_det_jacobian(self) -> float:
        """−Σ log σ, which turns a log-density of standardised x into one of the data, in nats; else 0. [D51]"""
        return 0.0 if self.standardisation is None else -float(np.log(self.standardisation.sigma).sum())

    def log_det_of(self, x: Array) -> Any:
        """`log_det_jacobian` of the cells that rows x (B, D) have: (B,) where some have no value, else one number."""
        if self.standardisation is None or x.dtype.kind != "f" or not (missing := np.isnan(x)).any():
            return self.log_det_jacobian
        return -(np.where(missing, 0, np.log(self.standardisation.sigma)).sum(axis=1))

    @property
    def expected(self) -> str:
        """What fits, in words."""
        if self.kind == "binary":
            return "only 0 and 1 (binary)"
        if self.kind == "byte":
            return "whole numbers from 0 to 255 (bytes)"
        if self.kind == "unit":
            return f"numbers from 0 to {self.scale:.6g} (grey on the scale {self.scale:.6g})"
        return "finite numbers (real)"

    def __str__(self) -> str:
        if self.kind == "binary":
            return "binary, 0 and 1"
        if self.kind == "byte":
            return "grey, bytes over 255"
        if self.kind == "unit":
            return "grey in [0, 1]" if self.scale == 1 else f"grey, over {self.scale:.6g}"
        return "real, as they are" if self.standardisation is None else "real, standardized column by column"

    def fits(self, span: Span) -> bool:
        """Whether an array of that span can be read as these values."""
        if self.kind == "real":
            return True
        high = {"binary": 1.0, "byte": _WHITE}.get(self.kind, self.scale)
        return span.within(0, high) and (span.whole or self.kind == "unit")

    def check(self, span: Span, what: str) -> None:
        """Raise DataError, with both ranges, where an array of that span cannot be read as these values."""
        if self.fits(span):
            return
        trained = "" if self.span is None else f"; the training rows have {self.span}"
        other = [kind for kind in _GREY if kind != self.kind and Values.named(kind).fits(span)]
        remedy = f"; what it holds can be named: values {' or '.join(map(repr, other))}" if other else ""
        raise DataError(f"{what}: got {span}, expected {self.expected}{trained}{remedy}")

    def convert(self, rows: Array) -> Array:
        """The rows as they are stored: without a copy where their dtype fits already.

        uint8 for `binary` and `byte`; float32 for `unit`, or small integers as they are; float32 or float64 for `real`.
        """
        if self.kind == "unit" and rows.dtype.isnative and rows.dtype in (np.uint8, np.uint16):
            return rows
        if self.kind == "real":
            # float32 only where it holds every value of the stored type.
            dtype = np.dtype(np.float32 if np.can_cast(rows.dtype, np.float32) else np.float64)
        else:
            holes = rows.dtype.kind == "f" and bool(np.isnan(rows).any())
            dtype = np.dtype(np.float32 if self.kind == "unit" or holes else np.uint8)
        return rows.astype(dtype, copy=False)

    def to_model(self, rows: Array) -> Array:
        """What the model sees of stored rows (N, D) where nothing is binarised: grey in [0, 1], or standardised x."""
        if self.kind == "binary":
            return rows
        if self.kind == "real":
            if self.standardisation is None:
                return rows
            # In float64 whatever the rows are: a large mean would take the digits with it.
            return ((rows - self.standardisation.mean) / self.standardisation.sigma).astype(rows.dtype, copy=False)
        grey = rows.astype(np.float32, copy=False)
        return grey if self.scale == 1 else grey / np.float32(self.scale)

    def from_model(self, x: Array) -> Array:
        """The model's x (..., D) on the data's own scale, in x's dtype: standardisation is undone, grey stays grey."""
        if self.standardisation is None:
            return x
        return (x * self.standardisation.sigma + self.standardisation.mean).astype(x.dtype, copy=False)

    def standardised(self, rows: Array, what: str = "data", measured: Sequence[bool] | None = None) -> Values:
        """The same values, standardised by the columns of these rows, or by those that are `measured`. [D51]"""
        if self.kind != "real":
            raise DataError(f"standardize: {what} holds {self}, expected real values (values 'real')")
        return replace(self, standardisation=Standardisation.of(rows, what, measured))

    def to_mapping(self) -> dict[str, Any]:
        """Plain data, for a checkpoint; `from_mapping` reads the very same numbers back."""
        spread = self.standardisation
        return {
            "kind": self.kind,
            "scale": self.scale,
            "span": None if self.span is None else [self.span.low, self.span.high, self.span.whole],
            "standardisation": None
            if spread is None
            else {"mean": spread.mean.tolist(), "sigma": spread.sigma.tolist()},
        }

    @classmethod
    def from_mapping(cls, held: Mapping[str, Any], features: int) -> Values:
        """The values in the checkpoint of a model with `features` columns; raises DataError where there are none."""
        try:
            values = cls.named(held["kind"], float(held["scale"]))
            if held["span"] is not None:
                low, high, whole = held["span"]
                values = replace(values, span=Span(float(low), float(high), bool(whole)))
            spread = held["standardisation"]
            if spread is None:
                return values
            mean, sigma = (np.array(spread[name], dtype=np.float64) for name in ("mean", "sigma"))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"values: cannot be read ({error!r})") from None
        usable = bool(np.isfinite(mean).all() and np.isfinite(sigma).all() and (sigma > 0).all())
        if values.kind != "real" or not mean.shape == sigma.shape == (features,) or not usable:
            raise DataError(
                f"values: got mean and sigma of shapes {mean.shape} and {sigma.shape} for {values.kind} values, "
                f"expected finite ones of shape ({features},) for real values, each sigma > 0"
            )
        return replace(values, standardisation=Standardisation(mean, sigma))

    @classmethod
    def named(cls, kind: str, scale: float | None = None) -> Values:
        """Values of a kind that was named, on a scale that was named or the kind's own; raises DataError."""
        if kind not in KINDS:
            raise DataError(f"values: got {kind!r}, expected one of {', '.join(KINDS)}")
        if kind == "byte":
            if scale not in (None, _WHITE):
                raise DataError(f"scale: got {scale:g}, expected 255 for values 'byte'; values 'unit' has any scale")
            return BYTE
        if kind == "unit":
            if scale is not None and not 0 < scale < math.inf:
                raise DataError(f"scale: got {scale!r}, expected a finite number > 0")
            return cls("unit", 1.0 if scale is None else float(scale))
        if scale not in (None, 1):
            raise DataError(f"scale: got {scale:g}, but values {kind!r} have none; values 'unit' has one")
        return cls(kind)


BINARY, BYTE, UNIT, REAL = Values("binary"), Values("byte", _WHITE), Values("unit"), Values("real")


def flatten(array: Any, what: str) -> tuple[Array, tuple[int, int] | None]:
    """An array (N, D) or (N, H, W) of numbers as rows (N, D), and (H, W) where it has that.

    Images may have an axis of one channel, (N, 1, H, W) or (N, H, W, 1).

    Raises DataError for another shape, no rows, values that are not numbers, and masked cells.
    """
    array = unmasked(array, what)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what}: got {array.dtype}, expected numbers")
    if array.ndim == 4 and 1 in (array.shape[1], array.shape[3]):
        array = array.reshape(len(array), *(array.shape[2:] if array.shape[1] == 1 else array.shape[1:3]))
    if array.ndim not in (2, 3):
        raise DataError(f"{what}: got shape {array.shape}, expected (N, D) or (N, H, W)")
    if array.size == 0:
        raise DataError(f"{what}: got the empty shape {array.shape}, expected at least one row and one column")
    if array.ndim == 2:
        return array, None
    rows, height, width = array.shape
    return array.reshape(rows, height * width), (height, width)


def unmasked(array: Any, what: str) -> Array:
    """An array-like, or batches of rows, as an array.

    Raises DataError where cells are masked, since a plain array would show them, and for batches that do not agree.
    """
    if isinstance(array, np.ma.MaskedArray):
        masked = int(np.ma.getmaskarray(array).sum())
        if masked:
            raise DataError(
                f"{what}: has {masked} of {array.size} cells masked, expected none; drop those rows, or fill the cells "
                "with x.filled(value)"
            )
        return np.asarray(array.data)
    if isinstance(array, np.ndarray):
        return array
    if are_batches(array):
        return gathered(array, what)
    try:
        return np.asarray(array)
    except ValueError as error:
        # A list of lists, or of arrays, that do not form one.
        raise DataError(f"{what}: got rows of several lengths or no array, expected (N, D) ({error})") from None


def with_holes(array: Any, mask: Any, what: str) -> Array:
    """An array-like, or batches of rows, whose cells may have no value: NaN there, in float32 or float64.

    No value has what is NaN, masked (NumPy's masked arrays), or False in `mask`, shaped as the array. Raises DataError
    as `unmasked` does, and for a mask of another shape or kind.
    """
    hidden = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else None
    held = np.asarray(array.data) if isinstance(array, np.ma.MaskedArray) else unmasked(array, what)
    if mask is not None:
        given = unmasked(mask, "mask")
        if given.dtype != np.bool_ or given.shape != held.shape:
            raise DataError(
                f"mask: got {given.dtype} of shape {given.shape}, expected bool of shape {held.shape}, True where "
                f"{what} has a value"
            )
        hidden = ~given if hidden is None else hidden | ~given
    if hidden is None or not hidden.any() or held.dtype.kind not in "biuf":
        return held
    dtype = np.dtype(np.float32 if np.can_cast(held.dtype, np.float32) else np.float64)
    return np.where(hidden, dtype.type(np.nan), held.astype(dtype, copy=False))


def scan(rows: Array, what: str, *, missing: bool = False, otherwise: Span | None = None) -> Span:
    """The span of all values, a chunk at a time; DataError naming the first NaN or infinity, in row order.

    With `missing` NaN is a cell without a value. Where no cell has one, the span is `otherwise`, or that is an error.
    """
    low, high, whole = math.inf, -math.inf, True
    least, most = (np.fmin, np.fmax) if missing else (np.minimum, np.maximum)
    for start, part in chunks(rows, what):
        if part.dtype.kind == "f":
            absent = np.isnan(part) if missing else np.zeros(1, dtype=bool)
            wrong = ~(np.isfinite(part) | absent)
            if wrong.any():
                row, column = np.argwhere(wrong)[0]
                where = f"row {start + row}, column {column} (counted from 0)"
                remedy = "; cells without a value need missing 'zero' or 'mask'" if np.isnan(part[row, column]) else ""
                raise DataError(f"{what}: got {part[row, column]} at {where}, expected finite numbers{remedy}")
            whole = whole and bool(((part == np.rint(part)) | absent).all())
            if absent.all():
                continue
        low, high = min(low, float(least.reduce(part, axis=None))), max(high, float(most.reduce(part, axis=None)))
    if low > high:
        if otherwise is None:
            raise DataError(f"{what}: no cell has a value, expected some")
        return otherwise
    return Span(low, high, whole)


def decide(
    span: Span,
    dtype: np.dtype[Any],
    likelihood: str,
    *,
    kind: str | None = None,
    scale: float | None = None,
    what: str = "data",
) -> Values:
    """The values of training rows with that span and dtype, for a model with that likelihood.

    `kind` and `scale` name them; what is not named is decided where the rows leave no doubt. Raises DataError where
    they leave a doubt, with the names to choose from, and where a given name does not fit.

    A Bernoulli likelihood needs 0 and 1, or grey: numbers within [0, 1], or whole numbers that reach from 0 to between
    128 and 255. A normal one takes all numbers as they are, except bytes of images: uint8 that reaches that high.
    """
    if kind is None and scale is not None:
        whole_bytes = scale == _WHITE and BYTE.fits(span)
        kind = "byte" if whole_bytes else "binary" if scale == 1 and BINARY.fits(span) else "unit"
    if kind is not None:
        named = Values.named(kind, scale)
        named.check(span, what)
        return replace(named, span=span)
    if likelihood in COMPOSED_LIKELIHOODS and not takes_grey(likelihood):
        return replace(REAL, span=span)
    return replace(_decided(span, dtype, takes_grey(likelihood), what), span=span)


def takes_grey(likelihood: str) -> bool:
    """Whether a likelihood is one of numbers in [0, 1], as grey is."""
    return likelihood.startswith("bernoulli") or likelihood == "continuous-bernoulli"


def _decided(span: Span, dtype: np.dtype[Any], bernoulli: bool, what: str) -> Values:
    if BINARY.fits(span) and (bernoulli or dtype.kind in "bui"):
        return BINARY
    if bernoulli and UNIT.fits(span):
        return UNIT
    surely_bytes = BYTE.fits(span) and span.high >= _SURELY_BYTES
    if bernoulli:
        if surely_bytes:
            return BYTE
        if BYTE.fits(span):
            raise DataError(
                f"scale: {what} has {span}, which may be levels or dark bytes; name one: --scale {span.high:.6g} (in "
                f"Python scale={span.high:.6g}) where {span.high:.6g} is white, or --scale 255 for bytes"
            )
        return REAL
    if dtype == np.uint8 and surely_bytes:
        return BYTE
    if BYTE.fits(span) and (dtype == np.uint8 or (span.low, span.high) == (0, _WHITE)):
        raise DataError(
            f"values: {what} has {span} as {dtype}, which may be grey or numbers in their own right; name one: "
            "--values real (in Python values='real'), --values byte, or a --scale"
        )
    return REAL


def decide_as_before(train: Span, test: Span, what: str) -> Values:
    """The values of a run that was trained before they were recorded, by the rule of that time."""

    def classified(span: Span) -> Values:
        if span.low < 0:
            return REAL
        if span.whole and span.high <= _WHITE:
            return BINARY if span.high <= 1 else BYTE
        return UNIT if span.high <= 1 else REAL

    if {classified(train), classified(test)} == {UNIT, BYTE}:
        raise DataError(f"{what}: train has {train}, test {test}; bring both to one scale")
    both = Span(min(train.low, test.low), max(train.high, test.high), train.whole and test.whole)
    return replace(classified(both), span=train)
