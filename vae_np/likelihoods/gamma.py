"""The logarithm of the gamma function, and of its ratios, for the densities of counts and of heavy tails. [D69]

NumPy has none, and SciPy, which has, is not needed for training. A ratio Γ(r + x) / Γ(r) is computed as such: the
difference of two logarithms loses all its digits where r is large.
"""

from __future__ import annotations

import numpy as np

from vae_np._types import Array

_HALF_LOG_2PI = 0.5 * float(np.log(2 * np.pi))
# Arguments are moved up by so many steps of Γ(a + 1) = a Γ(a), where Stirling's series has all digits of a double.
_STEPS = 10
# B_2n / (2n (2n − 1)), the coefficients of 1 / s^(2n − 1).
_SERIES = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)


def _remainder(s: Array) -> Array:
    """Stirling's series: log Γ(s) − (s − ½) log s + s − ½ log 2π, for s of at least `_STEPS`."""
    inverse = 1 / s
    square = inverse * inverse
    total = np.zeros_like(s)
    for coefficient in reversed(_SERIES):
        total = total * square + coefficient
    return total * inverse


def _remainder_slope(s: Array) -> Array:
    """The derivative of `_remainder`."""
    square = 1 / (s * s)
    total = np.zeros_like(s)
    for place in reversed(range(len(_SERIES))):
        total = total * square - (2 * place + 1) * _SERIES[place]
    return total * square


def log_gamma(a: Array) -> Array:
    """log Γ(a) for a > 0, elementwise. [D69]"""
    s = a + _STEPS
    total = (s - 0.5) * np.log(s) - s + _HALF_LOG_2PI + _remainder(s)
    for step in range(_STEPS):
        total = total - np.log(a + step)
    return total


def log_rising(r: Array, x: Array) -> Array:
    """log Γ(r + x) − log Γ(r) − x log r for r > 0, x ≥ 0, elementwise: of any size, and 0 for r → ∞. [D69]"""
    s = r + _STEPS
    total = (s + x - 0.5) * np.log1p(x / s) - x + x * np.log1p(_STEPS / r)
    total = total + _remainder(s + x) - _remainder(s)
    for step in range(_STEPS):
        total = total - np.log1p(x / (r + step))
    return total


def log_rising_slope(r: Array, x: Array) -> Array:
    """The derivative of `log_rising` in r, ψ(r + x) − ψ(r) − x / r. [D69]"""
    s = r + _STEPS
    total = np.log1p(x / s) - (s + x - 0.5) * x / (s * (s + x)) - x * _STEPS / (r * s)
    total = total + _remainder_slope(s + x) - _remainder_slope(s)
    for step in range(_STEPS):
        total = total + x / ((r + step) * (r + step + x))
    return total


def log_poisson_peak(x: Array) -> Array:
    """x log x − x − log x!, elementwise for whole x ≥ 0: log p(x) of a Poisson whose rate is x itself. [D69]

    Computed by Stirling's formula for x ≥ 1, in which x log x has been cancelled; 0 at x = 0.
    """
    positive = x > 0
    whole = np.where(positive, x, 1)
    s = whole + _STEPS
    # log Γ(x + 1) = log Γ(x + 10) − Σ log(x + i), i = 1, ..., 9.
    shift = (s - 0.5) * np.log1p(_STEPS / whole) - _STEPS + _HALF_LOG_2PI + _remainder(s)
    for step in range(1, _STEPS):
        shift = shift - np.log1p(step / whole)
    # (s − ½) log x of the first line, less the nine log x of the loop, is x log x + ½ log x.
    return np.where(positive, -(shift + 0.5 * np.log(whole)), 0)
