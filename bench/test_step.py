"""Time the training step in float32: composed on every backend, dense and sparse, fused, and its matrix products alone.

Run with: python -m pytest bench/test_step.py
"""

from __future__ import annotations

import pytest
from workloads import WORKLOADS, composed_step, fused_step, gemm_only, on_processor, step_products

from vae_np import backends


@pytest.mark.parametrize("workload", list(WORKLOADS))
def test_gemm_only(benchmark, workload):
    benchmark.group = workload
    benchmark(gemm_only(step_products(WORKLOADS[workload])))


@pytest.mark.parametrize("workload", list(WORKLOADS))
@pytest.mark.parametrize("dense", [False, True], ids=["given", "dense"])
@pytest.mark.parametrize("backend", on_processor())
def test_composed(benchmark, backend, dense, workload):
    benchmark.group = workload
    benchmark(composed_step(backends.choose(backend).ops, WORKLOADS[workload], dense=dense).run)


@pytest.mark.parametrize("workload", list(WORKLOADS))
@pytest.mark.parametrize("grey", [False, True], ids=["given", "drawn"])
@pytest.mark.parametrize("backend", on_processor())
def test_fused(benchmark, backend, grey, workload):
    chosen = backends.choose(backend)
    why = chosen.unfused(WORKLOADS[workload].arch)
    if why is not None:
        pytest.skip(why)
    if grey and not WORKLOADS[workload].arch.is_bernoulli:
        pytest.skip("a normal likelihood has no pixels to draw")
    benchmark.group = workload
    benchmark(fused_step(chosen, WORKLOADS[workload], grey=grey).run)
