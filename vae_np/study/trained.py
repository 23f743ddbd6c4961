"""Whole models, encoder and all, that several chapters look at: MNIST with two latents, and rings and bars.

Each trains within seconds through the package's own `VAE.fit`. They are cached by seed: read-only.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from vae_np import VAE, datasets
from vae_np._types import Array

MNIST_ROWS = 10_000


@cache
def digits() -> tuple[Array, Array]:
    """MNIST with every pixel on or off, split at half grey: 10,000 rows to train on, all 10,000 test rows; bytes."""
    grey = datasets.mnist()
    return (grey.train[:MNIST_ROWS] > 127).astype(np.uint8), (grey.test > 127).astype(np.uint8)


@cache
def mnist_vae(seed: int) -> VAE:
    """A VAE with two latents after six epochs of 10,000 digits: smooth (tanh), so that quadrature can judge it."""
    vae = VAE(784, hidden=(100,), latent=2, activation="tanh", backend="numpy", seed=seed)
    vae.fit(digits()[0], epochs=6, batch_size=100, lr=3e-3)
    return vae
