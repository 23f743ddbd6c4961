"""Mistakes planted into the CUDA sources: each has to be caught, and the right sources have to pass the same trials.

Missing barriers, values never written and wrong strides show in the results of at least one order of threads; what
reaches beyond an array shows under AddressSanitizer, in a process of its own. Budget: about 75 s.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shimlib
import trials

from vae_np.kernels.gpu import _device


@dataclass(frozen=True)
class Planted:
    """In `file`, `old` (which is there once) becomes `new`; `operation`, made of `needs`, is what fails then."""

    what: str
    file: str
    old: str
    new: str
    operation: str
    needs: tuple[str, ...]

    def text(self) -> dict[str, str]:
        """The headers and the sources needed, with the mistake."""
        text = {name: source for name, source in shimlib.sources().items() if name.endswith("h") or name in self.needs}
        assert text[self.file].count(self.old) == 1, f"{self.what}: {self.file} no longer has what is to be replaced"
        text[self.file] = text[self.file].replace(self.old, self.new)
        return text


def barrier(what: str, file: str, before: str, operation: str, *needs: str) -> Planted:
    """The barrier that follows `before` removed."""
    text = shimlib.sources()[file]
    match = re.search(re.escape(before) + r"[\s\\]*__syncthreads\(\);", text)
    assert match is not None, f"{what}: {file} has no barrier there any more"
    return Planted(f"barrier {what}", file, match[0], before, operation, needs)


def other(what: str, file: str, old: str, new: str, operation: str, *needs: str) -> Planted:
    return Planted(what, file, old, new, operation, needs)


FUSED = ("affine.cu", "importance.cu", "step.cu")
BOUND = (*FUSED, "bound.cu")
SHARED = (*FUSED, "adam.cu")
PANEL = "store<B>(panels.b[0], next_b);"
NORMAL = "columns; ++lane)\n        out[at(row, 4 * block + lane, columns)] = normals[lane];"
IN_PROCESS = [
    barrier("after the first panel", "product.cuh", PANEL, "affine_act", "affine.cu"),
    barrier("after the next panel", "product.cuh", PANEL.replace("0", "stage ^ 1"), "affine_act", "affine.cu"),
    barrier("before the groups' sums are stored", "product.cuh", "first_column = thread % 8 * 4;",
            "affine_act", "affine.cu"),
    barrier("before the groups' sums are added", "product.cuh", "of_row[j + 3]}};\n            }",
            "affine_act", "affine.cu"),
    barrier("before all know which block is the last", "product.cuh", "last) == last;", "dealt depth", "affine.cu"),
    barrier("before a block knows its tile", "step.cu", "mine = work[blockIdx.x - 1];", "fused step", *FUSED),
    barrier("between the warps' sums", "reduce.cuh", "/ 32] = of_warp;", "bernoulli_loglik", "likelihoods.cu"),
    barrier("between a column's groups", "likelihoods.cu", "[threadIdx.x] = sum;", "normal_loglik", "likelihoods.cu"),
    barrier("before the largest weight", "weights.cu", "[lane] = top;", "log_mean_exp_weights", "weights.cu"),
    barrier("before the heads' sums", "step.cu", "+ thread] = sum[r];", "fused step", *FUSED),
    barrier("between z's and h's gradients", "step.cuh", "part = threadIdx.x % 4;", "fused step", *FUSED),
    barrier("before the active pixels' sums meet", "affine.cu", "[lane] = sum;", "binary_affine_act", "affine.cu"),
    other("last active pixel more than once", "affine.cu", "if (first + GATHER_GROUPS * n < count) sum", "sum",
          "binary_affine_act", "affine.cu"),
    other("fours beyond the last column", "affine.cu", "min(column + k, columns - 1)", "min(column, columns - 1)",
          "binary_affine_act", "affine.cu"),
    other("the last block's sums forgotten", "product.cuh", "part < count;", "part + 1 < count;", "dealt depth",
          "affine.cu"),
    other("blocks counted on", "product.cuh", "arrived + tile, last)", "arrived + tile, last + 1)", "dealt depth",
          "affine.cu"),
    other("panel never stored", "product.cuh", PANEL, "", "affine_act", "affine.cu"),
    other("bias gradient never written", "affine.cu", "dbias[column] = tile.sum[i][j];", ";", "affine_act",
          "affine.cu"),
    other("KL of no lane", "reparam.cu", "% 32 == 0) kl", "% 32 == 32) kl", "reparam_kl", "reparam.cu"),
    other("last normal not drawn", "noise.cu", NORMAL, NORMAL.replace(";", " - 1;", 1), "philox_normal", "noise.cu"),
    other("tiles' sums with the stride of one", "importance.cu", "gridDim.x)] = sum", "1)] = sum",
          "fused evaluation", *FUSED),
    other("samples one example apart", "reparam.cu", "at(s * batch + example", "at(s + example", "reparam_kl",
          "reparam.cu"),
    other("sum of one lane for a tile's row", "importance.cu", "warp_sum(terms[i])", "terms[i]", "fused evaluation",
          *FUSED),
    other("every sample the first", "bound.cu", "STREAM_EPS, row % samples)", "STREAM_EPS, 0)", "fused bound", *BOUND),
    other("samples of the next example", "bound.cu", "b = row / samples;", "b = row % batch;", "fused bound", *BOUND),
    other("pixels of the next example", "importance.cu", "row / together %", "row %", "fused bound", *BOUND),
    other("KL's weight not in log w", "bound.cu", "loglik + beta *", "loglik +", "fused bound", *BOUND),
    other("KL's weight not in dz", "bound.cu", "beta * share[row]", "share[row]", "fused bound", *BOUND),
    other("shares of one example alone", "bound.cu", "/ total / batch", "/ total", "fused bound", *BOUND),
    other("sum of the samples for their mean", "bound.cu", "log(total / samples)", "log(total)", "fused bound", *BOUND),
    other("last column not scaled", "bound.cu", "(column < columns)", "(column + 1 < columns)", "fused bound", *BOUND),
    other("one sample a lane", "bound.cu", "row += 32)", "row += samples)", "fused bound", *BOUND),
    other("log q's own logvar forgotten", "bound.cu", " - real(0.5) * dkl", "", "fused bound", *BOUND),
    other("last row without a gradient", "step.cu", "rows = work.rows", "rows = work.rows - 1", "fused bound", *BOUND),
    other("sum of the blocks for their mean", "adam.cu", "total[i] * share", "total[i]", "shared step", *SHARED),
    other("last block alone", "adam.cu", "target[i] += other[i]", "target[i] = other[i]", "shared step", *SHARED),
    other("barrier that some threads never reach", "product.cuh", "        int stage = 0;",
          "        if (threadIdx.x > 250) return;\n        int stage = 0;", "affine_act", "affine.cu"),
]  # fmt: skip
SANITIZED = [
    other("row read beyond the last one", "product.cuh", "i < count ? length - k : 0", "length - k",
          "affine_act", "affine.cu"),
    other("latent written beyond the last one", "reparam.cu", "if (i >= count) return;", "if (i > count) return;",
          "reparam_kl", "reparam.cu"),
    other("row of samples beyond the last one", "bound.cu", "row >= batch * samples", "row > batch * samples",
          "fused bound", *BOUND),
    other("shared entry beyond the last one", "weights.cu", "g < SAMPLE_GROUPS; ++g) total",
          "g <= SAMPLE_GROUPS; ++g) total", "log_mean_exp_weights", "weights.cu"),
]  # fmt: skip


def symptom(operation: str, order: str, text: dict[str, str]) -> str | None:
    """What is seen of a mistake, if anything, when threads run in that order."""
    quick = text != shimlib.sources()
    # What does not compile at all is no mistake that was caught.
    shimlib.build(shimlib.reached(text), "float32", quick=quick)
    with _device.use(shimlib.ShimDevice(order=order, quick=quick, text=text)):
        try:
            trials.run(operation, np.float32)
        except (AssertionError, shimlib.ShimError) as error:
            return str(error)
    return None


def sanitized(text: dict[str, str], operations: list[str]) -> Any:
    """The finished process that ran the operations under AddressSanitizer."""
    library = shimlib.sanitizer()
    if library is None:
        shimlib.missing("g++ has no AddressSanitizer")
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        # Python itself leaks by design, and its own allocations are no business of this test.
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONPATH": os.pathsep.join([str(here), str(here.parent / "parity"), os.environ.get("PYTHONPATH", "")]),
    }
    return subprocess.run(
        [sys.executable, str(here / "sanitized_child.py")],
        input=json.dumps({"text": text, "operations": operations}),
        capture_output=True,
        text=True,
        env=environment,
    )


@pytest.fixture(autouse=True)
def _compiler() -> None:
    shimlib.require_compiler()


@pytest.mark.parametrize("operation", sorted({planted.operation for planted in IN_PROCESS}))
def test_the_right_sources_show_no_symptom(operation: str) -> None:
    for order in shimlib.ORDERS:
        assert symptom(operation, order, shimlib.sources()) is None


@pytest.mark.parametrize("planted", IN_PROCESS, ids=lambda planted: planted.what)
def test_a_planted_mistake_is_caught(planted: Planted) -> None:
    text = planted.text()
    assert any(symptom(planted.operation, order, text) for order in shimlib.ORDERS)


def test_one_order_of_threads_alone_would_not_do() -> None:
    text = next(planted for planted in IN_PROCESS if planted.what == "barrier between the warps' sums").text()
    found = {order: symptom("bernoulli_loglik", order, text) is not None for order in shimlib.ORDERS}
    assert found == {"forward": True, "reverse": False, "shuffled": True}


def test_the_right_sources_touch_no_wrong_address() -> None:
    done = sanitized(shimlib.sources(), [*trials.OPERATIONS, *trials.FUSED])
    assert done.stdout.strip() == "DONE", done.stderr[-4000:]
    assert done.returncode == 0


@pytest.mark.parametrize("planted", SANITIZED, ids=lambda planted: planted.what)
def test_a_wrong_address_is_caught(planted: Planted) -> None:
    done = sanitized(planted.text(), [planted.operation])
    assert done.returncode != 0
    assert "ERROR: AddressSanitizer" in done.stderr


def test_what_is_missing_is_a_skip_with_its_reason_and_in_ci_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shimlib, "compiler", lambda: None)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"^CI has to run this, but g\+\+ is not installed$"):
        shimlib.require_compiler()
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match=r"^g\+\+ is not installed$"):
        shimlib.require_compiler()


# What no device would accept, on a kernel of its own.

TINY = """
#include "math.cuh"
extern "C" __global__ void tiny(real* out, int count) {
    DYNAMIC_SHARED(real, dynamic);
    __shared__ real fixed[2];
    if (threadIdx.x == 0) {
        out[0] = fixed[0];
        if (count > 1) out[1] = dynamic[0];
    }
}
extern "C" __global__ void parted(real* out, int count) {
    if (static_cast<int>(threadIdx.x) < count) __syncthreads();
    else __syncthreads();
    out[0] = 1;
}
"""


def tiny(kernel: str, args: list[Any], grid: tuple[int, ...] = (1,), block: int = 32, shared: int = 4) -> None:
    text = {"tiny.cu": TINY, **{name: source for name, source in shimlib.sources().items() if name.endswith("h")}}
    shimlib.ShimDevice(text=text).prepare(kernel, np.float32, grid, (block,), args, shared)()


def test_shared_memory_is_poisoned_before_each_block() -> None:
    out = shimlib.ShimDevice().put(np.zeros(2), np.float32)
    tiny("tiny", [out, 2], grid=(3,))
    assert np.isnan(out).all()


@pytest.mark.parametrize(
    ("kernel", "change", "message"),
    [
        ("tiny", {"args": 1}, "got 1 arguments, expected 2"),
        ("tiny", {"long": True}, "argument 1 has 8 bytes, expected 4"),
        ("tiny", {"block": 1025}, "a block has 1025 threads"),
        ("tiny", {"grid": (1, 65536)}, "the grid is 1 x 65536 x 1"),
        ("tiny", {"shared": 49153}, "49153 bytes of dynamic shared memory"),
        ("parted", {}, "threads of a block wait at different barriers"),
    ],
)
def test_what_no_device_accepts_is_refused(kernel: str, change: dict[str, Any], message: str) -> None:
    change = dict(change)
    out = shimlib.ShimDevice().put(np.zeros(2), np.float32)
    args = [out, np.int64(16) if change.pop("long", False) else 16][: change.pop("args", 2)]
    with pytest.raises(shimlib.ShimError, match=message):
        tiny(kernel, args, **change)
    with pytest.raises(shimlib.ShimError, match="not on the device"):
        tiny(kernel, [np.zeros(2, np.float32), 2])
