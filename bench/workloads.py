"""What is timed: the models, the batches and the operations. Everything that times something takes it from here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np

from vae_np import data, noise, ops
from vae_np.model import Architecture, initialise
from vae_np.step import Optimiser, TrainingState, training_step

SEED = 0


@dataclass(frozen=True)
class Workload:
    """A model and a batch size."""

    arch: Architecture
    batch: int


WORKLOADS = {
    "pt": Workload(Architecture(784, 20, (400,), "relu"), 128),
    "kingma": Workload(Architecture(784, 20, (500,), "tanh"), 100),
    "iwae": Workload(Architecture(784, 50, (200, 200), "tanh"), 20),
    "wide": Workload(Architecture(784, 64, (1024, 1024), "relu"), 512),
}


def binary_batch(workload: Workload) -> tuple[Any, Any]:
    """The first rows of MNIST, binarised: x (B, 784) as bytes, and their places."""
    rows = np.arange(workload.batch)
    grey = data.load("mnist").train[rows]
    return noise.bernoulli(grey, seed=SEED, stream=noise.BINARIZE, step=0, rows=rows), rows


def reference_step(workload: Workload, dtype: Any = np.float32) -> Callable[[], object]:
    """A training step of the reference on given binary x: it draws ε, and does forward, backward and Adam."""
    x, rows = binary_batch(workload)
    state = TrainingState(initialise(workload.arch, seed=SEED, dtype=dtype))
    optimiser = Optimiser()
    return lambda: training_step(ops, workload.arch, state, x, rows, seed=SEED, optimiser=optimiser)


def gemm_only(workload: Workload, dtype: Any = np.float32) -> Callable[[], object]:
    """Every matrix product of a dense training step and nothing else: forward, weight and input gradients.

    The first layer has no input gradient. The two heads of the encoder are one product each way.
    """
    arch, rng = workload.arch, np.random.default_rng(SEED)
    encoder = [arch.features, *arch.hidden, 2 * arch.latent]
    decoder = [arch.latent, *reversed(arch.hidden), arch.features]
    layers = []
    for widths in (encoder, decoder):
        for inputs, outputs in pairwise(widths):
            x, weight, dy = (
                rng.standard_normal(shape, dtype=np.float32).astype(dtype)
                for shape in ((workload.batch, inputs), (inputs, outputs), (workload.batch, outputs))
            )
            out = tuple(np.empty(shape, dtype) for shape in (dy.shape, weight.shape, x.shape))
            layers.append((x, weight, dy, out, widths is decoder or inputs != arch.features))

    def products() -> None:
        for x, weight, dy, (y, dweight, dx), input_gradient in layers:
            np.matmul(x, weight, out=y)
            np.matmul(x.T, dy, out=dweight)
            if input_gradient:
                np.matmul(dy, weight.T, out=dx)

    return products


def operations(backend: ModuleType, workload: Workload, dtype: Any = np.float32) -> dict[str, Callable[[], object]]:
    """Each operation of the contract on this workload's shapes, by name."""
    arch, batch = workload.arch, workload.batch
    rng = np.random.default_rng(SEED)
    width = arch.hidden[0]

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(dtype)

    x, rows = binary_batch(workload)
    grey = data.load("mnist").train[rows]
    weight, bias = 0.05 * normal(arch.features, width), normal(width)
    h, out_weight, out_bias = normal(batch, width), 0.05 * normal(width, arch.features), normal(arch.features)
    mu, logvar, eps = (normal(batch, arch.latent) for _ in range(3))
    logits = normal(batch, arch.features)
    per_row, dz, dh = normal(batch), normal(batch, arch.latent), normal(batch, width)
    sigma, log_w = normal(arch.features), normal(50, batch)
    _, dense = backend.affine_act_forward(h, out_weight, out_bias, "identity")
    _, binary = backend.binary_affine_act_forward(x, weight, bias, arch.activation)
    _, reparam = backend.reparam_kl_forward(mu, logvar, eps)
    _, bernoulli = backend.bernoulli_loglik_forward(x, logits)
    _, gaussian = backend.normal_loglik_forward(logits, logits, sigma)
    flat = [np.abs(normal(653_000)) for _ in range(4)]
    address = {"seed": SEED, "step": 0}
    return {
        "affine_act_forward": lambda: backend.affine_act_forward(h, out_weight, out_bias, "identity"),
        "affine_act_backward": lambda: backend.affine_act_backward(logits, dense),
        "binary_affine_act_forward": lambda: backend.binary_affine_act_forward(x, weight, bias, arch.activation),
        "binary_affine_act_backward": lambda: backend.binary_affine_act_backward(dh, binary),
        "reparam_kl_forward": lambda: backend.reparam_kl_forward(mu, logvar, eps),
        "reparam_kl_backward": lambda: backend.reparam_kl_backward((dz, per_row), reparam),
        "bernoulli_loglik_forward": lambda: backend.bernoulli_loglik_forward(x, logits),
        "bernoulli_loglik_backward": lambda: backend.bernoulli_loglik_backward(per_row, bernoulli),
        "normal_loglik_forward": lambda: backend.normal_loglik_forward(logits, logits, sigma),
        "normal_loglik_backward": lambda: backend.normal_loglik_backward(per_row, gaussian),
        "log_mean_exp_weights": lambda: backend.log_mean_exp_weights(log_w),
        "adam_update": lambda: backend.adam_update(*flat, step=1, lr=1e-9),
        "philox_normal": lambda: backend.philox_normal(rows, arch.latent, stream=noise.EPS, **address),
        "philox_bernoulli": lambda: backend.philox_bernoulli(grey, stream=noise.BINARIZE, rows=rows, **address),
    }
