"""Objectives exchanged after training, as Burda et al. (2015) did: the VAE's, then IWAE's of 50 samples; the reverse.

    python docs/examples/exchanged_objectives.py

Two models of MNIST, 784-200-200-50, are trained for the paper's first three stages, one by each objective. Then each
goes on for the fourth stage, once by its own objective and once by the other. The paper exchanged after all eight
stages, so this is shortened; it takes an hour on one core. log p(x) is that of the first 1000 test images, by 5000
importance samples.
"""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np

from vae_np import VAE, data

BEFORE, AFTER, TESTED, SAMPLES = 13, 27, 1000, 5000
OBJECTIVES: dict[str, dict[str, Any]] = {
    "VAE": {"objective": "elbo", "samples": 1},
    "IWAE-50": {"objective": "iwae", "samples": 50},
}


def main() -> None:
    mnist = data.load("mnist")
    usual: dict[str, Any] = {"batch_size": 20, "schedule": "burda2015", "adam_eps": 5e-6}
    shape: dict[str, Any] = {"hidden": (200, 200), "latent": 50, "activation": "tanh", "init": "glorot", "seed": 0}
    found: dict[tuple[str, ...], np.ndarray] = {}
    for first, how in OBJECTIVES.items():
        started = VAE(784, **shape)
        started.fit(mnist.train, epochs=BEFORE, **usual, **how)
        tell(started, (first,), mnist, found)
        for then, other in OBJECTIVES.items():
            vae = copy.deepcopy(started)
            begun = time.perf_counter()
            vae.fit(mnist.train, epochs=AFTER, **usual, **other)
            tell(vae, (first, then), mnist, found, time.perf_counter() - begun)
    for first, then in (("VAE", "IWAE-50"), ("IWAE-50", "VAE")):
        gain = found[first, then] - found[first, first]
        error = gain.std(ddof=1) / np.sqrt(TESTED)
        print(f"{first}, then {then}, over {first} all the way: {gain.mean():+.2f} ± {error:.2f} nats")


def tell(
    vae: VAE, path: tuple[str, ...], mnist: data.Dataset, found: dict[tuple[str, ...], np.ndarray], seconds: float = 0
) -> None:
    """Print what a model makes of the test images, and its active latents."""
    x = mnist.test[:TESTED]
    log_p = vae.log_likelihood(x, samples=SAMPLES).log_likelihood
    elbo = vae.elbo(x, z_samples=100).elbo
    mu, _ = vae.encode(mnist.test)
    active = int((mu.var(axis=0) > 0.01).sum())
    error = log_p.std(ddof=1) / np.sqrt(TESTED)
    found[path] = log_p
    print(
        f"{', then '.join(path):22} log p(x) {log_p.mean():.2f} ± {error:.2f}, ELBO {elbo.mean():.2f}, "
        f"{active} active latents, last stage {seconds:.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
