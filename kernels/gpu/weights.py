"""`log_mean_exp_weights`: log of the mean weight and the normalised weights, from log weights. [D34]"""

from __future__ import annotations

from vae_np._types import Array

from ._arrays import at_home, blocks, empty, give, launch, precision, put


def log_mean_exp_weights(log_w: Array) -> tuple[Array, Array]:
    """log (1/S) Σ_s exp log_w and the normalised weights, both from log_w (S, B); results (B,) and (S, B). [D34]"""
    dtype = precision(log_w, "log_w")
    home = at_home(log_w)
    log_w = put(log_w, dtype)
    samples, batch = log_w.shape
    out, weights = empty((batch,), dtype), empty(log_w.shape, dtype)
    launch("log_mean_exp_weights", dtype, (blocks(batch, 32),), (32, 16), log_w, out, weights, samples, batch)
    return give(home, out, weights)
