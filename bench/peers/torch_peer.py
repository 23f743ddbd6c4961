"""The training step in PyTorch: nn.Linear's functions, fused Adam, eager or compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from vae_np.model import Architecture, Parameters

ACTIVATIONS = {"relu": F.relu, "tanh": torch.tanh, "softplus": F.softplus}


def _tensors(parameters: Parameters) -> dict[str, torch.Tensor]:
    """Our parameters in PyTorch's layout, weights (out, in)."""
    return {
        name: torch.tensor(value.T.copy() if value.ndim == 2 else value.copy(), requires_grad=True)
        for name, value in parameters.items()
    }


def _loss(arch: Architecture, tensors: dict[str, torch.Tensor], x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
    def linear(h: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(h, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    activation = ACTIVATIONS[arch.activation]
    h = x
    for i in range(len(arch.hidden)):
        h = activation(linear(h, f"encoder.hidden.{i}"))
    mu, logvar = linear(h, "encoder.mu"), linear(h, "encoder.logvar")
    h = mu + torch.exp(0.5 * logvar) * eps
    for i in range(len(arch.hidden)):
        h = activation(linear(h, f"decoder.hidden.{i}"))
    logits = linear(h, "decoder.out")
    missed = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (missed + kl) / len(x)


def loss(arch: Architecture, parameters: Parameters, x: Any, eps: Any) -> float:
    """The loss on given noise, to be compared with ours."""
    with torch.no_grad():
        return float(_loss(arch, _tensors(parameters), torch.tensor(x.astype(np.float32)), torch.tensor(eps)))


def step(
    arch: Architecture, parameters: Parameters, x: Any, *, compiled: bool, threads: int, grey: bool = False
) -> Callable[[], object]:
    """A training step on x (B, D): binary, or with `grey` bytes that are drawn anew each step."""
    torch.set_num_threads(threads)
    tensors = _tensors(parameters)
    optimiser = torch.optim.Adam(list(tensors.values()), lr=1e-3, fused=True)
    given = torch.tensor(x.astype(np.float32) / (255 if grey else 1))

    def one(seen: torch.Tensor) -> torch.Tensor:
        return _loss(arch, tensors, seen, torch.randn(len(seen), arch.latent))

    forward = torch.compile(one) if compiled else one

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        forward(torch.bernoulli(given) if grey else given).backward()
        optimiser.step()

    return run
