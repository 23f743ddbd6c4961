"""What each family of q leaves of one decoder's gap: `python bench/best_q.py RUN ESTIMATE.npz [STEPS]`. [D20] [D57]

ESTIMATE is what `vae-np eval RUN --per-example` wrote of log p(x) for the first test images of MNIST. For each of them
q is solved for with the decoder as it is and no encoder: STEPS Adam steps on the numbers of a diagonal normal, from the
encoder's, and from where these end as many smaller ones in every family. Bounds are taken at draws that no step has
seen. It prints JSON, means in nats with their standard errors over the images.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vae_np import VAE, data, noise
from vae_np._types import Array
from vae_np.elbo import posterior_elbo_backward, posterior_elbo_forward
from vae_np.evaluation import held_out
from vae_np.evaluation.held_out import mean_and_stderr
from vae_np.model import Model
from vae_np.optim import adam_update

# By its name in the output: what the architecture has of it.
FAMILIES: dict[str, dict[str, Any]] = {
    "diagonal": {"posterior": "diagonal", "flow_steps": None},
    "full": {"posterior": "full", "flow_steps": None},
    "10 planar steps": {"posterior": "planar", "flow_steps": 10},
}
STEPS, SAMPLES, LR, SMALLER_LR = 800, 8, 0.03, 0.005
# Draws of each image's bound, so many at a time; and what the heads of a flow begin with beside zero, where all its
# steps would be one and the same.
DRAWS, AT_ONCE, SPREAD = 400, 20, 0.02


def climbed(model: Model, x: Array, start: Sequence[Array], steps: int, lr: float, seed: int) -> list[Array]:
    """mu, logvar and what else describes q for every x (B, D), after `steps` Adam steps on each from mu and logvar.

    Each step draws SAMPLES ε of its own; over the second half lr falls linearly to a hundredth.
    """
    random = np.random.default_rng(seed)
    widths = model.arch.family.heads().values()
    spread = 0.0 if model.arch.family.analytic else SPREAD
    parts = [*start, *(spread * random.standard_normal((len(x), width)) for width in widths)]
    q = np.hstack(parts).astype(model.parameters.dtype)
    places = np.cumsum([part.shape[1] for part in parts])[:-1]
    moments = np.zeros((2, q.size), dtype=q.dtype)
    for step in range(steps):
        eps = draws(model, len(x), SAMPLES, seed, 1 + step)
        mu, logvar, *more = np.split(q, places, axis=1)
        _, cache = posterior_elbo_forward(*model, x, mu, logvar, eps, more=tuple(more))
        gradient = np.hstack(posterior_elbo_backward(model.ops, model.arch, cache, None)) * len(x)
        now = lr * max(0.01, min(1.0, 2 * (1 - step / steps)))
        adam_update(q.reshape(-1), gradient.reshape(-1), *moments, step=1 + step, lr=now)
    return np.split(q, places, axis=1)


def draws(model: Model, images: int, samples: int, seed: int, step: int, first: int = 0) -> Array:
    """ε (S·B, K) from EVAL_EPS, whose step 0 is the bound's."""
    rows, sample = noise.every_sample(np.arange(images), np.arange(first, first + samples))
    return model.ops.philox_normal(
        rows, model.arch.latent, seed=seed, stream=noise.EVAL_EPS, step=step, sample=sample,
        dtype=model.parameters.dtype,
    )  # fmt: skip


def bound(model: Model, x: Array, q: Sequence[Array], seed: int) -> Array:
    """The ELBO of every x at its q, (B,) in nats, by DRAWS draws."""
    mu, logvar, *more = q
    found = np.zeros(len(x))
    for first in range(0, DRAWS, AT_ONCE):
        eps = draws(model, len(x), AT_ONCE, seed, 0, first)
        terms, _ = posterior_elbo_forward(*model, x, mu, logvar, eps, more=tuple(more))
        found += terms.elbo * (AT_ONCE / DRAWS)
    return found


def figure(values: Array) -> dict[str, float]:
    """A mean over images with its standard error."""
    return {name: round(value, 3) for name, value in mean_and_stderr(values).items()}


def main(run: Path, estimate: Path, steps: int = STEPS) -> dict[str, Any]:
    """By the family: log p(x) less the best bound, and how much less than the diagonal one's that is."""
    vae, known = VAE.load(run, backend="numba", threads=1), np.load(estimate)
    seed, count = vae.config.seed, len(known["row"])
    assert (known["row"] == np.arange(count)).all(), "expected the first test images"
    examples = held_out.Examples(data.load("mnist").test[:count], vae.values, "dynamic", seed)
    x, places = examples.batch(slice(None))
    encoded = held_out.posterior(vae.model, x, places, seed=seed)
    models = {name: vae.model._replace(arch=replace(vae.arch, **kind)) for name, kind in FAMILIES.items()}
    near = climbed(models["diagonal"], x, encoded[:2], steps, LR, seed)
    log_prob = known["log_likelihood"]
    gaps = {"encoder": log_prob - bound(vae.model, x, encoded, seed)}
    for name, model in models.items():
        gaps[name] = log_prob - bound(model, x, climbed(model, x, near, steps, SMALLER_LR, seed), seed)
    return {
        "images": count, "steps": steps, "samples": SAMPLES, "draws": DRAWS, "log_likelihood": figure(log_prob),
        "gap": {name: figure(gap) for name, gap in gaps.items()},
        "less_than_diagonal": {name: figure(gaps["diagonal"] - gaps[name]) for name in ("full", "10 planar steps")},
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])), indent=2))
