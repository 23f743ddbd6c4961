"""What evaluation and training hold at most: never samples × examples × pixels, nor a float copy of a data set.

Each measurement is a process of its own, whose peak (Linux's VmHWM) is reset after a warm-up. Budget: about 6 s; the
sizes of a real evaluation are behind `slow`.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vae_np import backends

if backends.missing("numba") is not None:
    pytest.skip(str(backends.missing("numba")), allow_module_level=True)
if not os.access("/proc/self/clear_refs", os.W_OK):
    pytest.skip("no /proc of Linux here, to measure memory by", allow_module_level=True)

MEASURE = """
import sys
import numpy as np
from vae_np import VAE

def megabytes(what):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(what)) / 1024

def report(work, warm_up):
    warm_up()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = megabytes("VmRSS")
    work()
    print(megabytes("VmHWM") - before, megabytes("VmHWM"))
"""
EVALUATION = MEASURE + """
backend, examples, samples = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
vae = VAE(784, hidden=(200, 200), latent=50, activation="tanh", backend=backend)
x = (np.random.default_rng(0).random((examples, 784), np.float32) < 0.13).astype(np.uint8)
report(lambda: vae.log_likelihood(x, samples), lambda: vae.log_likelihood(x[:2], 2))
"""
TRAINING = MEASURE + """
backend, rows = sys.argv[1], int(sys.argv[2])
vae = VAE(784, backend=backend)
x = np.random.default_rng(0).integers(0, 256, (rows, 784), np.uint8)
fit = lambda x: vae.fit(x[128:], validation=x[:128 * (len(x) // 256)], epochs=1, batch_size=128)
report(lambda: fit(x), lambda: fit(x[:300]))
"""


def growth_and_peak(code: str, *arguments: object) -> tuple[float, float]:
    """Megabytes that the work added at its peak, and the whole process's peak."""
    process = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    growth, peak = map(float, process.stdout.split())
    return growth, peak


def test_samples_are_evaluated_in_pieces() -> None:
    """A float32 image a sample would be 627 MB; log weights and what is made of them are 1 MB each."""
    growth, _ = growth_and_peak(EVALUATION, "numba", 100, 2000)
    assert growth < 40


def test_training_holds_no_float_copy_of_its_data() -> None:
    """20,000 rows are 16 MB as bytes, 63 MB as floats, the half of them that is held out 31 MB."""
    growth, _ = growth_and_peak(TRAINING, "numba", 20_000)
    assert growth < 30


@pytest.mark.slow
@pytest.mark.parametrize(("examples", "samples"), [(200, 5000), (10_000, 100), (1, 1_000_000)])
def test_a_real_evaluation_stays_far_below_a_gigabyte(examples: int, samples: int) -> None:
    _, peak = growth_and_peak(EVALUATION, "numba", examples, samples)
    assert peak < 500


@pytest.mark.slow
def test_the_reference_evaluates_in_pieces_too() -> None:
    """8192 rows of logits are 26 MB, and a few temporaries as large stand beside them; all of them would be 627 MB."""
    growth, _ = growth_and_peak(EVALUATION, "numpy", 100, 2000)
    assert growth < 250
