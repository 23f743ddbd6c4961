"""The fused K-sample weights against the composed ones. Budget: about 3 s once compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vae_np import backends
from vae_np import ops as reference
from vae_np.architecture import Architecture
from vae_np.evaluation import importance
from vae_np.kernels.check import compare
from vae_np.model import Model, initialise

if backends.missing("numba") is not None:
    pytest.skip(str(backends.missing("numba")), allow_module_level=True)

from vae_np.kernels import cpu
from vae_np.kernels.cpu.importance_weights import log_weights

ARCHITECTURES = [
    Architecture(61, 3, (37, 18), "softplus"),
    Architecture(784, 50, (200, 200), "tanh"),
    Architecture(1100, 1, (5,), "relu"),
    Architecture(62, 3, (37, 18), "softplus", "normal", sigma=0.4),
    Architecture(63, 3, (37,), "tanh", "normal-fixed", sigma=0.4),
    Architecture(64, 3, (37,), "tanh", "normal-diagonal", sigma=0.4),
]


@pytest.mark.parametrize("dtype", [pytest.param(np.float64, marks=pytest.mark.slow), np.float32])
@pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda a: str(a.features))
def test_estimates_agree_with_the_reference(arch: Architecture, dtype: Any) -> None:
    parameters = initialise(arch, seed=3, dtype=np.float32)
    rng = np.random.default_rng(0)
    x, rows = (rng.random((5, arch.features)) < 0.2).astype(np.uint8), rng.permutation(9)[:5]
    if not arch.is_bernoulli:
        x = rng.standard_normal(x.shape).astype(np.float32)
    if "likelihood.logvar" in parameters:
        parameters["likelihood.logvar"][:] += 0.5 * rng.standard_normal(arch.shapes()["likelihood.logvar"])
    wide, ours = parameters.astype(np.float64), parameters.astype(dtype)
    expected = importance.importance_log_likelihood(Model(reference, arch, wide), x, rows, samples=201, seed=7)
    log_w = log_weights(cpu, arch, ours, x, rows, samples=201, seed=7)
    assert log_w.shape == (201, 5)
    found = importance.estimate_from_log_weights(reference, log_w)
    compare(found.log_likelihood, expected.log_likelihood).check(1e-12 if dtype is np.float64 else 1e-5)
    later = log_weights(cpu, arch, ours, x, rows, samples=101, seed=7, first=100)
    # Samples have their own noise, wherever a chunk begins; tiles may round differently.
    compare(later, log_w[100:]).check(1e-12 if dtype is np.float64 else 1e-5)
