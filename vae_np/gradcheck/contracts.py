"""What a forward/backward pair promises beside its derivative.

Calls repeat exactly, inputs and upstream gradient stay as they were, and backward is linear in the upstream
gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck import budget, tree
from vae_np.gradcheck.findings import Check
from vae_np.gradcheck.gradients import Gradient, match
from vae_np.gradcheck.subject import CallError, Subject, flat, output_eps, upstream

Gradients = dict[int, Gradient]
REPEAT_FORWARD = "repeated forward"
REPEAT_BACKWARD = "repeated backward"
UNCHANGED = "inputs unchanged"
LINEAR = "linear in the upstream gradient"
# Factors that bring gradients of usual size beyond a limit that somebody may have set. They are powers of two.
LARGE, LARGE_LOW = 2.0**20, 2.0**8


def check_unchanged(subject: Subject, weights: Array, spent: budget.Budget) -> tuple[list[Check], Any]:
    """Check that neither call writes into its arguments, and record in `subject.mutates` what was written to.

    The check also times both calls (a first call may have compiled), and returns what backward returned.
    """
    values = [tree.fresh(leaf) for leaf in subject.leaves]
    inputs: list[str] = []
    subject.mutates.clear()

    def compare(who: str) -> None:
        for name, value, before in zip(subject.names, values, subject.leaves, strict=True):
            if not tree.same(value, before) and name not in subject.mutates:
                subject.mutates.add(name)
                inputs.append(f"{who} changes its input {name} in place; work on a copy")

    started = budget.now()
    out, cache = subject.run(values)
    spent.forward = min(spent.forward, budget.now() - started)
    compare("forward")
    dout = upstream(out, weights)
    kept = tree.transform(dout, tree.fresh)
    started = budget.now()
    try:
        raw = subject.pull_back(dout, cache)
        spent.backward = budget.now() - started
    finally:
        compare("backward")
    pairs = zip(tree.leaves(dout), tree.leaves(kept), strict=True)
    checks = []
    if not all(tree.same(now, before) for (_, now), (_, before) in pairs):
        text = "backward changes the upstream gradient it is given in place; work on a copy"
        checks.append(Check(UNCHANGED, False, text, promise="inplace_dout"))
    if inputs:
        checks.append(Check(UNCHANGED, False, "; ".join(inputs), promise="inplace_input"))
    return checks or [Check(UNCHANGED, True)], raw


def check_repeat_forward(subject: Subject) -> Check:
    """Check that forward gives the same outputs twice for the same inputs."""
    first_out, _ = subject.run()
    first = flat(first_out).copy()
    second = subject.outputs()
    gap = _relative_gap(first, second)
    if first.shape == second.shape and gap <= 64 * output_eps(first_out):
        exact = np.array_equal(first, second, equal_nan=True)
        return Check(REPEAT_FORWARD, True, "" if exact else f"equal to {gap:.0e}, not bit for bit")
    detail = (
        f"two calls with the same inputs differ by {gap:.2g} although known sources of random numbers were set back; "
        "pass the noise (or its seed) as an input"
    )
    return Check(REPEAT_FORWARD, False, detail)


def check_repeat_backward(subject: Subject, weights: Array, leaves: list[int]) -> tuple[Check, list[str]]:
    """Check that backward gives the same gradients twice, and return the tensors whose gradients differ as well.

    Where each call adds the same amount, gradients accumulate, and `subject.accumulates` names those tensors.
    """
    first = match(subject, subject.vjp(weights), leaves)
    out, cache = subject.run()
    # A backward that keeps forward's noise is not affected, and one that draws anew gets other numbers.
    subject.randomness.disturb()
    second = match(subject, subject.pull_back(upstream(out, weights), cache), leaves)
    fresh = _differing(subject, first, second)
    if fresh:
        third = match(subject, subject.vjp(weights), leaves)
        growing = [name for name in fresh if _grows(subject, name, first, second, third)]
        if growing == fresh:
            subject.accumulates |= set(growing)
            return Check(REPEAT_BACKWARD, False, _accumulation(subject, growing, first, second), "accumulation"), []
        detail = f"two calls on the same inputs give different gradients for {', '.join(fresh)}"
        return Check(REPEAT_BACKWARD, False, detail), fresh
    try:
        again = match(subject, subject.pull_back(upstream(out, weights), cache), leaves)
    except CallError as error:
        return Check(REPEAT_BACKWARD, True, f"a second call on the same cache fails: {error}"), []
    used_up = _differing(subject, second, again)
    if used_up and all(_doubled(subject, name, second, again) for name in used_up):
        return Check(REPEAT_BACKWARD, False, _accumulation(subject, used_up, second, again), "accumulation"), []
    if used_up:
        note = f"backward writes into its cache: a second call on it changes {', '.join(used_up)}; work on a copy"
        return Check(REPEAT_BACKWARD, False, note, "cache"), []
    return Check(REPEAT_BACKWARD, True), []


def _grows(subject: Subject, name: str, *calls: Gradients) -> bool:
    """Tell whether three calls in a row add the same each time."""
    leaf = subject.names.index(name)
    found = [gradient.value for call in calls if (gradient := call[leaf]).value is not None]
    if len(found) != 3 or len({array.shape for array in found}) != 1:
        return False
    first, second, third = (np.asarray(array, dtype=np.float64) for array in found)
    added = np.abs(second - first).max(initial=0.0)
    return bool(added > 0 and np.abs(third - 2 * second + first).max() <= 1e-6 * max(added, np.abs(third).max() * 1e-6))


def _doubled(subject: Subject, name: str, first: Gradients, second: Gradients) -> bool:
    leaf = subject.names.index(name)
    before, after = first[leaf].value, second[leaf].value
    return before is not None and after is not None and _relative_gap(2 * before, after) <= 1e-6


def _accumulation(subject: Subject, names: list[str], first: Gradients, second: Gradients) -> str:
    twice = all(_doubled(subject, name, first, second) for name in names)
    what = "is twice the first" if twice else "adds to the first"
    return f"the second call {what} for {', '.join(names)}: gradients accumulate; set them to zero before each call"


def check_linear(
    subject: Subject,
    gradient: Callable[[Array], Gradients],
    weights: Array,
    rng: np.random.Generator,
    eps: float,
) -> Check:
    """Check G(0) = 0, G(-3 v) = -3 G(v) and G(v + w) = G(v) + G(w) to the cube root of the precision."""
    other = rng.standard_normal(weights.shape)
    parts = [gradient(w) for w in (weights, other, 0 * weights, -3 * weights, weights + other)]
    blame: list[str] = []
    for leaf in parts[0]:
        arrays = [value for part in parts if (value := part[leaf].value) is not None]
        alike = len(arrays) == len(parts) and len({array.shape for array in arrays}) == 1
        if alike and all(array.size and np.isfinite(array).all() for array in arrays):
            own = max(eps, *(float(np.finfo(array.dtype).eps) for array in arrays if tree.is_number(array)))
            # Gradients below this are rounding of terms as large as the upstream gradient.
            floor = 64 * own * float(np.abs(weights).max())
            blame += [f"{subject.names[leaf]} {fault}" for fault in _nonlinear(np.cbrt(own), floor, *arrays)]
    return Check(LINEAR, not blame, "; ".join(blame))


def check_large(subject: Subject, gradient: Callable[[Array], Gradients], weights: Array, eps: float) -> Check | None:
    """Check that the gradients grow with a very large upstream gradient, since a limit shows only there.

    The result is None where nothing is cut off, and where such an upstream gradient overflows.
    """
    factor = LARGE if eps < 1e-4 else LARGE_LOW
    here, there = gradient(weights), gradient(factor * weights)
    cut: list[str] = []
    for leaf, one in here.items():
        if one.value is None or (other := there[leaf].value) is None or one.value.shape != other.shape:
            continue
        due, came = factor * one.value.astype(np.float64), other.astype(np.float64)
        size = float(np.abs(due).max(initial=0.0))
        finite = bool(np.isfinite(due).all() and np.isfinite(came).all())
        if finite and (np.abs(came) < np.abs(due) - 10 * np.cbrt(eps) * size).any():
            cut.append(f"{subject.names[leaf]} stops at {float(np.abs(came).max()):.4g}")
    if not cut:
        return None
    text = (
        f"with an upstream gradient {factor:g} times as large, the gradient of {', that of '.join(cut)}: it is clipped"
    )
    return Check("large upstream gradients", False, text, promise="clipping")


def broken_promises(gradients: Gradients) -> list[Check]:
    """Return a warning for each promise that gradients break with values that can still be compared."""
    found: dict[str, list[str]] = {}
    for gradient in gradients.values():
        for promise, text in gradient.broken.items():
            found.setdefault(promise, []).append(text)
    return [Check(f"{promise} of gradients", False, "; ".join(t), promise=promise) for promise, t in found.items()]


def difference(subject: Subject, first: Gradients, second: Gradients) -> Gradients:
    """Return the gradients that one call adds, where calls accumulate, and the second call's where they do not."""
    return {
        leaf: Gradient(gradient.value - before, broken=gradient.broken)
        if subject.names[leaf] in subject.accumulates
        and gradient.value is not None
        and (before := first[leaf].value) is not None
        else gradient
        for leaf, gradient in second.items()
    }


