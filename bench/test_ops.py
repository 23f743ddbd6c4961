"""Time each operation of the contract, in float32 on the shapes of `pt` (784-400-20, batch 128).

Run with: python -m pytest bench/test_ops.py
"""

from __future__ import annotations

import pytest
from workloads import WORKLOADS, operations

from vae_np import ops


@pytest.mark.parametrize("name", ops.__all__)
def test_operation(benchmark, name):
    benchmark(operations(ops, WORKLOADS["pt"])[name])
