"""Run the catalogue and the closed forms, and collect one row per check."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from vae_np import backends, ops
from vae_np._types import Array
from vae_np.gradcheck import Report, check_grad, check_vjp
from vae_np.verify import against_autodiff, catalogue
from vae_np.verify.catalogue import Pair, Scalar
from vae_np.verify.closed_forms import CLOSED_FORMS, Exact

# What a complex step must reach where the function is smooth, and what two float64 implementations of one gradient
# may differ by.
SMOOTH_RTOL = 1e-12
AUTODIFF_RTOL = 1e-10
_FULL_SEEDS = 3


@dataclass(frozen=True)
class Row:
    """One check: its name, the backend, how it was checked, the largest relative error, the verdict, what was wrong."""

    name: str
    backend: str
    method: str
    max_rel_error: float
    passed: bool
    detail: str = ""

    def as_dict(self) -> dict[str, object]:
        """The row as it stands in the JSON."""
        return {
            "name": self.name,
            "backend": self.backend,
            "method": self.method,
            "max_rel_error": self.max_rel_error,
            "passed": self.passed,
            "detail": self.detail,
        }


def rows(*, seed: int = 0, full: bool = False, library: str | None = None) -> Iterator[Row]:
    """Yield every check of the package as it is made; `library` adds the same gradients by automatic differentiation.

    `full` checks all combinations: more depths, and each pair at several random points.
    """
    if library is not None:
        against_autodiff.check_present(library)
    seeds = range(seed, seed + (_FULL_SEEDS if full else 1))
    for point in seeds:
        of_numpy = catalogue.layer_pairs, catalogue.distribution_pairs, catalogue.likelihood_pairs
        for pair in (pair for pairs in of_numpy for pair in pairs(point)):
            yield _pair_row(pair, "numpy", point)
    for name in backends.present():
        backend = backends.choose(name).ops
        for point in seeds:
            composed = (
                *catalogue.posterior_pairs(backend, point),
                *catalogue.layer_above_pairs(backend, point),
                *catalogue.prior_pairs(backend, point),
            )
            for pair in (*catalogue.operation_pairs(backend, point), *composed):
                yield _pair_row(pair, name, point)
            yield from _parity_rows(backend, name, point)
        for scalar in catalogue.models(backend, seed, full=full):
            yield _scalar_row(scalar, name, seed)
        for form in CLOSED_FORMS:
            yield _closed_form_row(form, backend, name, seed)
    if library is not None:
        yield from _autodiff_rows(library, seed)


def _methods(backend: str) -> str:
    # A kernel takes no complex numbers; random projections cost the same whatever its size.
    return "auto" if backend == "numpy" else "projection"


def _pair_row(pair: Pair, backend: str, seed: int) -> Row:
    report = check_vjp(
        pair.forward,
        pair.backward,
        pair.inputs,
        names=pair.names,
        wrt=pair.wrt,
        methods=_methods(backend),
        seed=seed,
        name=pair.name,
        strict=True,
    )
    return _report_row(report, pair.smooth, backend)


def _scalar_row(scalar: Scalar, backend: str, seed: int) -> Row:
    report = check_grad(
        scalar.loss, scalar.gradient, scalar.point, methods=_methods(backend), seed=seed, name=scalar.name
    )
    return _report_row(report, scalar.smooth, backend)


def _report_row(report: Report, smooth: bool, backend: str) -> Row:
    passed = report.passed
    detail = "" if passed else str(report)
    if passed and smooth and backend == "numpy" and not report.max_error <= SMOOTH_RTOL:
        passed, detail = False, f"smooth, so the error must be at most {SMOOTH_RTOL:g}\n{report}"
    # A report names the method of each tensor. For a kernel, the row names the method that was asked for.
    method = report.method if backend == "numpy" else _methods(backend)
    return Row(report.name, backend, method, report.max_error, passed, detail)


def _closed_form_row(form: Callable[[ModuleType, int], Exact], backend: ModuleType, name: str, seed: int) -> Row:
    return _computed(form.__name__.replace("_", " "), name, "closed form", partial(form, backend, seed))


def _parity_rows(backend: ModuleType, name: str, seed: int) -> Iterator[Row]:
    """Each operation of another backend, forward and backward, against the reference in float64."""
    if backend is ops:
        return
    for ours, theirs in zip(
        catalogue.operation_pairs(ops, seed), catalogue.operation_pairs(backend, seed), strict=True
    ):
        both = partial(_outputs_of_both, theirs, ours, seed)
        yield _computed(f"{ours.name}, as the reference", name, "compare", both)


def _outputs_of_both(theirs: Pair, ours: Pair, seed: int) -> Exact:
    return _all_outputs(theirs, seed), _all_outputs(ours, seed), SMOOTH_RTOL


def _all_outputs(pair: Pair, seed: int) -> Array:
    out, cache = pair.forward(*pair.inputs)
    parts = out if isinstance(out, tuple) else (out,)
    rng = np.random.default_rng(seed)
    upstream = tuple(rng.standard_normal(part.shape) for part in parts)
    grads = pair.backward(upstream if isinstance(out, tuple) else upstream[0], cache)
    grads = grads if isinstance(grads, tuple) else (grads,)
    return np.concatenate([np.ravel(part) for part in (*parts, *grads) if part is not None])


def _autodiff_rows(library: str, seed: int) -> Iterator[Row]:
    for arch in against_autodiff.ARCHITECTURES:
        for what in catalogue.losses_of(arch):
            ours = catalogue.loss_of(ops, arch, what, seed)
            theirs = against_autodiff.gradients(library, arch, what, seed, beta=0.7)
            for tensor, gradient in ours.gradient(ours.point).items():
                name = f"{ours.name}: {tensor}"
                yield _compared(name, "numpy", f"autodiff ({library})", gradient, theirs[tensor], AUTODIFF_RTOL)


def _computed(name: str, backend: str, method: str, sides: Callable[[], Exact]) -> Row:
    """Compare the (value, exact, tolerance) that `sides` returns; an exception fails this row, not the rest."""
    try:
        value, exact, tolerance = sides()
    except Exception as error:
        return Row(name, backend, method, float("nan"), False, f"raised {type(error).__name__}: {error}")
    return _compared(name, backend, method, value, exact, tolerance)


def _compared(name: str, backend: str, method: str, value: Any, exact: Any, tolerance: float) -> Row:
    value, exact = np.asarray(value, dtype=np.float64), np.asarray(exact, dtype=np.float64)
    if value.shape != exact.shape:
        detail = f"shape {value.shape}, expected {exact.shape}"
        return Row(name, backend, method, float("nan"), False, detail)
    size = float(np.abs(exact).max())
    difference = float(np.abs(value - exact).max())
    # Where the exact answer is zero everywhere, only zeros are right.
    error = difference / size if size else (difference and math.inf)
    # NaN fails, since no comparison with it is true.
    passed = error <= tolerance
    worst = np.unravel_index(np.argmax(np.abs(value - exact)), exact.shape) if exact.ndim else ()
    detail = "" if passed else f"at {tuple(map(int, worst))}: {value[worst]!r}, expected {exact[worst]!r}"
    return Row(name, backend, method, error, passed, detail)
