"""One kernel for the processor and one for a GPU, which runs on the processor here. [D17] [D22] [D34]

Their solutions are texts: this package imports no Numba outside of its kernels, and CUDA is no Python.
"""

from __future__ import annotations

import ctypes
import functools
import math
import re
import tempfile
from pathlib import Path

import numpy as np

from vae_np import ops
from vae_np.exercises import cuda_on_cpu
from vae_np.exercises.exercise import AnswerError, Argument, Edge, Exercise, Mistake, real

_NUMBA = """@njit
def reparam_kl(mu, logvar, eps, z, kl):
    batch, latent = mu.shape
    for b in range(batch):
        total = 0.0
        for k in range(latent):
            z[b, k] = mu[b, k] + math.exp(0.5 * logvar[b, k]) * eps[b, k]
            total += mu[b, k] * mu[b, k] + math.expm1(logvar[b, k]) - logvar[b, k]
        kl[b] = 0.5 * total
"""


def _as_python(text):
    """The function without its compilation: what is wrong with it is the same, and nothing is compiled."""
    names = {"math": math, "np": np, "range": range}
    exec(text.replace("@njit\n", ""), names)
    return names["reparam_kl"]


def _not_compiled(function):
    compiled = hasattr(function, "py_func") and hasattr(function, "nopython_signatures")
    return None if compiled else "reparam_kl is not compiled: put @njit, from numba, above its definition"


REPARAM_NUMBA = Exercise(
    "D17-numba",
    "A Numba kernel: the sample and the KL in one pass",
    chapter=5,
    asks="z = mu + σ eps and the KL to the prior, by compiled loops",
    statement="""
    Write loops that Numba compiles: for each example the sample z = mu + exp(logvar / 2) eps of D17 and the KL of
    D22, in one pass over the latents and without temporary arrays. z and kl are given, and filled in.
    """,
    arguments=(real("mu", "B K"), real("logvar", "B K", "log σ²"), real("eps", "B K")),
    returns={"z": "B K", "kl": "B"},
    solution=_NUMBA,
    exact=lambda mu, logvar, eps: ops.reparam_kl_forward(mu, logvar, eps)[0],
    imports=("import math", "", "from numba import njit"),
    writes=True,
    load=_as_python,
    refuse=_not_compiled,
    hints=(
        "Two loops, over b and over k. What is a number of its own for each b, and starts anew there?",
        "z[b, k] is written at once; the KL's term is added to a running total.",
        "total += mu² + expm1(logvar) - logvar; behind the inner loop, kl[b] = 0.5 * total.",
    ),
    mistakes=(
        Mistake(
            "math.exp(0.5 * logvar[b, k])",
            "math.exp(logvar[b, k])",
            "exp(logvar) is the variance: σ is exp(logvar / 2)",
        ),
        Mistake(
            "    for b in range(batch):\n        total = 0.0\n",
            "    total = 0.0\n    for b in range(batch):\n",
            "the total has to start anew for each example: it goes on from the last one's",
        ),
        Mistake("kl[b] = 0.5 * total", "kl[b] = total", "the KL's factor ½ is missing"),
        Mistake("range(latent)", "range(latent - 1)", "the last latent is left out: range(n) ends before n already"),
        Mistake("total += mu", "total = mu", "each latent overwrites the total: add to it"),
    ),
)

_CUDA = """#define THREADS 64

extern "C" __global__ void log_mean_exp(const double* log_w, int samples, int batch, double* bound) {
    __shared__ double shared[THREADS];
    const int t = threadIdx.x, b = blockIdx.x;
    double top = -INFINITY;
    for (int s = t; s < samples; s += THREADS) top = fmax(top, log_w[s * batch + b]);
    shared[t] = top;
    __syncthreads();
    for (int i = 0; i < THREADS; ++i) top = fmax(top, shared[i]);
    __syncthreads();
    double sum = 0;
    for (int s = t; s < samples; s += THREADS) sum += exp(log_w[s * batch + b] - top);
    shared[t] = sum;
    __syncthreads();
    if (t > 0) return;
    for (int i = 1; i < THREADS; ++i) sum += shared[i];
    bound[b] = top + log(sum / samples);
}
"""
_THREADS = 64
# Doubles on both sides of what a kernel is given, which it must leave alone.
_GUARD = 64


@functools.cache
def _library(text):
    if cuda_on_cpu.compiler() is None:
        raise AnswerError("g++ is not installed, and this exercise is run by it")
    # Kept as long as the process: the library stays loaded.
    folder = tempfile.TemporaryDirectory(prefix="vae-np-cuda-")
    try:
        path = cuda_on_cpu.compile_library(
            Path(folder.name), f'#line 1 "answer"\n{text}', ["log_mean_exp"], ["-O1", "-w"]
        )
    except cuda_on_cpu.ShimError as error:
        found = re.search(r"answer:(\d+):\d+: (?:fatal )?error: (.*)", str(error))
        if not re.search(r"__global__[^;{]*\blog_mean_exp\s*\(", text):
            raise AnswerError("it has no kernel log_mean_exp") from None
        why = f"line {found[1]}: {found[2]}" if found else "log_mean_exp is not as it was given"
        raise AnswerError(f"it does not compile: {why}") from None
    return ctypes.CDLL(str(path)), folder


