"""What `reparam_kl` costs at each stage of the kernels' tutorial (docs/kernels-tutorial.md), and how far each is off.

    python docs/examples/kernel_stages.py

All stages take turns in one run, on the same float32 numbers. On a machine that others use as well, the least time of
the turns says more than their median.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numba
import numpy as np
from llvmlite import binding

from vae_np import ops
from vae_np.kernels import cpu
from vae_np.kernels.cpu.engine.vectors import sum_range
from vae_np.kernels.cpu.reparam import kl_terms, sample_row
from vae_np.kernels.cpu.runtime import pool
from vae_np.kernels.cpu.runtime.lowering import Compiler

# A batch of `pt`, and the rows that an evaluation decodes at once: examples, latents.
SIZES = ((128, 20), (16384, 50))
TURNS, TURN_SECONDS = 31, 0.02


def scalar_loop(mu, logvar, eps, z, kl):
    """The formulas as one would write them in C: a latent at a time, nothing kept but what is asked for."""
    for i in range(mu.shape[0]):
        total = 0.0
        for j in range(mu.shape[1]):
            m, v = mu[i, j], logvar[i, j]
            z[i, j] = m + math.exp(0.5 * v) * eps[i, j]
            total += m * m + (math.expm1(v) - v)
        kl[i] = 0.5 * total


compiled_loop = numba.njit(scalar_loop, nogil=True)


@numba.njit(nogil=True, error_model="numpy", pipeline_class=Compiler)
def one_stretch(mu, logvar, eps, z, terms, kl, latent):
    """What the fused step does of it: the row functions on a slab's rows as one, into buffers that are there."""
    sample_row(mu, 0, logvar, 0, eps, 0, z, 0, mu.size)
    kl_terms(mu, 0, logvar, 0, terms, 0, mu.size)
    for i in range(kl.size):
        kl[i] = 0.5 * sum_range(terms, i * latent, latent)


def stages(batch: int, latent: int) -> dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]]:
    """By name, a call for each stage that returns z (B, K) and the KL (B,)."""
    random = np.random.default_rng(0)
    mu, logvar, eps = (random.standard_normal((batch, latent), dtype=np.float32) for _ in range(3))

    def looped(function):
        z, kl = np.full_like(eps, np.nan), np.full(batch, np.nan, np.float32)

        def call():
            function(mu, logvar, eps, z, kl)
            return z, kl

        return call

    def stretched():
        z, terms, kl = np.full_like(eps, np.nan), np.empty_like(eps), np.full(batch, np.nan, np.float32)
        flat = [array.reshape(-1) for array in (mu, logvar, eps, z, terms)]

        def call():
            one_stretch(*flat, kl, latent)
            return z, kl

        return call

    def on(threads):
        with pool.limited(threads):
            return cpu.reparam_kl_forward(mu, logvar, eps)[0]

    found = {
        "1 NumPy, vae_np.ops": lambda: ops.reparam_kl_forward(mu, logvar, eps)[0],
        "2 scalar loop, Python": looped(scalar_loop),
        "2 scalar loop, compiled": looped(compiled_loop),
        "3 row functions": partial(on, 1),
        "5 as in the fused step": stretched(),
    }
    if cpu.available() > 1:
        found["4 row functions, 2 threads"] = partial(on, 2)
    if batch * latent > 10_000:
        # A second a call, to no purpose.
        del found["2 scalar loop, Python"]
    return dict(sorted(found.items()))


def measured(calls: dict[str, Callable[[], object]]) -> dict[str, tuple[float, float]]:
    """Each call's median and least time in microseconds, of turns that all of them take one after the other."""
    repeats = {}
    for name, call in calls.items():
        call()
        started = time.perf_counter()
        call()
        repeats[name] = max(1, round(TURN_SECONDS / (time.perf_counter() - started)))
    turns: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(TURNS):
        for name, call in calls.items():
            started = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            turns[name].append((time.perf_counter() - started) / repeats[name])
    return {name: (1e6 * median(times), 1e6 * min(times)) for name, times in turns.items()}


def error(found: tuple[np.ndarray, np.ndarray], wanted: tuple[np.ndarray, np.ndarray]) -> float:
    """The largest distance over the reference's largest entry, of z and of the KL."""
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(found, wanted, strict=True))


def processor() -> str:
    """The processor's name as Linux has it, and as LLVM has its model."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown'} ({binding.get_host_cpu_name()})"


def main() -> None:
    """Print a table for each size."""
    print(f"{processor()}, {cpu.available()} processors, vectors of {cpu.VECTOR_BYTES} bytes, float32")
    for batch, latent in SIZES:
        calls = stages(batch, latent)
        random = np.random.default_rng(0)
        wide = [random.standard_normal((batch, latent), dtype=np.float32).astype(np.float64) for _ in range(3)]
        wanted = ops.reparam_kl_forward(*wide)[0]
        errors = {name: error(call(), wanted) for name, call in calls.items()}
        size = f"{batch} rows of {latent} latents"
        print(f"\n{size:<30}{'median, µs':>12}{'least, µs':>12}{'ns per latent':>16}{'error':>10}")
        for name, (middle, least) in measured(calls).items():
            each = 1000 * least / (batch * latent)
            print(f"  {name:<28}{middle:>12,.1f}{least:>12,.1f}{each:>16.2f}{errors[name]:>10.0e}")


if __name__ == "__main__":
    main()
