"""Time each operation of the contract on every backend, in float32 on the shapes of `pt` (784-400-20, batch 128).

Run with: python -m pytest bench/test_ops.py
"""

from __future__ import annotations

import pytest
from workloads import WORKLOADS, on_processor, operations

from vae_np import backends, ops


@pytest.mark.parametrize("name", ops.__all__)
@pytest.mark.parametrize("backend", on_processor())
def test_operation(benchmark, backend, name):
    benchmark.group = name
    benchmark(operations(backends.choose(backend).ops, WORKLOADS["pt"])[name])
