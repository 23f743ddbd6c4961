"""p(x|z) of a whole row: families side by side, and only what was observed of it. [D66] [D67]

A cell without a value is NaN. It adds nothing to log p(x|z) and sends nothing back; the encoder sees zeros in its
place, and with them, if the model says so, which cells are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from vae_np._types import Array
from vae_np.errors import DataError
from vae_np.likelihoods.family import Family


class Group(NamedTuple):
    """A family and the columns of x that it speaks for, with the beginning of its tensors' names."""

    family: Family
    columns: tuple[int, ...]
    prefix: str = "likelihood"

    def tensors(self, parameters: Mapping[str, Array]) -> dict[str, Array]:
        """The family's own tensors among a model's parameters."""
        return {name: parameters[f"{self.prefix}.{name}"] for name in self.family.tensors()}


@dataclass(frozen=True)
class Observation:
    """What a decoder's outputs mean and which cells count; with `tells` the encoder is told which are missing.

    `names` are the columns' names, for messages; empty where they have none.
    """

    groups: tuple[Group, ...]
    features: int
    tells: bool = False
    names: tuple[str, ...] = field(default=(), compare=False)

    @property
    def outputs(self) -> int:
        """The decoder's outputs, one group's after the other's, and within one column by column."""
        return sum(len(group.columns) * group.family.outputs for group in self.groups)

    @property
    def inputs(self) -> int:
        """The encoder's inputs."""
        seen = sum(len(group.columns) * group.family.inputs for group in self.groups)
        return seen + self.features if self.tells else seen

    def tensors(self) -> dict[str, tuple[tuple[int, ...], float]]:
        """What the families learn beside the decoder: shape and starting value by name."""
        return {
            f"{group.prefix}.{name}": spec for group in self.groups for name, spec in group.family.tensors().items()
        }

    def seen(self, x: Array) -> Array:
        """What the encoder sees of x (B, D), (B, inputs): zeros for what is missing. [D67]"""
        missing = _missing(x)
        if len(self.groups) == 1 and not self.tells and self.groups[0].family.inputs == 1 and missing is None:
            whole: Array = self.groups[0].family.seen(x)[..., 0]
            return whole
        parts = []
        for group in self.groups:
            cells, absent = self._of(group, x), None if missing is None else self._of(group, missing)
            seen = group.family.seen(cells if absent is None else np.where(absent, 0, cells))
            if absent is not None:
                seen = np.where(absent[..., None], 0, seen)
            parts.append(seen.reshape(len(x), -1))
        if self.tells:
            parts.append(np.ones_like(x) if missing is None else (~missing).astype(x.dtype))
        return np.concatenate(parts, axis=1)

    def log_prob_forward(self, parameters: Mapping[str, Array], x: Array, out: Array) -> tuple[Array, Any]:
        """log p(x|z) of what is observed, (S·B,) in nats, from x (B, D) and out (S·B, outputs). [D67]"""
        missing, stacked = _missing(x), out.reshape(-1, len(x), self.outputs)
        x = x.astype(out.real.dtype, copy=False)
        total, caches = np.zeros(stacked.shape[:2], dtype=out.dtype), []
        for group, of_group in self._split(stacked):
            cells, absent = self._of(group, x), None if missing is None else self._of(group, missing)
            # Any value that the family has a density for will do; what comes of it is not added.
            filled = cells if absent is None else np.where(absent, 0, cells)
            log_prob, cache = group.family.log_prob_forward(filled, of_group, group.tensors(parameters))
            total = total + (log_prob if absent is None else np.where(absent, 0, log_prob)).sum(axis=-1)
            caches.append((cache, absent))
        return total.reshape(-1), (len(x), caches)

    def log_prob_backward(self, dlog_prob: Array, cache: Any, gradients: Mapping[str, Array] | None) -> Array:
        """dout (S·B, outputs) from dlog_prob (S·B,); writes the gradients of the families' tensors, if any. [D67]"""
        batch, caches = cache
        stacked, parts = dlog_prob.reshape(-1, batch, 1), []
        for group, (of_family, absent) in zip(self.groups, caches, strict=True):
            upstream = np.broadcast_to(stacked, (*stacked.shape[:2], len(group.columns)))
            dcells = upstream if absent is None else np.where(absent, 0, upstream)
            dout, own = group.family.log_prob_backward(dcells, of_family)
            # A cell that is not there may have made an infinity of its own, and 0 · ∞ is no zero.
            dout = dout if absent is None else np.where(absent[..., None], 0, dout)
            parts.append(dout.reshape(len(dlog_prob), -1))
            if gradients is not None:
                for name, gradient in own.items():
                    gradients[f"{group.prefix}.{name}"][...] = gradient
        return np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]

    def mean(self, parameters: Mapping[str, Array], out: Array) -> Array:
        """E[x|z] (M, D), or a category's likeliest level, from out (M, outputs)."""
        return self._by_column(out, lambda group, part: group.family.mean(part, group.tensors(parameters)))

    def draw(self, parameters: Mapping[str, Array], out: Array, randoms: Any) -> Array:
        """x ~ p(x|z) (M, D), from out (M, outputs) and one of NumPy's generators per row. [D6]"""
        x = np.empty((len(out), self.features), dtype=out.dtype)
        tensors = [group.tensors(parameters) for group in self.groups]
        for row, random in enumerate(randoms):
            for (group, part), own in zip(self._split(out[row]), tensors, strict=True):
                x[row, group.columns] = group.family.draw(part, own, random)
        return x

    def features_of(self, parameters: Mapping[str, Array], out: Array) -> list[Array]:
        """What is averaged over z to fill a cell, one array (..., C, F) per group, from out (..., outputs). [D71]"""
        return [group.family.features(part, group.tensors(parameters)) for group, part in self._split(out)]

    def told(self, features: list[Array]) -> tuple[Array, Array]:
        """Values and spreads (..., D) for missing cells from averaged features. [D71]"""
        shape = (*features[0].shape[:-2], self.features)
        values, spreads = np.empty(shape, features[0].dtype), np.empty(shape, features[0].dtype)
        for group, averaged in zip(self.groups, features, strict=True):
            values[..., group.columns], spreads[..., group.columns] = group.family.told(averaged)
        return values, spreads

    def error_of(self, features: list[Array], errors: list[Array]) -> Array:
        """The errors (..., D) of the values that `told` says, from those of averaged features. [D71]"""
        found = np.empty((*features[0].shape[:-2], self.features), features[0].dtype)
        for group, averaged, error in zip(self.groups, features, errors, strict=True):
            found[..., group.columns] = group.family.error(averaged, error)
        return found

    def check(self, x: Array, what: str) -> None:
        """Raise DataError, with the first such cell, where a family has no density for what is in its columns."""
        missing = _missing(x)
        for group in self.groups:
            cells = self._of(group, x)
            wrong = ~group.family.fits(cells)
            if missing is not None:
                wrong &= ~self._of(group, missing)
            if wrong.any():
                row, place = (int(index) for index in np.argwhere(wrong)[0])
                column = group.columns[place]
                name = f"column {self.names[column]!r}" if self.names else f"column {column} (counted from 0)"
                raise DataError(
                    f"{what}: {name} has {cells[row, place]:.6g} in row {row} (counted from 0), expected "
                    f"{group.family.expects()}"
                )

    def _of(self, group: Group, x: Array) -> Array:
        """A group's columns of x (B, D), without a copy where it has all."""
        return x if len(group.columns) == self.features else x[:, group.columns]

    def _split(self, out: Array) -> list[tuple[Group, Array]]:
        """The groups with their outputs, (..., C, outputs per column) each."""
        parts, start = [], 0
        for group in self.groups:
            count, each = len(group.columns), group.family.outputs
            part = out[..., start : start + count * each]
            parts.append((group, part.reshape(*out.shape[:-1], count, each)))
            start += count * each
        return parts

    def _by_column(self, out: Array, compute: Callable[[Group, Array], Array]) -> Array:
        x = np.empty((*out.shape[:-1], self.features), dtype=out.dtype)
        for group, part in self._split(out):
            x[..., group.columns] = compute(group, part)
        return x


def _missing(x: Array) -> Array | None:
    """Which cells are NaN, bool; None where none is."""
    if x.dtype.kind != "f":
        return None
    absent = np.isnan(x)
    return absent if absent.any() else None


def generators(rows: Array, *, seed: int, stream: int, sample: int = 0) -> list[np.random.Generator]:
    """One of NumPy's generators per row (N,), a function of row, seed, stream and sample alone. [D38]

    What takes an unknown number of random words, such as a gamma's draw, has one of them per row.
    """
    key = np.array([seed, stream + 256 * sample], dtype=np.uint64)
    return [
        np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, row, 0], dtype=np.uint64)))
        for row in rows
    ]
