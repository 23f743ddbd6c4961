"""Numeric derivatives and the error measure of these tests, written apart from `vae_np.gradcheck` on purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.parameters import Parameters

# What every hand-written gradient has to meet, in float64.
FINITE_DIFFERENCE = 1e-6
COMPLEX_STEP = 1e-12


def central_difference(f: Callable[[Array], float], x: Array, h: float = 1e-5) -> Array:
    """The gradient of f at the float64 array x, one entry at a time: (f(x + h) − f(x − h)) / 2h."""
    x = x.copy()
    gradient = np.empty_like(x)
    for index, value in np.ndenumerate(x):
        x[index] = value + h
        above = f(x)
        x[index] = value - h
        below = f(x)
        x[index] = value
        gradient[index] = (above - below) / (2 * h)
    return gradient


def complex_step(f: Callable[[Array], complex], x: Array, h: float = 1e-30) -> Array:
    """The gradient of f at the float64 array x: Im f(x + ih) / h, which subtracts nothing and so loses nothing."""
    z = x.astype(complex)
    gradient = np.empty_like(x)
    for index, value in np.ndenumerate(x):
        z[index] = value + 1j * h
        gradient[index] = f(z).imag / h
        z[index] = value
    return gradient


def error(result: Array, reference: Array) -> float:
    """max|result − reference| / max|reference|: inf for other shapes and non-finite values; 0 has to be met exactly."""
    result, reference = np.asarray(result), np.asarray(reference)
    if result.shape != reference.shape or not (np.isfinite(result).all() and np.isfinite(reference).all()):
        return float("inf")
    worst, scale = np.abs(result - reference).max(), np.abs(reference).max()
    return float(worst / scale) if scale else (0.0 if worst == 0 else float("inf"))


def check_gradient(
    f: Callable[[Array], complex], x: Array, gradient: Array, *, differences: float = FINITE_DIFFERENCE
) -> None:
    """Hold `gradient` against both numeric derivatives of f at x; f takes real and complex arrays."""
    assert error(gradient, central_difference(lambda value: float(f(value).real), x)) < differences
    assert error(gradient, complex_step(f, x)) < COMPLEX_STEP


@dataclass
class Problem:
    """A small model with noise of its own: everything that the ELBO needs."""

    arch: Architecture
    parameters: Parameters
    x: Array
    eps: Array


def make_problem(arch: Architecture, *, batch: int, samples: int = 1, dtype: str = "float64", seed: int = 0) -> Problem:
    """Random parameters, biases included, x (B, D) that suits the likelihood, and eps (S·B, K)."""
    rng = np.random.default_rng([seed, arch.features, arch.latent, batch, samples])
    parameters = Parameters(arch.shapes(), dtype)
    for view in parameters.values():
        view[...] = rng.normal(0, 0.6, view.shape)
    if arch.likelihood == "bernoulli":
        x = rng.integers(0, 2, (batch, arch.features)).astype(np.uint8)
    elif arch.likelihood == "bernoulli-grey":
        x = rng.uniform(0, 1, (batch, arch.features)).astype(dtype)
    else:
        x = rng.normal(0, 1.5, (batch, arch.features)).astype(dtype)
    return Problem(arch, parameters, x, rng.normal(0, 1, (samples * batch, arch.noise_columns)).astype(dtype))


def sigmoid(logits: Array) -> Array:
    """1 / (1 + exp −l), straight from its definition: for moderate logits only."""
    return 1 / (1 + np.exp(-logits))


def as_read_only(values: Mapping[str, Array]) -> dict[str, Array]:
    """The same tensors, each a copy that refuses to be written to."""
    copies = {name: value.copy() for name, value in values.items()}
    for copy in copies.values():
        copy.flags.writeable = False
    return copies
