"""Time log p(x) of ten images from 5000 samples each, at `iwae` in float32, and the decoder's matrix products alone.

Run with: python -m pytest bench/test_eval.py
"""

from __future__ import annotations

import pytest
from contestants import EVAL_IMAGES, EVAL_SAMPLES, ours_evaluated
from workloads import WORKLOADS, evaluation_images, evaluation_products, gemm_only, on_processor

from vae_np import backends

WORKLOAD = WORKLOADS["iwae"]

def test_gemm_only(benchmark):
    benchmark(gemm_only(EVAL_IMAGES * evaluation_products(WORKLOAD, EVAL_SAMPLES, chunk=500)))


@pytest.mark.parametrize("fused", [False, True], ids=["composed", "fused"])
@pytest.mark.parametrize("backend", on_processor())
def test_evaluation(benchmark, backend, fused):
    chosen = backends.choose(backend)
    log_weights = chosen.fused_log_weights(WORKLOAD.arch) if fused else None
    if fused and log_weights is None:
        pytest.skip(f"{backend} has nothing fused")
    evaluated = ours_evaluated(chosen.ops, WORKLOAD, log_weights)
    benchmark(evaluated, evaluation_images()[:EVAL_IMAGES])
