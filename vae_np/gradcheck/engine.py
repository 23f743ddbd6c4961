"""One check from start to end: the pair's promises, each tensor's numeric gradient, the verdicts and the diagnosis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck import budget, contracts, low_precision, rounding, sampling, taylor, tree
from vae_np.gradcheck.budget import Budget
from vae_np.gradcheck.complex_step import ComplexStepRefused
from vae_np.gradcheck.diagnosis import Setting, diagnose
from vae_np.gradcheck.findings import Check, Row
from vae_np.gradcheck.gradients import Gradient, match
from vae_np.gradcheck.judge import Evidence, judge, of_one_triangle
from vae_np.gradcheck.numeric import Numeric, numeric_gradient
from vae_np.gradcheck.one_tensor import View, random_direction
from vae_np.gradcheck.options import Settings
from vae_np.gradcheck.places import Index
from vae_np.gradcheck.report import Report
from vae_np.gradcheck.subject import CallError, Subject, flat, output_eps

# Entries whose complex step's own rounding is measured.
COMPLEX_ROUNDINGS = 8
# Calls that measuring the outputs' rounding takes, along each of its directions.
ROUNDING_CALLS = 7
# Keeps our random numbers apart from those that callers draw from the same seed.
STREAM = 0x67726164


@dataclass
class Engine:
    """The state of one check.

    `linear` is False for a scalar function, which has no upstream gradient. `compared` becomes True as soon as
    gradients have been compared.
    """

    subject: Subject
    leaves: list[int]
    settings: Settings
    linear: bool = True
    budget: Budget = field(default_factory=Budget)
    more: Callable[[Array], list[Check]] | None = None
    mean: bool = False
    weights: Array = field(default_factory=lambda: np.ones(1))
    eps: float = 0.0
    fresh_noise: list[str] = field(default_factory=list)
    compared: bool = False
    _base: Array = field(default_factory=lambda: np.zeros(0))
    _base_eps: float = 0.0
    _measured: Array | None = None
    _analytic_noise: dict[int, Array] | None = None

    def run(self, report: Report) -> Report:
        """Fill in the report, and leave the sources of random numbers in the state they were in before."""
        try:
            out = self._first_call(report)
            if out is None:
                return report
            checks, raw = contracts.check_unchanged(self.subject, self.weights, self.budget)
            self.add(report, *checks)
            if self.budget.allows(2):
                self.add(report, contracts.check_repeat_forward(self.subject))
                if not report.checks[-1].passed:
                    report.rows += [self._blank(i, "unclear", "forward is not repeatable") for i in self.leaves]
                    return report
            gradients = self._gradients(report, raw)
            if self.more is not None and self.budget.allows(8, 8):
                said = {check.promise for check in report.checks if check.promise and not check.passed}
                self.add(report, *(check for check in self.more(self.weights) if check.promise not in said))
            self.add(report, *contracts.broken_promises(gradients))
            self._rows(report, gradients, out)
            self.compared = True
        except CallError as error:
            report.checks.append(Check("call", False, str(error)))
            report.exception = error.cause
        finally:
            self.subject.randomness.rewind()
        return report

    def _first_call(self, report: Report) -> Any | None:
        """Call the pair once, on copies, and time it; return None where this ends the check.

        The inputs are copied because it is not known yet what the pair writes to.
        """
        started = budget.now()
        out, _ = self.subject.run([tree.fresh(leaf) for leaf in self.subject.leaves])
        finished = budget.now()
        values = flat(out)
        problem = self._output_problem(values)
        if problem:
            report.checks.append(Check("output of forward", False, problem))
            return None
        self.eps = max(output_eps(out), *(self._leaf_eps(i) for i in self.leaves), 0.0)
        self.weights = self._rng(0).standard_normal(values.shape) if self.linear else np.ones(values.shape)
        if self.mean:
            self.weights = self.weights / values.size
        if self.eps > 1e-10:
            self.weights = low_precision.quantised(self.weights, self.eps)
        self._base, self._base_eps = values.copy(), output_eps(out)
        self.budget.forward = finished - started
        return out

    def add(self, report: Report, *checks: Check) -> None:
        """Add checks, each as severe as the settings make it."""
        for check in checks:
            if not check.passed and check.promise in self.settings.allow:
                check = replace(check, passed=True, detail=f"allowed: {check.detail}")
            elif not check.passed and check.promise and not self.settings.strict:
                check = replace(check, warning=True)
            report.checks.append(check)

    def _rng(self, *key: int) -> np.random.Generator:
        """Return a generator with a stream of its own.

        With the seed alone, `dout` would repeat inputs that the caller drew from that seed. An upstream gradient equal
        to x makes x.T @ dout symmetric, so that a transposed gradient would pass.
        """
        return np.random.default_rng(np.random.SeedSequence(self.settings.seed, spawn_key=(STREAM, *key)))

    def _output_problem(self, values: Array) -> str:
        if not values.size:
            return "forward returns no floating-point output, so there is nothing to differentiate"
        if np.iscomplexobj(values):
            return "forward returns complex numbers for real inputs"
        bad = int((~np.isfinite(values)).sum())
        return f"{bad} of {values.size} outputs are not finite at this point" if bad else ""

    def _leaf_eps(self, leaf: int) -> float:
        own = float(np.finfo(np.asarray(self.subject.leaves[leaf]).dtype).eps)
        return max(own, self.subject.eps.get(leaf, 0.0))

    def _gradient(self, weights: Array, values: Sequence[Any] | None = None) -> dict[int, Gradient]:
        """Return the analytic gradients, or what one call adds to them where calls accumulate."""
        first = match(self.subject, self.subject.vjp(weights, values), self.leaves)
        if not self.subject.accumulates:
            return first
        return contracts.difference(
            self.subject, first, match(self.subject, self.subject.vjp(weights, values), self.leaves)
        )

    def _gradients(self, report: Report, raw: Any) -> dict[int, Gradient]:
        """Return the analytic gradients, and add checks of backward; `raw` is the result of its first call."""
        again = self.subject.mutates or not self.budget.dear
        gradients = match(self.subject, self.subject.vjp(self.weights) if again else raw, self.leaves)
        if self.budget.allows(3, 3):
            repeat, self.fresh_noise = contracts.check_repeat_backward(self.subject, self.weights, self.leaves)
            self.add(report, repeat)
            if self.subject.accumulates:
                gradients = self._gradient(self.weights)
        if self.linear and not self.fresh_noise and self.budget.allows(5, 5):
            linear = contracts.check_linear(self.subject, self._gradient, self.weights, self._rng(1), self.eps)
            self.add(report, linear)
            if linear.passed and self.budget.allows(2, 2):
                large = contracts.check_large(self.subject, self._gradient, self.weights, self.eps)
                self.add(report, *([large] if large is not None else []))
        return gradients

    def _rows(self, report: Report, gradients: dict[int, Gradient], out: Any) -> None:
        found: list[tuple[Row, Evidence, View]] = []
        with np.errstate(all="ignore"):
            promote, note = self._promotion(flat(out).astype(np.float64))
            for position, leaf in enumerate(self.leaves):
                if not np.asarray(self.subject.leaves[leaf]).size:
                    report.rows.append(self._blank(leaf, "skipped", "the tensor is empty"))
                    continue
                row, evidence, view = self._tensor(leaf, gradients[leaf], promote, note, len(self.leaves) - position)
                report.rows.append(row)
                found.append((row, evidence, view))
            for leaf, value in enumerate(self.subject.leaves):
                if tree.is_array(value) and not tree.is_number(value):
                    report.rows.append(self._blank(leaf, "skipped", f"{value.dtype} has no derivative"))
            setting = Setting(self.subject, self.weights, self.fresh_noise, report.checks, out, self.budget)
            failing = [(e, v) for row, e, v in found if row.verdict == "FAIL"]
            report.causes += diagnose(setting, failing, [(e, v) for _, e, v in found])
            if (
                self.budget.allows(taylor.CALLS)
                and not self.budget.dear
                and found
                and all(e.shaped or e.analytic is None for _, e, _ in found)
            ):
                report.taylor = taylor.verdict(
                    [f for f in found if f[1].shaped], self.subject, self.weights, self._rng(6), self._noise(promote)
                )

    def _blank(self, leaf: int, verdict: str, note: str) -> Row:
        value = np.asarray(self.subject.leaves[leaf])
        return Row(
            tensor=self.subject.names[leaf],
            shape=value.shape,
            dtype=str(value.dtype),
            method="",
            verdict=verdict,  # type: ignore[arg-type]
            notes=(note,),
        )

    def _promotion(self, values: Array) -> tuple[bool, str]:
        """Decide whether low-precision inputs may be differentiated on a float64 copy.

        They may where forward then answers in float64 with the same values. Otherwise differences are taken in the
        precision that was given. The note says which.
        """
        if self.eps < 1e-10:
            return False, ""
        try:
            out, _ = self.subject.run(self._promoted(self.subject.leaves))
        except CallError:
            return False, "forward refuses float64 inputs: differences in the given precision"
        wide = flat(out).astype(np.float64)
        if output_eps(out) > 1e-10 or wide.shape != values.shape:
            return False, "outputs are of low precision: differences in the given precision"
        gap = float(np.abs(wide - values).max())
        if not gap <= 2**12 * self.eps * max(float(np.abs(wide).max()), 1.0):
            return (
                False,
                f"forward answers differently in float64 (by {gap:.1e}): differences in the given precision",
            )
        return True, "numeric values from a float64 copy of the inputs"

    def _promoted(self, leaves: Sequence[Any]) -> list[Any]:
        return [np.asarray(v).astype(np.float64)[()] if tree.is_number(v) else v for v in leaves]

    def _view(self, leaf: int, leaves: Sequence[Any], promote: bool) -> View:
        """Return the view of one tensor at the given leaves, in float64 where `promote` says so."""
        values = self._promoted(leaves) if promote else list(leaves)
        scalar = not tree.is_array(values[leaf])

        def evaluate(array: Array) -> Array:
            return self.subject.outputs([*values[:leaf], array[()] if scalar else array, *values[leaf + 1 :]])

        if leaves is self.subject.leaves and not promote:
            base, eps = self._base, self._base_eps
        else:
            out, _ = self.subject.run(values)
            base, eps = flat(out), output_eps(out)
        x = np.asarray(values[leaf])
        eps = max(eps, float(np.finfo(x.dtype).eps))
        noise = self._noise(promote)
        return View(self.subject.names[leaf], x, evaluate, base, self.weights, noise, eps, self.budget)

    def _noise(self, promote: bool) -> Array:
        """Return the outputs' rounding errors, measured once."""
        if self._measured is None:
            leaves = self._promoted(self.subject.leaves) if promote else list(self.subject.leaves)
            try:
                self._measured = self._output_noise(leaves)
            except CallError:
                self._measured = np.zeros(self.weights.shape)
        return self._measured

    def _output_noise(self, leaves: list[Any]) -> Array:
        for ways, directions in (((False, True), rounding.DIRECTIONS), ((False,), 1)):
            if self.budget.calls > 10 * ROUNDING_CALLS * len(ways) * directions:
                return 3 * rounding.noise(self.subject.outputs, leaves, self.leaves, self._rng(4), directions, ways)
        return np.zeros(self.weights.shape)

    def _tensor(
        self, leaf: int, gradient: Gradient, promote: bool, note: str, share: int
    ) -> tuple[Row, Evidence, View]:
        """Return one tensor's row; `share` is the number of tensors that have to share the time that is left."""
        view = self._view(leaf, self.subject.leaves, promote)
        self.budget.reserved = (share - 1) * budget.FEWEST_CALLS
        rng = self._rng(2, leaf)
        work = view.base.size + sum(np.size(v) for v in self.subject.leaves if tree.is_number(v))
        sample = sampling.plan(view, gradient, self.settings, self.budget.calls / share, work, rng)
        indices = sample.indices
        directions = [random_direction(rng, view) for _ in range(sample.projections)]
        # In low precision the complex step would silently be one in double precision.
        numeric = numeric_gradient(view, indices, directions, self.settings.complex and view.eps < 1e-10)
        evidence = Evidence(
            self.subject.names[leaf],
            leaf,
            np.asarray(self.subject.leaves[leaf]),
            gradient.value,
            numeric,
            gradient.missing,
            gradient.data,
        )
        notes = [text for text in (note, sampling.blind_spot(numeric, self.settings, sample)) if text]

        def verdict() -> Row:
            return judge(
                view,
                evidence,
                self.settings.tolerance,
                self._precision(leaf, gradient),
                self._rounding,
                _method(numeric),
                notes,
            )

        row = verdict()
        if row.verdict == "FAIL" and (folded := of_one_triangle(evidence)) is not None:
            came, evidence.analytic = evidence.analytic, folded
            notes.append("forward reads one triangle of a symmetric matrix, and the gradient is the symmetric one")
            if (symmetric := verdict()).verdict != "FAIL":
                return symmetric, evidence, view
            notes.pop()
            evidence.analytic = came
            row = verdict()
        if row.verdict == "FAIL" and not numeric.exhaustive and not self.budget.over:
            sampling.look_closer(view, evidence, rng, self.budget.calls / (2 * share))
            row = verdict()
        if promote and evidence.shaped:
            row = self._in_low_precision(row, view, evidence, notes)
        return replace(row, blind=evidence.blind), evidence, view

    def _in_low_precision(self, low: Row, view: View, evidence: Evidence, notes: list[str]) -> Row:
        """Return the row with the verdict of its precision, or unchanged where the pair does not run in float64."""
        leaf = evidence.leaf
        dtype = "bfloat16" if leaf in self.subject.eps else str(evidence.x.dtype)
        leaves = self._promoted(self.subject.leaves)

        def gradient(at: Sequence[Any]) -> Array | None:
            found = self._gradient(self.weights, at)[leaf].value
            return None if found is None or found.shape != view.x.shape else found.astype(np.float64)

        try:
            truth = None if self.fresh_noise else gradient(leaves)
            if truth is None or not np.isfinite(truth).all() or evidence.analytic is None:
                return low
            moved = low_precision.sensitivity(gradient, leaves, self.eps, self._rng(7, leaf))
        except CallError:
            return low
        if moved is None:
            return low
        came, wrong = evidence.analytic, evidence.wrong
        evidence.analytic = truth
        wide = judge(view, evidence, self.settings.tolerance, view.eps, self._rounding, low.method, notes)
        if low_precision.is_wrong(wide, self.eps):
            return replace(wide, dtype=dtype, precision="wrong", notes=(*wide.notes, "wrong in float64 as well"))
        evidence.analytic, evidence.wrong = came, wrong
        return low_precision.verdict(low, came.astype(np.float64), truth, moved, self.eps, dtype)

    def _precision(self, leaf: int, gradient: Gradient) -> float:
        """Return the machine epsilon of what computed the analytic gradient."""
        array = gradient.value
        own = float(np.finfo(array.dtype).eps) if array is not None and tree.is_number(array) else 0.0
        return max(self.eps, self._leaf_eps(leaf), own)

    def _rounding(self, view: View, indices: list[Index]) -> float:
        """Return the largest rounding error of the two gradients at these entries, or zero where it is unknown."""
        leaf = self.subject.names.index(view.name)
        if self._analytic_noise is None:
            self._analytic_noise = self._measure_analytic(widened=self.eps > 1e-10 > view.eps)
        analytic = self._analytic_noise.get(leaf)
        largest = 0.0 if analytic is None else max(float(analytic[index]) for index in indices)
        count = min(len(indices), COMPLEX_ROUNDINGS)
        if view.eps > 1e-10 or not self.budget.allows(2 * ROUNDING_CALLS * (1 + count * self.budget.complex_calls)):
            return largest
        leaves = self._promoted(self.subject.leaves)

        def numeric(at: list[Any]) -> Array:
            shifted = self._view(leaf, at, promote=True)
            return np.array([shifted.complex_step(index) for index in indices[:count]])

        try:
            noise = rounding.noise(numeric, leaves, self.leaves, self._rng(5), directions=1)
        except (ComplexStepRefused, CallError):
            return largest
        return max(largest, float(noise.max()))

    def _measure_analytic(self, widened: bool) -> dict[int, Array]:
        """Return the rounding errors of what backward returns, for each tensor whose gradient has its shape.

        Where `widened` is True they are what running the pair in float64 changes, and sixth differences otherwise.
        """
        if self.fresh_noise or not self.budget.allows(28, 28):
            return {}  # a difference from call to call is not rounding
        shapes = {leaf: np.shape(self.subject.leaves[leaf]) for leaf in self.leaves}

        def gradients(at: list[Any]) -> Array:
            found = self._gradient(self.weights, at)
            return np.concatenate([_or_zeros(found[leaf], shape).ravel() for leaf, shape in shapes.items()])

        try:
            if widened:
                wide = gradients(self._promoted(self.subject.leaves))
                noise = np.abs(gradients(self.subject.leaves) - wide)
            else:
                noise = rounding.noise(gradients, self.subject.leaves, self.leaves, self._rng(3))
        except CallError:
            return {}
        ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
        parts = np.split(noise, ends[:-1])
        return {leaf: part.reshape(shape) for (leaf, shape), part in zip(shapes.items(), parts, strict=True)}


def _or_zeros(gradient: Gradient, shape: tuple[int, ...]) -> Array:
    good = gradient.value is not None and gradient.value.shape == shape
    return gradient.value.astype(np.float64) if good and gradient.value is not None else np.zeros(shape)


def _method(numeric: Numeric) -> str:
    way = "complex step" if numeric.sharp else "central differences"
    if numeric.exhaustive and not numeric.projections:
        return way
    directions, entries = len(numeric.projections), len(numeric.indices)
    counted = (f"{directions} projection{'s' * (directions != 1)}", f"{entries} entr{'y' if entries == 1 else 'ies'}")
    return f"{counted[0]} + {counted[1]}, {way}"
