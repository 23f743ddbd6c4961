"""Forward mode and second order: J(x) v and H(x) v, against the derivatives of f and of its gradient along v."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

import numpy as np

from vae_np._types import Array
from vae_np.errors import InputError
from vae_np.gradcheck import snippets, tree
from vae_np.gradcheck.check import check_grad
from vae_np.gradcheck.complex_step import STEP
from vae_np.gradcheck.differences import FIRST_STEP, Line, differentiate
from vae_np.gradcheck.findings import Check
from vae_np.gradcheck.judge import Evidence, judge
from vae_np.gradcheck.numeric import Numeric
from vae_np.gradcheck.one_tensor import View
from vae_np.gradcheck.options import Options, Settings, settings
from vae_np.gradcheck.places import unravel
from vae_np.gradcheck.report import Report
from vae_np.gradcheck.subject import CallError, Subject, flat, kind_of, make_subject

# How far the complex step may lie from the difference, as a share of the largest entry, beyond the difference's error.
TRUST = 1e-6
SYMMETRIC = 1e-6


def check_jvp(
    f: Callable[[Any], Any],
    jvp: Callable[[Any, Any], Any],
    x: Any,
    v: Any = None,
    **options: Unpack[Options],
) -> Report:
    """Check `jvp(x, v)` against the derivative of `f` at x along v, entry by entry of the output.

    `x` is an array, or a tuple, list or dictionary of arrays. `v` is a direction of the same structure; by default it
    is drawn from the seed. `jvp` returns what has the shape of f's result, and the check covers its linearity in v as
    well. `Options` describes the options. Raises InputError where v does not fit x.
    """
    chosen = settings(**options)
    name = chosen.name or getattr(f, "__name__", "f").replace("<lambda>", "f")
    text = chosen.snippet or snippets.for_call("check_jvp", (f, jvp), "x, v", dict(options))
    report = Report(name, chosen.seed, snippet=text)
    subject = make_subject(lambda point: (f(point), None), lambda *_: None, (x,), ["x"], ("f", "jvp"))
    direction = _direction(subject, x, v, chosen.seed)
    try:
        with np.errstate(all="ignore"):
            _compare(report, subject, direction, jvp, chosen)
            if report.rows:
                report.checks.append(_linear(subject, direction, jvp, chosen.seed))
    except CallError as error:
        report.checks.append(Check("call", False, str(error)))
        report.exception = error.cause
    finally:
        subject.randomness.rewind()
    return report


def check_hvp(
    grad: Callable[[Any], Any],
    hvp: Callable[[Any, Any], Any],
    x: Any,
    v: Any = None,
    *,
    f: Callable[[Any], Any] | None = None,
    **options: Unpack[Options],
) -> Report:
    """Check `hvp(x, v)` against the derivative of `grad` at x along v, and that the Hessian behind it is symmetric.

    `grad` and `hvp` return what has the structure of x. Where `f`, the function itself, is given, `grad` is checked
    first, and its report is the result if it is wrong. `x`, `v` and the options are those of `check_jvp`.
    """
    if f is not None:
        first = check_grad(f, grad, x, **options)
        if not first.passed:
            return first
    report = check_jvp(grad, hvp, x, v, **options)
    subject = make_subject(lambda point: (grad(point), None), lambda *_: None, (x,), ["x"], ("grad", "hvp"))
    seed = options.get("seed", 0)
    first_v, second_v = (_direction(subject, x, None, seed + k) for k in (1, 2))
    try:
        one, two = (flat(_called(hvp, subject, d)) for d in (first_v, second_v))
    except CallError:
        return report
    left, right = float(one @ _joined(second_v)), float(two @ _joined(first_v))
    size = float(np.linalg.norm(one) * np.linalg.norm(_joined(second_v)))
    good = abs(left - right) <= SYMMETRIC * max(size, abs(left), abs(right))
    detail = "" if good else f"u·Hv is {left:.6g} and v·Hu is {right:.6g}: a Hessian is symmetric"
    report.checks.append(Check("symmetric", good, detail))
    return report


def _direction(subject: Subject, x: Any, v: Any, seed: int) -> list[Array]:
    """Return the direction as one array for each floating leaf of x."""
    floats = [np.asarray(leaf) for leaf in subject.leaves if tree.is_number(leaf)]
    if not floats:
        raise InputError(f"x: got {kind_of(x)}, expected floating-point numbers")
    if v is None:
        rng = np.random.default_rng([seed, 0x6A7670])
        return [rng.standard_normal(leaf.shape).astype(leaf.dtype) for leaf in floats]
    given = [np.asarray(leaf, dtype=float) for _, leaf in tree.leaves(v)]
    if [g.shape for g in given] != [leaf.shape for leaf in floats]:
        shapes = ", ".join(str(g.shape) for g in given)
        raise InputError(f"v: got shapes {shapes}, expected those of x: {', '.join(str(f.shape) for f in floats)}")
    return given


def _at(subject: Subject, direction: list[Array], t: complex) -> list[Any]:
    """Return the leaves of x + t v."""
    steps = iter(direction)
    return [leaf + t * next(steps) if tree.is_number(leaf) else leaf for leaf in subject.leaves]


def _called(jvp: Callable[[Any, Any], Any], subject: Subject, direction: list[Array]) -> Any:
    steps = iter(direction)
    leaves = [next(steps) if tree.is_number(leaf) else leaf for leaf in subject.leaves]
    (x,) = tree.rebuild(subject.inputs, iter([tree.fresh(leaf) for leaf in subject.leaves]))
    (v,) = tree.rebuild(subject.inputs, iter(leaves))
    subject.randomness.rewind()
    try:
        return jvp(x, v)
    except Exception as error:
        raise CallError(f"jvp raised {type(error).__name__}: {error}", error) from error


def _joined(direction: list[Array]) -> Array:
    return np.concatenate([part.ravel() for part in direction])


def _compare(
    report: Report, subject: Subject, direction: list[Array], jvp: Callable[[Any, Any], Any], chosen: Settings
) -> None:
    out = subject.run()[0]
    base = flat(out).astype(np.float64)
    if not base.size or not np.isfinite(base).all():
        report.checks.append(Check("output of forward", False, "f is not finite at this point, or returns no numbers"))
        return
    shape = np.shape(out) if isinstance(out, np.ndarray) else base.shape
    analytic = flat(_called(jvp, subject, direction))
    known: dict[float, Array] = {}
    low = min(np.asarray(leaf).dtype.itemsize for leaf in subject.leaves if tree.is_number(leaf)) < 8

    def move(t: float) -> tuple[Array, float]:
        if t not in known:
            try:
                known[t] = subject.outputs(_at(subject, direction, t)).astype(np.float64)
            except CallError:
                known[t] = np.full(base.shape, np.nan)
        return known[t], t

    eps = 2.0**-23 if low else 2.0**-52
    size = float(np.sqrt(np.mean(np.square(_joined([np.asarray(v) for v in subject.leaves if tree.is_number(v)])))))
    longest = float(np.abs(_joined(direction)).max()) or 1.0
    first_step = FIRST_STEP[4 if low else 8] * (size or 1.0) / longest
    estimates = []
    for k in range(base.size):
        weights = np.zeros(base.size)
        weights[k] = 1.0
        touched = np.zeros(base.shape, bool)
        estimates.append(differentiate(Line(move, base, weights, np.zeros(base.shape), eps, first_step, touched)))
    values, errors = np.array([e.value for e in estimates]), np.array([e.error for e in estimates])
    sharp = None if low else _complex(subject, direction, values, errors)
    smooth = [k for k, e in enumerate(estimates) if e.kind == "smooth"]
    numeric = Numeric(
        indices=[unravel(k, shape) for k in smooth],
        values=values[smooth] if sharp is None else sharp[smooth],
        errors=errors[smooth] if sharp is None else np.zeros(len(smooth)),
        kinks=[(unravel(k, shape), e) for k, e in enumerate(estimates) if e.kind in ("kink", "jump")],
        unclear=[unravel(k, shape) for k, e in enumerate(estimates) if e.kind == "nonfinite"],
        projections=[],
        sharp=sharp is not None,
        exhaustive=True,
    )
    analytic = analytic.reshape(shape) if analytic.size == base.size else analytic
    view = View("J v", base.reshape(shape), lambda array: array, base, np.ones(base.shape), np.zeros(base.shape), eps)
    evidence = Evidence("J v", 0, base.reshape(shape), analytic, numeric)
    method = "central differences" if sharp is None else "complex step"
    report.rows.append(judge(view, evidence, chosen.tolerance, eps, lambda *_: 0.0, method, []))


def _complex(subject: Subject, direction: list[Array], values: Array, errors: Array) -> Array | None:
    """Return the complex step's values where they agree with the differences, or None where they cannot be trusted."""
    try:
        out = subject.outputs(_at(subject, direction, 1j * STEP))
    except CallError:
        return None
    if not np.iscomplexobj(out) or out.shape != values.shape:
        return None
    sharp = np.asarray(out.imag / STEP)
    slack = TRUST * max(float(np.abs(values).max(initial=0.0)), 1e-300) + 10 * errors
    return sharp if bool((np.abs(sharp - values) <= slack).all()) else None


def _linear(subject: Subject, direction: list[Array], jvp: Callable[[Any, Any], Any], seed: int) -> Check:
    other = _direction(subject, None, None, seed + 1)
    one, two = flat(_called(jvp, subject, direction)), flat(_called(jvp, subject, other))
    both = flat(_called(jvp, subject, [2 * a - 3 * b for a, b in zip(direction, other, strict=True)]))
    if not one.shape == two.shape == both.shape:
        return Check("linear in v", False, "its shape changes with v")
    gap = float(np.abs(both - 2 * one + 3 * two).max(initial=0.0))
    size = float(max(np.abs(one).max(initial=0.0), np.abs(two).max(initial=0.0)))
    eps = float(np.finfo(one.dtype).eps) if one.dtype.kind == "f" else 2.0**-52
    good = gap <= 10 * float(np.cbrt(eps)) * size
    return Check("linear in v", good, "" if good else "jvp is not linear in v")
