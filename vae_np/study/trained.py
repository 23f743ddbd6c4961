"""Whole models, encoder and all, that several chapters look at: MNIST with two latents, and rings and bars.

Each trains within seconds. They are cached by seed, so treat what comes back as read-only.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from vae_np import VAE, data, noise, ops
from vae_np._types import Array
from vae_np.elbo import elbo_backward, elbo_forward
from vae_np.step import Optimiser, TrainingState, apply_gradients

MNIST_ROWS = 10_000
BATCH = 100


@cache
def digits() -> tuple[Array, Array]:
    """MNIST with every pixel on or off, split at half grey: 10,000 rows to train on, all 10,000 test rows; bytes."""
    grey = data.mnist()
    return (grey.train[:MNIST_ROWS] > 127).astype(np.uint8), (np.asarray(grey.test) > 127).astype(np.uint8)


def fit(vae: VAE, x: Array, *, steps: int, lr: float, seed: int, plain: bool = False) -> VAE:
    """Train `vae` in place on x (N, D), in batches of 100 and with a rate that falls linearly to zero; returns it.

    `plain` makes it an autoencoder: no noise (ε = 0, so z is mu) and no KL (β = 0), all else as it is. [D24]
    """
    state, values = TrainingState(vae.parameters), x if x.dtype == np.uint8 else x.astype(vae.parameters.dtype)
    for step in range(steps):
        epoch, batch = divmod(step, len(x) // BATCH)
        if batch == 0:
            order = noise.order(len(x), seed=seed, epoch=epoch)
        rows = order[batch * BATCH : (batch + 1) * BATCH]
        eps = np.zeros((BATCH, vae.arch.latent), dtype=vae.parameters.dtype)
        if not plain:
            eps = noise.normal(rows, vae.arch.latent, seed=seed, stream=noise.EPS, step=step, dtype=eps.dtype)
        _, cache = elbo_forward(*vae.model, values[rows], eps)
        elbo_backward(ops, vae.arch, cache, state.gradients, beta=0.0 if plain else 1.0)
        apply_gradients(ops, state, Optimiser(lr=lr * (1 - step / steps)))
    return vae


@cache
def mnist_vae(seed: int) -> VAE:
    """A VAE with two latents after six epochs of 10,000 digits: smooth (tanh), so that quadrature can judge it."""
    vae = VAE(784, hidden=(100,), latent=2, activation="tanh", backend="numpy", seed=seed)
    return fit(vae, digits()[0], steps=600, lr=1e-2, seed=seed)


@cache
def rings_pair(seed: int) -> tuple[VAE, VAE, Array]:
    """A VAE with two latents on 2,000 points of rings, a plain autoencoder of the same layers, and the points (N, 2).

    The VAE learns its σ; the autoencoder has none to learn, its loss is the squared error.
    """
    x, _ = data.rings(2000, seed)
    sizes: dict[str, Any] = {"hidden": (64, 64), "latent": 2, "activation": "tanh", "dtype": "float64"}
    pair = [
        VAE(2, likelihood=likelihood, sigma=0.2, backend="numpy", seed=seed, **sizes)
        for likelihood in ("normal", "normal-fixed")
    ]
    vae, autoencoder = (
        fit(vae, x, steps=3000, lr=1e-2, seed=seed, plain=plain) for vae, plain in zip(pair, (False, True), strict=True)
    )
    return vae, autoencoder, x


@cache
def bars_pair(seed: int) -> tuple[VAE, VAE, Array]:
    """The same for 1,000 images of 4 × 4 bars, with four latents: VAE, autoencoder, images (N, 16)."""
    x, _ = data.bars(4, 1000, seed)
    vae, autoencoder = (
        fit(
            VAE(16, hidden=(64,), latent=4, activation="tanh", dtype="float64", backend="numpy", seed=seed),
            x, steps=2000, lr=1e-2, seed=seed, plain=plain,
        )
        for plain in (False, True)
    )  # fmt: skip
    return vae, autoencoder, x


@cache
def digits_pair(seed: int) -> tuple[VAE, VAE]:
    """The same for 10,000 digits, with ten latents."""
    vae, autoencoder = (
        fit(VAE(784, hidden=(128,), latent=10, backend="numpy", seed=seed), digits()[0], steps=600, lr=3e-3,
            seed=seed, plain=plain)
        for plain in (False, True)
    )  # fmt: skip
    return vae, autoencoder
