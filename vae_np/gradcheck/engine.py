"""One check from start to end: the pair's promises, each tensor's numeric gradient, the verdicts, the diagnosis."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.gradcheck import contracts, rounding, tree
from vae_np.gradcheck.complexstep import ComplexStepRefused
from vae_np.gradcheck.diagnosis import Setting, diagnose
from vae_np.gradcheck.gradients import Gradient, match
from vae_np.gradcheck.judge import Evidence, Tolerance, judge
from vae_np.gradcheck.numeric import (
    Index,
    Numeric,
    View,
    locate,
    numeric_gradient,
    random_direction,
    unravel,
)
from vae_np.gradcheck.report import Check, Report, Row
from vae_np.gradcheck.subject import CallError, Subject, flat, output_eps

# Forward passes that one entry costs, roughly: six for the differences, one for the complex step.
PASSES_PER_ENTRY = 7
# Numbers that all passes of one tensor may read and write before it is sampled instead.
WORK = 3e7
SAMPLE = 24
MORE_AFTER_FAILURE = 48
# Entries whose complex step's own rounding is measured.
COMPLEX_ROUNDINGS = 8
# Keeps our random numbers apart from those that callers draw from the same seed.
STREAM = 0x67726164


@dataclass(frozen=True)
class Plan:
    """How the numeric gradient is taken; see `check_vjp` for the meaning of each."""

    methods: frozenset[str]
    max_entries: int
    projections: int
    seconds: float | None

    @property
    def complex(self) -> bool:
        return bool(self.methods & {"auto", "complex"}) or self.methods == {"projection"}


@dataclass
class Engine:
    """The state of one check. `linear` is False for a scalar function, which has no upstream gradient."""

    subject: Subject
    leaves: list[int]
    plan: Plan
    tolerance: Tolerance
    seed: int
    linear: bool = True
    weights: Array = field(default_factory=lambda: np.ones(1))
    eps: float = 0.0
    pass_seconds: float = 0.0
    fresh_noise: list[str] = field(default_factory=list)
    _measured: Array | None = None
    _analytic_noise: dict[int, Array] | None = None

    def run(self, report: Report) -> Report:
        """Fill in the report."""
        subject = self.subject
        try:
            started = time.perf_counter()
            # On copies: what the pair writes to is not known yet.
            out, _ = subject.run([tree.fresh(leaf) for leaf in subject.leaves])
            self.pass_seconds = time.perf_counter() - started
            values = flat(out).astype(np.complex128 if np.iscomplexobj(flat(out)) else np.float64)
            problem = self._output_problem(values)
            if problem:
                report.checks.append(Check("output of forward", False, problem))
                return report
            self.eps = max(output_eps(out), *(self._leaf_eps(i) for i in self.leaves), 0.0)
            if self.linear:
                self.weights = self._rng(0).standard_normal(values.shape)
            report.checks.append(contracts.check_unchanged(subject, self.weights))
            report.checks.append(contracts.check_repeat_forward(subject))
            if not report.checks[-1].passed:
                report.rows += [self._blank(i, "unclear", "forward is not repeatable") for i in self.leaves]
                return report
            gradients = self._gradients(report)
            self._rows(report, gradients, out, values)
        except CallError as error:
            report.checks.append(Check("call", False, str(error)))
            report.exception = error.cause
        return report

    def _rng(self, *key: int) -> np.random.Generator:
        """Return a generator of its own: with the seed alone, `dout` would repeat inputs drawn from that seed.

        An upstream gradient equal to x makes x.T @ dout symmetric, and a transposed gradient pass.
        """
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(STREAM, *key)))

    def _output_problem(self, values: Array) -> str:
        if not values.size:
            return "forward returns no floating-point output, so there is nothing to differentiate"
        if np.iscomplexobj(values):
            return "forward returns complex numbers for real inputs"
        bad = int((~np.isfinite(values)).sum())
        return f"{bad} of {values.size} outputs are not finite at this point" if bad else ""

    def _leaf_eps(self, leaf: int) -> float:
        return float(np.finfo(np.asarray(self.subject.leaves[leaf]).dtype).eps)

    def _gradients(self, report: Report) -> dict[int, Gradient]:
        gradients = match(self.subject, self.subject.vjp(self.weights), self.leaves)
        repeat, self.fresh_noise = contracts.check_repeat_backward(self.subject, self.weights, self.leaves)
        report.checks.append(repeat)
        if self.linear and repeat.passed:
            rng = self._rng(1)

            def gradient(weights: Array) -> dict[int, Gradient]:
                return match(self.subject, self.subject.vjp(weights), self.leaves)

            report.checks.append(contracts.check_linear(self.subject, gradient, self.weights, rng, self.eps))
        return gradients

    def _rows(self, report: Report, gradients: dict[int, Gradient], out: Any, values: Array) -> None:
        found = []
        with np.errstate(all="ignore"):
            promote, note = self._promotion(values)
            for leaf in self.leaves:
                if not np.asarray(self.subject.leaves[leaf]).size:
                    report.rows.append(self._blank(leaf, "skipped", "the tensor is empty"))
                    continue
                row, evidence, view = self._tensor(leaf, gradients[leaf], promote, note)
                report.rows.append(row)
                found.append((row, evidence, view))
            for leaf, value in enumerate(self.subject.leaves):
                if tree.is_array(value) and not tree.is_number(value):
                    report.rows.append(self._blank(leaf, "skipped", f"{value.dtype} has no derivative"))
            setting = Setting(self.subject, self.weights, self.fresh_noise, report.checks, out)
            report.causes += diagnose(
                setting,
                [(e, v) for row, e, v in found if row.verdict == "FAIL"],
                [(e, v) for _, e, v in found],
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

        They may where forward then answers in float64 with the same values; otherwise differences are taken in the
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

        out, _ = self.subject.run(values)
        x = np.asarray(values[leaf])
        eps = max(output_eps(out), float(np.finfo(x.dtype).eps))
        return View(self.subject.names[leaf], x, evaluate, flat(out), self.weights, self._noise(promote), eps)

    def _noise(self, promote: bool) -> Array:
        """Return the outputs' rounding errors, measured once."""
        if self._measured is None:
            leaves = self._promoted(self.subject.leaves) if promote else list(self.subject.leaves)
            try:
                self._measured = 3 * rounding.noise(self.subject.outputs, leaves, self.leaves, self._rng(4))
            except CallError:
                self._measured = np.zeros(self.weights.shape)
        return self._measured

    def _tensor(self, leaf: int, gradient: Gradient, promote: bool, note: str) -> tuple[Row, Evidence, View]:
        view = self._view(leaf, self.subject.leaves, promote)
        rng = self._rng(2, leaf)
        indices = self._indices(view, gradient, rng)
        directions = []
        if len(indices) < view.x.size or "projection" in self.plan.methods:
            directions = [random_direction(rng, view) for _ in range(self.plan.projections)]
        # In low precision the complex step would silently be one in double precision.
        numeric = numeric_gradient(view, indices, directions, self.plan.complex and view.eps < 1e-10)
        evidence = Evidence(
            self.subject.names[leaf],
            leaf,
            np.asarray(self.subject.leaves[leaf]),
            gradient.value,
            numeric,
            gradient.missing,
        )
        notes = [note] if note else []

        def verdict() -> Row:
            return judge(
                view,
                evidence,
                self.tolerance,
                self._precision(leaf, gradient),
                self._rounding,
                _method(numeric),
                notes,
            )

        row = verdict()
        if row.verdict == "FAIL" and not numeric.exhaustive:
            self._look_closer(view, evidence, rng)
            row = verdict()
        return row, evidence, view

    def _precision(self, leaf: int, gradient: Gradient) -> float:
        """Return the machine epsilon of what computed the analytic gradient."""
        array = gradient.value
        own = float(np.finfo(array.dtype).eps) if array is not None and tree.is_number(array) else 0.0
        return max(self.eps, self._leaf_eps(leaf), own)

    def _indices(self, view: View, gradient: Gradient, rng: np.random.Generator) -> list[Index]:
        """Return all entries, or for a tensor too large for that a sample with both ends and the largest gradient."""
        size = view.x.size
        forced = bool(self.plan.methods & {"complex", "central"}) and "projection" not in self.plan.methods
        affordable = size
        if self.plan.seconds is not None and self.pass_seconds > 0:
            share = self.plan.seconds / max(len(self.leaves), 1)
            affordable = int(share / (PASSES_PER_ENTRY * self.pass_seconds))
        work = size * (view.base.size + sum(np.size(v) for v in self.subject.leaves if tree.is_number(v)))
        small = size <= self.plan.max_entries and (work <= WORK or size <= SAMPLE)
        everything = small and self.plan.methods != {"projection"}
        if (forced or everything) and size <= max(affordable, SAMPLE // 2):
            return [unravel(i, view.x.shape) for i in range(size)]
        count = min(size, max(4, min(SAMPLE, affordable)))
        picked = [0, size - 1]
        if gradient.value is not None and gradient.value.shape == view.x.shape and np.isfinite(gradient.value).all():
            picked.append(int(np.argmax(np.abs(gradient.value))))
        picked += rng.choice(size, count, replace=False).tolist()
        return [unravel(i, view.x.shape) for i in list(dict.fromkeys(picked))[: max(count, 3)]]

    def _look_closer(self, view: View, evidence: Evidence, rng: np.random.Generator) -> None:
        """Add entries to a sample that failed: the one the projections lead to, its row and column, and others."""
        numeric = evidence.numeric
        known = {*numeric.indices, *(index for index, _ in numeric.kinks), *numeric.unclear}
        more: list[Index] = []
        if evidence.shaped and evidence.analytic is not None and numeric.projections:
            analytic = evidence.analytic.astype(np.float64)
            more.append(locate(view, numeric.projections[0].direction, analytic, numeric.sharp))
        size = view.x.size
        ends = [0, size - 1, *rng.choice(size, min(size, MORE_AFTER_FAILURE), replace=False).tolist()]
        if view.x.ndim:
            columns = view.x.shape[-1]
            ends += [*range(min(columns, 8)), *range(0, size, columns)[:8]]
        more += [unravel(i, view.x.shape) for i in ends]
        extra = numeric_gradient(view, [i for i in dict.fromkeys(more) if i not in known], [], numeric.sharp)
        numeric.indices += extra.indices
        numeric.values = np.concatenate([numeric.values, extra.values])
        numeric.errors = np.concatenate([numeric.errors, extra.errors])
        numeric.kinks += extra.kinks
        numeric.unclear += extra.unclear

    def _rounding(self, view: View, indices: list[Index]) -> float:
        """Return the largest rounding error of the two gradients at these entries; zero where it can't be measured."""
        leaf = self.subject.names.index(view.name)
        if self._analytic_noise is None:
            self._analytic_noise = self._measure_analytic(widened=self.eps > 1e-10 > view.eps)
        analytic = self._analytic_noise.get(leaf)
        largest = 0.0 if analytic is None else max(float(analytic[index]) for index in indices)
        if view.eps > 1e-10:
            return largest
        leaves = self._promoted(self.subject.leaves)

        def numeric(at: list[Any]) -> Array:
            shifted = self._view(leaf, at, promote=True)
            return np.array([shifted.complex_step(index) for index in indices[:COMPLEX_ROUNDINGS]])

        try:
            noise = rounding.noise(numeric, leaves, self.leaves, self._rng(5), directions=1)
        except (ComplexStepRefused, CallError):
            return largest
        return max(largest, float(noise.max()))

    def _measure_analytic(self, widened: bool) -> dict[int, Array]:
        """Return the rounding errors of what backward returns, for each tensor whose gradient has its shape.

        widened: take what running the pair in float64 changes, instead of sixth differences.
        """
        if self.fresh_noise:
            return {}  # what differs from call to call is no rounding
        shapes = {leaf: np.shape(self.subject.leaves[leaf]) for leaf in self.leaves}

        def gradients(at: list[Any]) -> Array:
            found = match(self.subject, self.subject.vjp(self.weights, at), self.leaves)
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
    return f"{len(numeric.projections)} projections + {len(numeric.indices)} entries, {way}"
