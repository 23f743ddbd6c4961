"""The polynomial functions within the bounds that their table states, over all of their arguments.

Budget: about 5 s, most of it compilation; the whole table again, densely, behind `slow` (about 30 s).
"""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import pytest

from vae_np import backends

if backends.missing("numba") is not None:
    pytest.skip(str(backends.missing("numba")), allow_module_level=True)

import numba

from vae_np.kernels.cpu.engine import functions

NAMES = ("exp", "expm1", "log1p_unit", "tanh", "softplus", "sigmoid")
# Extended precision where the platform has it; without it the reference itself is half a unit off.
WIDE = np.longdouble
HAS_WIDE = np.finfo(np.longdouble).nmant > 60


def bounds(dtype: Any) -> dict[str, float]:
    """The row of the module's table for a precision: function → units in the last place."""
    row = re.search(rf"^ *{np.dtype(dtype).name} +(.*)$", str(functions.__doc__), re.MULTILINE)
    assert row is not None
    return dict(zip(NAMES, map(float, row[1].split()), strict=True))


@functools.cache
def compiled(name: str) -> Any:
    """The function over an array, compiled as the kernels are, once for all tests."""
    function = getattr(functions, name)

    @numba.njit(error_model="numpy")
    def over(x: Any, out: Any) -> None:
        for i in range(x.size):
            out[i] = function(x[i])

    return over


def exact(name: str, x: Any) -> Any:
    """The function in a precision wide enough to be the truth."""
    wide = x.astype(np.float64 if x.dtype == np.float32 else WIDE)
    one = wide.dtype.type(1)
    with np.errstate(all="ignore"):
        if name == "log1p_unit":
            return np.log1p(wide)
        if name == "softplus":
            return np.where(wide > 0, wide, 0 * one) + np.log1p(np.exp(-abs(wide)))
        if name == "sigmoid":
            small = np.exp(-abs(wide))
            return np.where(wide > 0, one, small) / (one + small)
        return getattr(np, name)(wide)


def single_precision(name: str, stride: int) -> Any:
    """Every `stride`-th float32 number, of either sign, or of those in [0, 1]."""
    if name == "log1p_unit":
        return np.arange(0, 0x3F800001, stride, dtype=np.uint32).view(np.float32)
    halves = [np.arange(low, low + 0x7F800000, stride, dtype=np.uint32) for low in (0, 0x80000000)]
    return np.concatenate(halves).view(np.float32)


def double_precision(name: str, count: int) -> Any:
    """`count` float64 numbers: where the function bends, where it saturates, and of all sizes."""
    rng = np.random.default_rng(0)
    part = count // 4
    if name == "log1p_unit":
        return np.concatenate([rng.random(3 * part), 10 ** -rng.uniform(0, 20, part)])
    of_all_sizes = rng.choice([-1, 1], part) * 10.0 ** rng.uniform(-300, 2.8, part)
    return np.concatenate([rng.uniform(*ends, part) for ends in ((-745, 709.7), (-3, 3), (-40, 40))] + [of_all_sizes])


def largest_error(name: str, x: Any) -> float:
    """In units in the last place of the truth; those of the denormal numbers count as the smallest normal one's."""
    found, right = np.empty_like(x), exact(name, x)
    compiled(name)(x, found)
    with np.errstate(over="ignore"):
        rounded = right.astype(x.dtype)
    assert np.array_equal(np.isfinite(found), np.isfinite(rounded))
    finite = np.isfinite(rounded)
    unit = np.spacing(np.maximum(abs(rounded[finite]), np.finfo(x.dtype).tiny))
    return float((abs(found[finite].astype(right.dtype) - right[finite]) / unit.astype(right.dtype)).max())


@pytest.mark.parametrize("name", NAMES)
def test_single_precision_stays_within_the_table(name: str) -> None:
    assert largest_error(name, single_precision(name, 4001)) <= bounds(np.float32)[name]


@pytest.mark.skipif(not HAS_WIDE, reason="no extended precision here")
@pytest.mark.parametrize("name", NAMES)
def test_double_precision_stays_within_the_table(name: str) -> None:
    assert largest_error(name, double_precision(name, 400_000)) <= bounds(np.float64)[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_table_is_what_dense_sampling_finds(name: str) -> None:
    found = largest_error(name, single_precision(name, 61))
    assert 0.8 * bounds(np.float32)[name] <= found <= bounds(np.float32)[name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: np.dtype(d).name)
def test_nan_zero_and_the_ends_of_the_range(name: str, dtype: Any) -> None:
    at_ends = {
        "exp": (0.0, 1.0, np.inf),
        "expm1": (-1.0, 0.0, np.inf),
        "tanh": (-1.0, 0.0, 1.0),
        "softplus": (0.0, np.log(2), np.inf),
        "sigmoid": (0.0, 0.5, 1.0),
    }
    x = np.array([-np.inf, 0.0, np.inf, np.nan], dtype)
    if name == "log1p_unit":
        x, want = np.array([0.0, 1.0, np.nan], dtype), [0.0, np.log(2), np.nan]
    else:
        want = [*at_ends[name], np.nan]
    found = np.empty_like(x)
    compiled(name)(x, found)
    np.testing.assert_allclose(found, want, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize(("dtype", "last"), [(np.float32, 87.0), (np.float64, 708.0)])
def test_exp_minus_is_exp_of_minus_x_down_to_where_it_stops(dtype: Any, last: float) -> None:
    function = compiled("exp_minus")
    x = np.linspace(0, last, 200_001).astype(dtype)
    found = np.empty_like(x)
    function(x, found)
    right = exact("exp", -x)
    error = abs(found.astype(right.dtype) - right) / np.spacing(right.astype(dtype)).astype(right.dtype)
    assert 0.4 < error.max() <= bounds(dtype)["exp"]
    beyond = np.array([last, 2 * last, np.inf, np.nan], dtype)
    function(beyond, beyond)
    assert np.array_equal(beyond, [found[-1], found[-1], found[-1], np.nan], equal_nan=True)
