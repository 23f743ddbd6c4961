"""A model as a plain PyTorch module with the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.errors import InputError
from vae_np.interchange.naming import check_encoder


def to_module(arch: Architecture, parameters: Mapping[str, Array]) -> Any:
    """An nn.Module with `encode(x)` → (mu, logvar), `decode(z)` → logits or mean, and `forward(x, eps)` → all three.

    With a full covariance `encode` and `forward` end with a third output of the encoder, `below`. Its state_dict has
    our names. Raises InputError where PyTorch is missing, and for a model whose q is not what an encoder of normals
    says.
    """
    check_encoder("torch", arch)
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
            ends = {"mu": arch.latent, "logvar": arch.latent, **arch.family.heads()}
            self.encoder = Half((arch.features, *arch.hidden), ends)
            self.decoder = Half((arch.latent, *arch.decoder_widths), {"out": arch.features})
            if "likelihood.logvar" in parameters:
                self.likelihood = nn.Module()
                self.likelihood.logvar = nn.Parameter(torch.zeros(parameters["likelihood.logvar"].shape))

        def encode(self, x: Any) -> tuple[Any, ...]:
            """x (B, D) → mu (B, K), log σ² (B, K), and of a full covariance what is below L's diagonal."""
            return tuple(self.encoder(x))

        def decode(self, z: Any) -> Any:
            """z (B, K) → logits or mean (B, D)."""
            return self.decoder(z)[0]

        def forward(self, x: Any, eps: Any) -> tuple[Any, ...]:
            """x (B, D), ε (B, K) → logits or mean of x given z = μ + σ ε, or μ + L ε, and what `encode` returns."""
            mu, logvar, *below = q = self.encode(x)
            z = mu + torch.exp(0.5 * logvar) * eps
            for entries in below:
                lower = eps.new_zeros(len(eps), arch.latent, arch.latent)
                rows, columns = np.tril_indices(arch.latent, -1)
                lower[:, rows, columns] = entries
                z = z + (lower @ eps[..., None])[..., 0]
            return self.decode(z), *q

    module = VAEModule().to(torch.float64 if next(iter(parameters.values())).dtype == np.float64 else torch.float32)
    module.load_state_dict(
        {
            name: torch.from_numpy(np.array(tensor.T if name.endswith(".weight") else tensor, order="C"))
            for name, tensor in parameters.items()
        }
    )
    return module