def _nonlinear(
    tolerance: float, floor: float, v: Array, w: Array, zero: Array, scaled: Array, both: Array
) -> list[str]:
    """Return what is wrong with G(v), G(w), G(0), G(-3 v), G(v + w) as values of a linear function, if anything."""
    v, w, zero, scaled, both = (part.astype(np.float64) for part in (v, w, zero, scaled, both))
    limit = max(tolerance * max(float(np.abs(v).max()), float(np.abs(w).max())), floor)
    if np.abs(v).max() > limit >= np.abs(scaled - v).max():
        return ["does not change with the upstream gradient"]
    if np.abs(zero).max() > limit:
        return [f"is {np.abs(zero).max():.3g} for a zero upstream gradient"]
    if np.abs(scaled + 3 * v).max() > 4 * limit:
        return ["does not scale with the upstream gradient"]
    if np.abs(both - v - w).max() > 4 * limit:
        return ["is not additive in the upstream gradient"]
    return []


def _differing(subject: Subject, first: Gradients, second: Gradients) -> list[str]:
    names = []
    for leaf, gradient in first.items():
        a, b = gradient.value, second[leaf].value
        if a is None or b is None:
            continue
        eps = float(np.finfo(a.dtype).eps) if np.issubdtype(a.dtype, np.floating) else 0.0
        if a.shape != b.shape or not _relative_gap(a, b) <= 64 * eps:
            names.append(subject.names[leaf])
    return names


def _relative_gap(a: Array, b: Array) -> float:
    """Return max |a - b| / max |a|, where NaN equals NaN, or infinity where only one of the two is finite."""
    if a.shape != b.shape:
        return float("inf")
    if np.array_equal(a, b, equal_nan=True):
        return 0.0
    with np.errstate(all="ignore"):
        gap = float(np.nanmax(np.abs(a - b))) if np.isfinite(a).all() and np.isfinite(b).all() else float("inf")
        size = float(np.abs(a).max())
    return gap / size if size > 0 else float("inf")
