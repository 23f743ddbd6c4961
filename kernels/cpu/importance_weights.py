"""log w = log p(x, z) − log q(z|x) of K samples per example, with the decoder, in chunks that stay in the caches. [D34]

Each unit of work is one example and a few of its samples: noise, z, the decoder, the likelihood. Nothing of size
samples × features is ever in memory, and no unit needs another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np import noise
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.model import encode_forward

from ..arguments import ACTIVATIONS
from . import affine, reparam
from ._arrays import flat, plain
from .engine.products import call_gemm, gemm_address, scratch_size
from .engine.random_words import fill_normals, key
from .likelihoods import LANES, bernoulli_row, normal_row, normal_scales, observed
from .runtime.compilation import njit
from .runtime.pool import run

# Samples of one example that are decoded at once, 8 register tiles' worth.
_CHUNK = 96
_EVAL_EPS = noise.EVAL_EPS


@njit()
def _log_weights(
    part: int, parts: int, call: int, layers: Array, activation: int, x: Array, features: int, rows: Array,
    samples: int, first_sample: int, k0: Any, k1: Any, mu: Array, logvar: Array, latent: int, parameters: Array,
    log_sigma2: Array, log_w: Array,
) -> None:  # fmt: skip
    batch, count = rows.size, layers.size // 4
    widest = features
    for layer in range(count):
        widest = max(widest, layers[4 * layer + 1])
    scratch = np.empty(scratch_size(parameters.itemsize), dtype=parameters.dtype)
    here = np.empty(_CHUNK * max(widest, latent), dtype=parameters.dtype)
    there = np.empty(_CHUNK * max(widest, latent), dtype=parameters.dtype)
    eps = np.empty(_CHUNK * latent, dtype=parameters.dtype)
    row_scratch, inverse = np.empty(2 * features + LANES, dtype=parameters.dtype), np.empty_like(log_sigma2)
    is_normal, offset = log_sigma2.size > 0, 0.0
    if is_normal:
        offset = normal_scales(log_sigma2, 0, features, inverse, 0, features)
    prior, terms = np.empty(_CHUNK), np.empty(latent)
    words = np.empty(64 * ((latent + 3) // 4), dtype=np.int64)
    places, numbers = np.empty(_CHUNK, dtype=np.int64), np.empty(_CHUNK + 1, dtype=np.int64)
    chunks = (samples + _CHUNK - 1) // _CHUNK
    for unit in range(part * batch * chunks // parts, (part + 1) * batch * chunks // parts):
        example, begin = unit // chunks, unit % chunks * _CHUNK
        size = min(_CHUNK, samples - begin)
        for s in range(size):
            places[s] = rows[example]
            numbers[s] = first_sample + begin + s
        fill_normals(places, numbers, 0, size, latent, k0, k1, _EVAL_EPS, 0, words, eps, 0)
        at = example * latent
        for s in range(size):
            reparam.sample_row(mu, at, logvar, at, eps, s * latent, here, s * latent, latent)
            prior[s] = reparam.log_ratio_row(logvar, at, eps, s * latent, here, s * latent, latent, terms, 0)
        for layer in range(count):
            inputs, outputs = layers[4 * layer], layers[4 * layer + 1]
            weight, bias = layers[4 * layer + 2], layers[4 * layer + 3]
            call_gemm(
                call, here, 0, inputs, 1, parameters, weight, outputs, 1, there, 0, outputs,
                size, outputs, inputs, 0, scratch, 0,
            )  # fmt: skip
            for s in range(size):
                affine.activate(there, s * outputs, parameters, bias, outputs, activation if layer < count - 1 else 0)
            here, there = there, here
        for s in range(size):
            if is_normal:
                squares = normal_row(x, example * features, here, s * features, features, inverse, 0, row_scratch, 0)
                loglik = -0.5 * (offset + squares)
            else:
                loglik = bernoulli_row(x, example * features, here, s * features, features, row_scratch, 0)
            log_w[(begin + s) * batch + example] = loglik + prior[s]


def log_weights(
    ops: Any, arch: Architecture, parameters: Any, x: Array, rows: Array, *, samples: int, seed: int, first: int = 0
) -> Array:
    """log w (S, B) in nats, of samples first..first+S−1 of each example; x (B, D), `rows` (B,) places. [D34]

    x is bytes, or floats where the likelihood takes those.

    `parameters` is a `vae_np.parameters.Parameters`; the architecture must be one that `fused.unsupported` accepts.
    """
    (mu, logvar), _ = encode_forward(ops, arch, parameters, x)
    buffer = parameters.flat
    names = [*arch.hidden_layers("decoder"), "decoder.out"]
    layers = np.array(
        [
            (
                *parameters[f"{name}.weight"].shape,
                parameters.offset(f"{name}.weight"),
                parameters.offset(f"{name}.bias"),
            )
            for name in names
        ],
        dtype=np.int64,
    )
    # Of each feature, for a normal likelihood alone.
    log_sigma2 = np.zeros(0, dtype=buffer.dtype)
    if not arch.is_bernoulli:
        learned = parameters.get("likelihood.logvar", arch.sigma_logvar)
        log_sigma2 = np.full(arch.features, learned, dtype=buffer.dtype)
    log_w = np.empty((samples, len(x)), dtype=buffer.dtype)
    run(
        _log_weights, gemm_address(buffer.dtype), flat(layers), ACTIVATIONS[arch.activation],
        flat(observed(x, buffer.dtype)), arch.features, np.asarray(rows).astype(np.int64), samples, first, *key(seed),
        flat(plain(mu, buffer.dtype)), flat(plain(logvar, buffer.dtype)), arch.latent, buffer, log_sigma2,
        flat(log_w),
        work=1e3 * log_w.size,
    )  # fmt: skip
    return log_w
