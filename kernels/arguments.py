"""What both backends say of arguments and architectures, so that each refuses the same in the same words."""

from __future__ import annotations

from typing import Any

import numpy as np

from vae_np import noise
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.choices import LIKELIHOODS
from vae_np.errors import InputError

# The numbers by which compiled code knows an activation; those of math.cuh are the same.
ACTIVATIONS = {"identity": 0, "relu": 1, "tanh": 2, "softplus": 3}
BYTE = np.dtype(np.uint8)
# What the fused steps can maximise.
OBJECTIVES = ("elbo", "iwae")


def check_adam_buffers(parameters: Array, gradient: Array, first_moment: Array, second_moment: Array) -> None:
    """Raises InputError unless Adam's buffers are flat arrays of the parameters' dtype and equal length."""
    dtype = parameters.dtype
    buffers = {"parameters": parameters, "first_moment": first_moment, "second_moment": second_moment}
    for name, buffer in buffers.items():
        if buffer.dtype != dtype or buffer.shape != gradient.shape or buffer.ndim != 1:
            raise InputError(f"{name}: got {buffer.dtype} {buffer.shape}, expected {dtype} {gradient.shape}")


def check_layer(x: Array, weight: Array, bias: Array, activation: str) -> None:
    """Raises InputError unless x (B, I), weight (I, O) and bias (O,) are a layer with an activation of the contract."""
    if activation not in ACTIVATIONS:
        raise InputError(f"activation: got {activation!r}, expected one of {', '.join(sorted(ACTIVATIONS))}")
    if x.ndim != 2 or weight.ndim != 2 or x.shape[1] != weight.shape[0] or bias.shape != weight.shape[1:]:
        shapes = f"{x.shape}, {weight.shape}, {bias.shape}"
        raise InputError(f"x, weight, bias: got shapes {shapes}, expected (B, I), (I, O), (O,)")


def noise_counters(rows: Any, sample: Any) -> tuple[Array, Array]:
    """The rows (N,) and the samples (N,) or (1,) that address noise. Raises InputError as `vae_np.noise` does. [D37]"""
    row = noise.check_integers("rows", rows, 2**32)
    samples = noise.check_integers("sample", sample, 2**24)
    if samples.size not in (1, row.size):
        raise InputError(f"sample: got {samples.size} integers, expected one, or one for each of {row.size} rows")
    return row, samples


def check_batch(x: Array, arch: Architecture, batch: int) -> None:
    """Raises InputError unless x is what a fused step takes: bytes of (batch, D), or floats for another likelihood."""
    takes_floats = arch.likelihood != "bernoulli"
    if x.shape != (batch, arch.features) or not (x.dtype == BYTE or (takes_floats and x.dtype.kind == "f")):
        kinds = "uint8 or floats" if takes_floats else "uint8"
        raise InputError(f"x: got {x.dtype} of shape {x.shape}, expected {kinds} of {(batch, arch.features)}")


def unsupported(
    arch: Architecture,
    *,
    likelihoods: tuple[str, ...] = LIKELIHOODS,
    most_latents: int | None = None,
    two_layers: bool = False,
) -> str | None:
    """Why an architecture's steps and evaluation are composed, not fused; None if they are fused."""
    if arch.likelihood not in likelihoods:
        return f"nothing is fused for likelihood {arch.likelihood}"
    if arch.inference != "amortized":
        return f"nothing is fused for inference {arch.inference}"
    if arch.top_latent is not None and not two_layers:
        return "nothing is fused for two stochastic layers"
    if not (arch.hidden and arch.decoder_widths):
        return "nothing is fused without a hidden layer"
    if most_latents is not None and arch.latent > most_latents:
        return f"nothing is fused for more than {most_latents} latents"
    return None


def check_fused(why: str | None, samples: int | None) -> None:
    """Raises InputError where an architecture is `unsupported`, and for fewer than one sample of IWAE's bound."""
    if why is not None:
        raise InputError(f"architecture: {why}")
    if samples is not None and samples < 1:
        raise InputError(f"samples: got {samples}, expected at least 1")
