"""MNIST with half of its pixels missing: what fills them, beside a mean fill and a model that saw all pixels.

    python docs/examples/missing_pixels.py [folder for the picture]

Short trainings of 784-200-20 models, composed where pixels are missing: it takes minutes, or half an hour on a busy
machine. The error is that of missing pixels' grey.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from vae_np import VAE, data
from vae_np.evaluation.annealing import Annealing
from vae_np.pictures import plots

EPOCHS, SHARE, TESTED = 10, 0.5, 1000


def told(nats: np.ndarray) -> str:
    """Mean and standard error over images."""
    return f"{nats.mean():.2f} ± {nats.std(ddof=1) / np.sqrt(len(nats)):.2f} nats"


def main() -> None:
    mnist = data.load("mnist")
    rng = np.random.default_rng(0)
    there = rng.random(mnist.train.shape) >= SHARE
    seen = rng.random(mnist.test[:TESTED].shape) >= SHARE
    test = mnist.test[:TESTED]
    grey, holes = test / 255, ~seen
    means = np.where(there, mnist.train, 0).sum(axis=0) / there.sum(axis=0) / 255
    filled = {"the mean of each pixel": np.broadcast_to(means, grey.shape)}
    models = {"trained with half of the pixels, zeros": "zero", "trained with half of the pixels, mask": "mask"}
    models["trained with all pixels"] = None
    bounds: dict[str, dict[str, np.ndarray]] = {}
    for name, missing in models.items():
        started = time.perf_counter()
        vae = VAE(784, hidden=(200,), latent=20, missing=missing, seed=0)
        masks = {} if missing is None else {"mask": there}
        vae.fit(mnist.train, **masks, epochs=EPOCHS, objective="iwae", samples=5)
        found = vae.impute(test, mask=seen, samples=1000)
        filled[name] = found.mean
        # An encoder that has only seen holes is far off for complete images; annealing needs none.
        annealed = vae.annealed_log_likelihood(test[:50], Annealing(8, 1000))
        bounds[name] = {
            "log p of complete test images": vae.log_likelihood(test[:200], samples=1000).log_likelihood,
            "the same by annealing, first 50": annealed.log_likelihood,
        }
        if missing is not None:
            holed = np.ma.masked_array(test, holes)
            bounds[name]["ELBO of half of their pixels"] = vae.elbo(holed, z_samples=10).elbo
            bounds[name]["log p of half of their pixels"] = vae.log_likelihood(holed[:200], samples=1000).log_likelihood
        took = time.perf_counter() - started
        print(f"{name}: {took:.0f} s, effective sample size {np.median(found.ess):.1f} (median)", flush=True)
        for what, nats in bounds[name].items():
            print(f"    {what:32} {told(nats)}", flush=True)
    filled["reconstructed by it from all pixels"] = vae.reconstruct(test)
    zeros, with_mask, _ = bounds.values()
    for what, nats in with_mask.items():
        print(f"mask minus zeros, image by image: {what:32} {told(nats - zeros[what])}", flush=True)
    for name, x in filled.items():
        error = (x - grey)[holes]
        print(
            f"{name:45} root mean square error {np.sqrt((error**2).mean()):.4f}, mean error {np.abs(error).mean():.4f}"
        )
    if len(sys.argv) > 1:
        shown = [np.where(holes, 0.5, grey), *(np.where(holes, x, grey) for x in filled.values()), grey]
        rows = np.concatenate([each[:12] for each in shown])
        picture = plots.image_grid(rows, (28, 28), columns=12)
        plots.save(picture, Path(sys.argv[1]) / "17-missing-pixels.png")


if __name__ == "__main__":
    main()
