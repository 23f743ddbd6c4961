"""A pair in the one form, `out, cache = forward(*inputs)` and `grads = backward(dout, cache)`, and its rank.

The rank says how well the reading fits: its gradients agree with a difference, they have the right shapes, or it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck import tree
from vae_np.gradcheck.gradients import chosen, match
from vae_np.gradcheck.subject import CallError, Subject, flat, make_subject, upstream

# A reading fits where its gradient along a random direction agrees with the difference to this.
FITS = 1e-4
STEP, LOW_STEP = 1e-6, 1e-2


@dataclass(frozen=True)
class Reading:
    """A pair in the one form.

    `text` says how it was read, and is empty where it was written in that form. `linear` is False for a backward that
    takes no upstream gradient; it is the gradient of the sum of the outputs, or of their mean where `mean` is True.
    `eps` holds the machine epsilon of inputs whose dtype NumPy lacks, by their positions. `owned` lists the inputs with
    a gradient, where backward returns fewer than there are inputs. `caution` says what the reading took for granted.
    `instead` says what would make a wrong backward right although the names of its arguments say otherwise.
    """

    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[[Any, Any], Any]
    inputs: tuple[Any, ...]
    text: str = ""
    linear: bool = True
    mean: bool = False
    eps: dict[int, float] = field(default_factory=dict)
    owned: tuple[str, ...] = ()
    caution: str = ""
    instead: str = ""


def rank(reading: Reading, inputs: tuple[Any, ...], names: list[str], seed: int) -> int:
    """Return 0 where the reading fits the numbers, 1 where its gradients' shapes are right, 2 where it runs, else 3."""
    subject = make_subject(reading.forward, reading.backward, inputs, names, ("forward", "backward"))
    try:
        with np.errstate(all="ignore"):
            out, kept = subject.run([tree.fresh(leaf) for leaf in subject.leaves])
            weights = np.random.default_rng([seed, 7]).standard_normal(flat(out).shape)
            if not weights.size:
                return 3
            if not reading.linear:
                weights[:] = 1.0 / weights.size if reading.mean else 1.0
            raw = subject.pull_back(upstream(out, weights), kept)
            leaves = chosen(subject, None, scalars=False) or chosen(subject, None, scalars=True)
            gradients = {leaf: g.value for leaf, g in match(subject, raw, leaves).items()}
            came = {leaf: g for leaf, g in gradients.items() if g is not None}
            shaped = [leaf for leaf, g in came.items() if g.shape == np.shape(subject.leaves[leaf])]
            if not shaped or len(shaped) < len(came):
                return 2
            return 0 if _fits(subject, weights, came, seed) else 1
    except Exception:  # a function that is read wrongly may raise anything
        return 3
    finally:
        subject.randomness.rewind()


def of_the_mean(reading: Reading, inputs: tuple[Any, ...], names: list[str], seed: int) -> bool:
    """Tell whether a wrong gradient without an upstream one is nearer in size to that of the mean of the outputs."""
    subject = make_subject(reading.forward, reading.backward, inputs, names, ("forward", "backward"))
    try:
        with np.errstate(all="ignore"):
            out, kept = subject.run([tree.fresh(leaf) for leaf in subject.leaves])
            weights = np.ones(flat(out).shape)
            raw = subject.pull_back(upstream(out, weights), kept)
            found = match(subject, raw, chosen(subject, None, scalars=False)).items()
            pairs = [_along(subject, weights, leaf, g.value, seed)[:2] for leaf, g in found if g.value is not None]
    except Exception:  # as for the rank
        return False
    finally:
        subject.randomness.rewind()
    ratios = [abs(analytic / numeric) for numeric, analytic in pairs if numeric and analytic]
    return any(abs(math.log(r * weights.size)) < abs(math.log(r)) for r in ratios if math.isfinite(r))


def _fits(subject: Subject, weights: Array, gradients: dict[int, Array], seed: int) -> bool:
    """Compare the gradients along random directions of their tensors with central differences.

    In low precision the tolerance is so wide that a wrong gradient may fit along one direction, and seldom along three.
    """
    for leaf, gradient in gradients.items():
        low = np.asarray(subject.leaves[leaf]).dtype.itemsize < 8
        for direction in range(3 if low else 1):
            numeric, analytic, terms = _along(subject, weights, leaf, gradient, seed + direction)
            tolerance = (100 * FITS if low else FITS) * max(abs(numeric), abs(analytic), terms) + 1e-12
            if not abs(numeric - analytic) <= tolerance:
                return False
    return True


def _along(subject: Subject, weights: Array, leaf: int, gradient: Array, seed: int) -> tuple[float, float, float]:
    """Return the derivative along a tensor's random direction by a difference and by its gradient.

    Also returns the size of the gradient's terms, which may cancel.
    """
    x = np.asarray(subject.leaves[leaf])
    size = float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))) or 1.0
    direction = size * np.random.default_rng([seed, 8, leaf]).choice([-1.0, 1.0], x.shape)

    def difference(start: Sequence[Any], h: float) -> Array:
        def at(t: float) -> Array:
            leaves = list(start)
            moved = (x + t * direction).astype(np.asarray(leaves[leaf]).dtype)
            leaves[leaf] = moved if tree.is_array(leaves[leaf]) else moved[()]
            return subject.outputs(leaves)

        up, down = at(h), at(-h)
        if h == STEP and up.dtype.itemsize < 8:
            raise CallError("a step this small is lost in outputs of low precision")
        return (up.astype(np.float64) - down.astype(np.float64)) / (2 * h)

    # In low precision, noise would decide between two readings: the same values are moved in float64 where that runs.
    wide = [np.asarray(v).astype(np.float64)[()] if tree.is_number(v) else v for v in subject.leaves]
    try:
        slopes = difference(wide, STEP)
    except CallError:
        slopes = difference(subject.leaves, LOW_STEP)
    numeric = float(weights @ slopes)
    terms = gradient.astype(np.float64) * direction
    return numeric, float(terms.sum()), float(np.linalg.norm(terms))
