"""`bernoulli_loglik_*` and `normal_loglik_*`: log p(x|z) of a row, and its gradient. [D4] [D5]"""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.errors import InputError

from ._arrays import at_home, blocks, empty, give, launch, precision, put


def _check(x: Any, out: Any, name: str) -> None:
    if x.ndim != 2 or out.ndim != 2 or x.shape[1] != out.shape[1] or len(out) % len(x):
        raise InputError(f"x, {name}: got shapes {x.shape}, {out.shape}, expected (B, D), (S·B, D)")


def _check_upstream(dloglik: Any, out: Any) -> None:
    if dloglik.shape != out.shape[:1]:
        raise InputError(f"dloglik: got shape {dloglik.shape}, expected {out.shape[:1]}")


def bernoulli_loglik_forward(x: Array, logits: Array) -> tuple[Array, Any]:
    """log p(x | z) of independent Bernoulli pixels: x (B, D), logits (S·B, D), result (S·B,) in nats. [D4]"""
    dtype = precision(logits, "logits")
    _check(x, logits, "logits")
    home = at_home(x, logits)
    # Bytes stay bytes: a quarter of the memory traffic.
    kind = "bytes" if x.dtype in (np.uint8, np.bool_) else "real"
    x, logits = put(x, np.uint8 if kind == "bytes" else dtype), put(logits, dtype)
    out = empty((len(logits),), dtype)
    launch(f"bernoulli_forward_{kind}", dtype, (len(logits),), (128,), x, logits, out, len(logits), *x.shape)
    return give(home, out)[0], (x, logits, kind, home)


def bernoulli_loglik_backward(dloglik: Array, cache: Any) -> Array:
    """dlogits (S·B, D), from dloglik (S·B,). [D4]"""
    x, logits, kind, home = cache
    _check_upstream(dloglik, logits)
    home = home and at_home(dloglik)
    out = empty(logits.shape, logits.dtype)
    launch(
        f"bernoulli_backward_{kind}", logits.dtype, (len(logits), blocks(x.shape[1], 256)), (256,),
        x, logits, put(dloglik, logits.dtype), out, len(logits), *x.shape,
    )  # fmt: skip
    return give(home, out)[0]


def normal_loglik_forward(x: Array, mean: Array, logvar: Array) -> tuple[Array, Any]:
    """log p(x | z) of independent normals: x (B, D), mean (S·B, D), logvar (1,) or (D,), result (S·B,) in nats. [D5]"""
    dtype = precision(mean, "mean")
    _check(x, mean, "mean")
    if logvar.shape not in ((1,), mean.shape[1:]):
        raise InputError(f"logvar: got shape {logvar.shape}, expected (1,) or {mean.shape[1:]}")
    home = at_home(x, mean, logvar)
    x, mean, logvar = put(x, dtype), put(mean, dtype), put(logvar, dtype)
    out = empty((len(mean),), dtype)
    launch("normal_forward", dtype, (len(mean),), (128,), x, mean, logvar, out, len(mean), *x.shape, logvar.size)
    return give(home, out)[0], (x, mean, logvar, home)


def normal_loglik_backward(dloglik: Array, cache: Any) -> tuple[Array, Array]:
    """dmean (S·B, D) and dlogvar, shaped as logvar, from dloglik (S·B,). [D5]"""
    x, mean, logvar, home = cache
    _check_upstream(dloglik, mean)
    home = home and at_home(dloglik)
    dtype, features = mean.dtype, mean.shape[1]
    dmean, dlogvar, columns = empty(mean.shape, dtype), empty(logvar.shape, dtype), empty((features,), np.float64)
    launch(
        "normal_backward", dtype, (blocks(features, 32),), (32, 8),
        x, mean, logvar, put(dloglik, dtype), dmean, columns, len(mean), *x.shape, logvar.size,
    )  # fmt: skip
    launch(
        "normal_logvar_gradient", dtype, (1 if logvar.size == 1 else blocks(features, 256),), (256,),
        columns, dlogvar, features, logvar.size,
    )  # fmt: skip
    return give(home, dmean, dlogvar)
