"""A model as a plain PyTorch module with the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.errors import InputError
from vae_np.model import Architecture


def to_module(arch: Architecture, parameters: Mapping[str, Array]) -> Any:
    """An nn.Module with `encode(x)` → (mu, logvar), `decode(z)` → logits or mean, and `forward(x, eps)` → all three.

    Its state_dict has our names. Raises InputError where PyTorch is missing, and for a model without an encoder.
    """
    if arch.inference != "amortized":
        raise InputError(f"torch: got a model with inference {arch.inference!r}, expected one that has an encoder")
    if arch.posterior != "diagonal":
        raise InputError(f"torch: got a model with posterior {arch.posterior!r}, expected 'diagonal'")
    if arch.top_latent is not None:
        raise InputError(f"torch: got a model with top_latent {arch.top_latent}, expected one stochastic layer")
    if arch.observation is not None:
        raise InputError(
            f"torch: got a model with likelihood {arch.likelihood!r} and missing {arch.missing!r}, expected a "
            "Bernoulli or normal one without missing cells"
        )
    try:
        import torch
    except ImportError:
        raise InputError("torch: the package is not installed: pip install torch") from None
    from torch import nn

    activation = {"relu": torch.relu, "tanh": torch.tanh, "softplus": nn.functional.softplus}[arch.activation]

    class Half(nn.Module):
        def __init__(self, widths: tuple[int, ...], ends: Mapping[str, int]) -> None:
            super().__init__()
            self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
            for name, width in ends.items():
                self.add_module(name, nn.Linear(widths[-1], width))
            self.ends = tuple(ends)

        def forward(self, x: Any) -> tuple[Any, ...]:
            for layer in self.hidden:
                x = activation(layer(x))
            return tuple(getattr(self, name)(x) for name in self.ends)

    class VAEModule(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = Half((arch.features, *arch.hidden), {"mu": arch.latent, "logvar": arch.latent})
            self.decoder = Half((arch.latent, *arch.decoder_widths), {"out": arch.features})
            if "likelihood.logvar" in parameters:
                self.likelihood = nn.Module()
                self.likelihood.logvar = nn.Parameter(torch.zeros(parameters["likelihood.logvar"].shape))

        def encode(self, x: Any) -> tuple[Any, ...]:
            """x (B, D) → mu (B, K), log σ² (B, K)."""
            mu, logvar = self.encoder(x)
            return mu, logvar

        def decode(self, z: Any) -> Any:
            """z (B, K) → logits or mean (B, D)."""
            return self.decoder(z)[0]

        def forward(self, x: Any, eps: Any) -> tuple[Any, ...]:
            """x (B, D), ε (B, K) → logits or mean of x given z = μ + σ ε, mu, log σ²."""
            mu, logvar = self.encode(x)
            return self.decode(mu + torch.exp(0.5 * logvar) * eps), mu, logvar

    module = VAEModule().to(torch.float64 if next(iter(parameters.values())).dtype == np.float64 else torch.float32)
    module.load_state_dict(
        {
            name: torch.from_numpy(np.array(tensor.T if name.endswith(".weight") else tensor, order="C"))
            for name, tensor in parameters.items()
        }
    )
    return module
