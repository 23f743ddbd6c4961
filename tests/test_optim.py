"""Optimisers against scalar recomputation and closed forms; the schedules.

Budget: about 0.5 s.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numeric import error

from vae_np.optim import STAGES, adagrad_update, adam_update, linear_warmup, stage_of, staged_epochs, staged_lr


def adam_of_one_number(
    start: float, gradients: list[float], lr: float, beta1: float, beta2: float, eps: float
) -> float:
    """Adam as Kingma and Ba's algorithm 1 prints it, in Python floats."""
    theta, m, v = start, 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        theta = theta - lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
    return theta


def run_adam(start: np.ndarray, gradients: np.ndarray, **options: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    parameters, first, second = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for step, gradient in enumerate(gradients, start=1):
        adam_update(parameters, gradient, first, second, step=step, **options)
    return parameters, first, second


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
        {"lr": 0.1, "beta1": 0.5, "beta2": 0.9, "eps": 1e-2},
        {"lr": 1e-4, "beta1": 0.0, "beta2": 0.999, "eps": 5e-6},
    ],
)
def test_adam_is_the_printed_algorithm(options: dict[str, float], rng: np.random.Generator) -> None:
    start, gradients = rng.normal(size=5), rng.normal(size=(50, 5)) * 10.0 ** np.arange(-4, 1)
    parameters, _, _ = run_adam(start, gradients, **options)
    expected = [adam_of_one_number(start[i], list(gradients[:, i]), **options) for i in range(5)]
    assert error(parameters, np.array(expected)) < 1e-13


def test_adams_first_step_is_lr_times_the_sign() -> None:
    """Bias correction makes m̂ = g and v̂ = g², so the first step is lr g / (|g| + eps), whatever the size of g."""
    gradient = np.array([1e-3, -1e-3, 5.0, -2e4, 0.0])
    parameters, _, _ = run_adam(np.zeros(5), gradient[None], lr=0.01, eps=1e-12)
    assert np.abs(parameters + 0.01 * np.sign(gradient)).max() < 1e-10


def test_adam_under_a_constant_gradient_keeps_its_stride() -> None:
    """m̂ = g and v̂ = g² at every step: without bias correction the early steps would be of another length."""
    gradient = np.array([0.3, -4.0])
    for steps in (1, 2, 10, 300):
        parameters, _, _ = run_adam(np.zeros(2), np.tile(gradient, (steps, 1)), lr=0.01, eps=0.0)
        assert error(parameters, -0.01 * steps * np.sign(gradient)) < 1e-12


def test_adams_moments_are_the_uncorrected_averages() -> None:
    gradient = np.array([2.0])
    _, first, second = run_adam(np.zeros(1), np.tile(gradient, (3, 1)), lr=0.01)
    assert abs(first[0] - 2 * (1 - 0.9**3)) < 1e-15
    assert abs(second[0] - 4 * (1 - 0.999**3)) < 1e-15


def test_adam_defaults() -> None:
    gradients = np.array([[0.5], [-1.0]])
    named = run_adam(np.ones(1), gradients, lr=0.1, beta1=0.9, beta2=0.999, eps=1e-8)
    assert all(np.array_equal(a, b) for a, b in zip(run_adam(np.ones(1), gradients, lr=0.1), named, strict=True))