def _guarded(array):
    whole = np.full(array.size + 2 * _GUARD, np.nan)
    inner = whole[_GUARD:-_GUARD]
    inner[...] = array.ravel()
    return whole, inner


def _on_cpu(text):
    """The kernel as a function that launches it, once with each order of a block's threads."""
    library, _ = _library(text)

    def log_mean_exp(log_w, samples, batch, bound):
        found = []
        for order in cuda_on_cpu.ORDERS:
            (given, inside), (whole, out) = _guarded(log_w), _guarded(bound)
            addresses = np.uint64(inside.ctypes.data), np.uint64(out.ctypes.data)
            sizes = np.int32(samples), np.int32(batch)
            try:
                cuda_on_cpu.launch(
                    library, "log_mean_exp", (batch,), (_THREADS,), (addresses[0], *sizes, addresses[1]), order=order
                )
            except cuda_on_cpu.ShimError as error:
                raise AnswerError(str(error)) from None
            if not np.array_equal(inside, log_w.ravel()):
                raise AnswerError("log_w: it is changed, expected to be left as it is")
            edges = np.concatenate([given[:_GUARD], given[-_GUARD:], whole[:_GUARD], whole[-_GUARD:]])
            if not np.isnan(edges).all():
                raise AnswerError("it writes outside of bound: an index is out of range")
            found.append(out.copy())
        if not all(np.array_equal(found[0], other, equal_nan=True) for other in found):
            raise AnswerError(
                "the result depends on the order in which a block's threads run: a __syncthreads() is missing between "
                "writing and reading shared memory, or several threads write one place"
            )
        bound[...] = found[0].reshape(bound.shape)

    return log_mean_exp


LOG_MEAN_EXP_CUDA = Exercise(
    "D34-cuda",
    "A CUDA kernel: the log-mean-exp of each example",
    chapter=10,
    asks="log (1/S) Σ w by a block of threads that share memory",
    statement="""
    Write the kernel for D34's first result. It is launched with one block of THREADS threads for each example:
    block b has example b, whose log-weight s is log_w[s * batch + b]. There may be more samples than threads, and
    fewer. The threads share the work and meet at __syncthreads(); take the largest log-weight out before exp. No
    device is needed: g++ compiles the file, and a block's threads run one after the other, in three orders.
    """,
    arguments=(
        real("log_w", "S B", "log w_sb in nats"),
        Argument("samples", "", "S, an int"),
        Argument("batch", "", "B, an int"),
    ),
    returns={"bound": "B"},
    solution=_CUDA,
    exact=lambda log_w, samples, batch: ops.log_mean_exp_weights(log_w)[0],
    draw=lambda rng, sizes: (rng.standard_normal((sizes["S"], sizes["B"])), sizes["S"], sizes["B"]),
    sizes={"S": (150, 40)},
    writes=True,
    load=_on_cpu,
    language="cuda",
    edges=(
        Edge(
            "at log-weights of -1000 nats every exp is zero: take the largest out before exp, add it after log",
            (np.array([[-1000.0, -2000.0], [-1001.0, -2001.0]]), 2, 2),
        ),
    ),
    hints=(
        "Thread t takes the samples t, t + THREADS, t + 2 THREADS, …, and finds the largest of its own.",
        "Each writes its largest into shared memory; behind a barrier all of them read all. Before shared memory is "
        "used again, everybody must have read it: another barrier.",
        "Then the same with the sums of exp(log_w - top), and thread 0 writes top + log(sum / samples).",
    ),
    mistakes=(
        Mistake("sum / samples", "sum", "the 1/S of the mean is missing: the bound is too large by log S"),
        Mistake(
            "log_w[s * batch + b] - top",
            "log_w[b * samples + s] - top",
            "log_w is (S, B) row by row: sample s of example b is log_w[s * batch + b]",
        ),
        Mistake("top + log(", "log(", "the largest log-weight was taken out and not put back"),
        Mistake(
            "for (int i = 1; i < THREADS; ++i) sum += shared[i];",
            "",
            "only thread 0's own sum is used: those of the other threads lie in shared memory",
        ),
        Mistake(
            "for (int s = t; s < samples; s += THREADS) sum +=",
            "if (t < samples) for (int s = t; s == t; ++s) sum +=",
            "each thread takes one sample: with more samples than threads it has to go on by THREADS",
        ),
    ),
)

EXERCISES = (REPARAM_NUMBA, LOG_MEAN_EXP_CUDA)
