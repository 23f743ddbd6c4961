"""`reparam_kl_*`: z = mu + σ ε and the KL to N(0, I), with their gradients. [D17] [D22]"""

from __future__ import annotations

from typing import Any

from vae_np._types import Array
from vae_np.errors import InputError

from ._arrays import at_home, blocks, empty, give, launch, precision, put


def reparam_kl_forward(mu: Array, logvar: Array, eps: Array) -> tuple[tuple[Array, Array], Any]:
    """z = mu + exp(logvar / 2) ε, and the KL of q(z|x) to N(0, I) in nats. [D17] [D22]

    mu, logvar (B, K), eps (S·B, K); z (S·B, K), kl (B,).
    """
    dtype = precision(mu, "mu")
    if mu.ndim != 2 or logvar.shape != mu.shape or eps.ndim != 2 or eps.size % mu.size:
        shapes = f"{mu.shape}, {logvar.shape}, {eps.shape}"
        raise InputError(f"mu, logvar, eps: got shapes {shapes}, expected (B, K), (B, K), (S·B, K)")
    home = at_home(mu, logvar, eps)
    mu, logvar, eps = put(mu, dtype), put(logvar, dtype), put(eps, dtype)
    batch, latent = mu.shape
    z, kl = empty(eps.shape, dtype), empty((batch,), dtype)
    launch(
        "reparam_forward", dtype, (blocks(batch, 4),), (128,), mu, logvar, eps, z, kl, batch, latent, len(eps) // batch
    )
    return give(home, z, kl), (mu, logvar, eps, home)


def reparam_kl_backward(dout: tuple[Array, Array], cache: Any) -> tuple[Array, Array]:
    """dmu and dlogvar (B, K), from dz (S·B, K) along the path and dkl (B,). [D17] [D22]"""
    dz, dkl = dout
    mu, logvar, eps, home = cache
    if dz.shape != eps.shape or dkl.shape != mu.shape[:1]:
        raise InputError(f"dz, dkl: got shapes {dz.shape}, {dkl.shape}, expected {eps.shape}, {mu.shape[:1]}")
    home = home and at_home(dz, dkl)
    dtype = mu.dtype
    batch, latent = mu.shape
    dmu, dlogvar = empty(mu.shape, dtype), empty(mu.shape, dtype)
    launch(
        "reparam_backward", dtype, (blocks(mu.size, 256),), (256,),
        mu, logvar, eps, put(dz, dtype), put(dkl, dtype), dmu, dlogvar, batch, latent, len(eps) // batch,
    )  # fmt: skip
    return give(home, dmu, dlogvar)
