"""What hypothesis draws for these tests: arrays, models with data, and layouts of memory; the same in every run."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numeric import Problem, make_problem

from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.choices import LIKELIHOODS

SMOOTH = ("tanh", "softplus")
ACTIVATIONS = (*SMOOTH, "relu")


def examples(count: int) -> settings:
    """Settings under which the same `count` examples are drawn in every run."""
    quiet = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)
    return settings(derandomize=True, max_examples=count, deadline=None, database=None, suppress_health_check=quiet)


def reals(limit: float, dtype: str = "float64") -> st.SearchStrategy[float]:
    bound = float(np.dtype(dtype).type(limit))
    return st.floats(-bound, bound, width=np.dtype(dtype).itemsize * 8)


@st.composite
def stacks(draw: Any, *limits: float, columns: int | None = None) -> tuple[Array, ...]:
    """(B, K) arrays of one shape, one for each limit to their magnitude, all in one of both precisions."""
    dtype = draw(st.sampled_from(("float32", "float64")))
    shape = draw(st.integers(1, 5)), columns or draw(st.integers(1, 7))
    return tuple(draw(hnp.arrays(dtype, shape, elements=reals(limit, dtype))) for limit in limits)


@st.composite
def problems(
    draw: Any,
    *,
    activations: tuple[str, ...] = ACTIVATIONS,
    likelihoods: tuple[str, ...] = LIKELIHOODS,
    latent: int | None = None,
    least: int = 1,
) -> Problem:
    """A model of any depth, widths, activation and likelihood, with data and noise for any number of samples."""
    arch = Architecture(
        draw(st.integers(1, 9)),
        latent or draw(st.integers(1, 4)),
        tuple(draw(st.lists(st.integers(1, 6), max_size=3))),
        draw(st.sampled_from(activations)),
        draw(st.sampled_from(likelihoods)),
        draw(st.sampled_from((0.3, 1.0, 2.5))),
    )
    batch, samples = draw(st.integers(least, 5)), draw(st.integers(1, 3))
    return make_problem(arch, batch=batch, samples=samples, seed=draw(st.integers(0, 999)))


def read_only(a: Array) -> Array:
    copy = a.copy()
    copy.flags.writeable = False
    return copy


def every_second(a: Array) -> Array:
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1]), 77, a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def backwards(a: Array) -> Array:
    return np.ascontiguousarray(a[::-1])[::-1]


LAYOUTS = st.sampled_from((read_only, np.asfortranarray, every_second, backwards))
