"""Time the reference's whole training step beside its matrix products alone, in float32.

Run with: python -m pytest bench/test_step.py
"""

from __future__ import annotations

import pytest
from workloads import WORKLOADS, gemm_only, reference_step


@pytest.mark.parametrize("workload", list(WORKLOADS))
@pytest.mark.parametrize("what", [reference_step, gemm_only])
def test_step(benchmark, what, workload):
    benchmark.group = workload
    benchmark(what(WORKLOADS[workload]))