@pytest.mark.parametrize("size", [1, 8191, 8192, 8193, 16384, 20001])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adam_does_not_care_where_its_chunks_end(size: int, dtype: str, rng: np.random.Generator) -> None:
    start, gradients = rng.normal(size=size).astype(dtype), rng.normal(size=(3, size)).astype(dtype)
    whole = run_adam(start, gradients, lr=0.1)
    assert all(array.dtype == dtype for array in whole)
    cuts = [0, size // 3, size // 2, size]
    for a, b in pairwise(cuts):
        part = run_adam(start[a:b], gradients[:, a:b], lr=0.1)
        assert all(np.array_equal(got, wanted[a:b]) for got, wanted in zip(part, whole, strict=True))
    assert (whole[0] != start).all()


def test_adam_reads_the_gradient_only() -> None:
    gradient = np.array([1.0, -1.0])
    gradient.flags.writeable = False
    parameters, _, _ = run_adam(np.zeros(2), gradient[None], lr=0.1)
    assert np.array_equal(np.sign(parameters), [-1, 1])


def test_adam_leaves_alone_what_has_no_gradient() -> None:
    parameters, first, second = run_adam(np.array([3.0, 0.0]), np.zeros((5, 2)), lr=0.1)
    assert np.array_equal(parameters, [3.0, 0.0])
    assert not first.any()
    assert not second.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_adam_lets_a_bad_gradient_show(bad: float) -> None:
    with np.errstate(invalid="ignore"):
        parameters, _, _ = run_adam(np.zeros(2), np.array([[bad, 1.0]]), lr=0.1)
    assert np.array_equal(np.isnan(parameters), [True, False])


def test_adam_minimises(rng: np.random.Generator) -> None:
    target = rng.normal(size=4)
    parameters, first, second = np.zeros(4), np.zeros(4), np.zeros(4)
    for step in range(1, 2001):
        adam_update(parameters, parameters - target, first, second, step=step, lr=0.01)
    assert np.abs(parameters - target).max() < 1e-3


def test_adagrad_is_its_closed_form(rng: np.random.Generator) -> None:
    start, gradients = rng.normal(size=5), rng.normal(size=(20, 5))
    parameters, squares = start.copy(), np.zeros(5)
    for gradient in gradients:
        adagrad_update(parameters, gradient, squares, lr=0.1, eps=1e-3)
    sums = np.cumsum(gradients**2, axis=0)
    assert error(squares, sums[-1]) < 1e-14
    assert error(parameters, start - 0.1 * (gradients / (np.sqrt(sums) + 1e-3)).sum(axis=0)) < 1e-13


def test_adagrad_starts_with_lr_times_the_sign_and_leaves_zeros_alone() -> None:
    parameters: Any = np.zeros(3)
    adagrad_update(parameters, np.array([1e-3, -50.0, 0.0]), np.zeros(3), lr=0.1)
    assert np.abs(parameters - [-0.1, 0.1, 0]).max() < 1e-7


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_adagrad_keeps_the_precision(dtype: str) -> None:
    parameters, squares = np.zeros(3, dtype=dtype), np.zeros(3, dtype=dtype)
    adagrad_update(parameters, np.ones(3, dtype=dtype), squares, lr=0.1)
    assert (parameters.dtype, squares.dtype) == (dtype, dtype)


def test_linear_warmup_goes_straight_from_zero_to_final_and_stays() -> None:
    assert [linear_warmup(step, steps=4, final=2.0) for step in range(7)] == [0, 0.5, 1, 1.5, 2, 2, 2]


def test_no_warmup_is_final_at_once() -> None:
    assert linear_warmup(0, steps=0, final=0.7) == 0.7
    assert linear_warmup(5, steps=0, final=0.0) == 0.0


def test_stages_have_three_times_the_epochs_of_the_one_before() -> None:
    assert [staged_epochs(n) for n in range(STAGES + 1)] == [0, 1, 4, 13, 40, 121, 364, 1093, 3280]
    first_and_last = [(staged_epochs(n - 1), staged_epochs(n) - 1) for n in range(1, STAGES + 1)]
    assert [(stage_of(first), stage_of(last)) for first, last in first_and_last] == [(n, n) for n in range(1, 9)]


def test_the_rate_falls_from_stage_to_stage_to_a_tenth() -> None:
    rates = [staged_lr(staged_epochs(n), first=1e-3) for n in range(STAGES)]
    assert rates == pytest.approx([1e-3, 7.2e-4, 5.2e-4, 3.7e-4, 2.7e-4, 1.9e-4, 1.4e-4, 1e-4], rel=1e-14)
    assert staged_lr(120, first=0.5) == staged_lr(40, first=0.5) == pytest.approx(0.135)
