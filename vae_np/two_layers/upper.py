"""The layer above z₁: an estimate of log p(z₁) by a draw of z₂, and z₁ made of standard normals. [D59] [D60]"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from vae_np._types import Array
from vae_np.distributions import normal_log_prob_backward, normal_log_prob_forward, normal_sample
from vae_np.two_layers.conditional import ConditionalNormal


@dataclass(frozen=True)
class UpperLayer:
    """p(z₂) = N(0, I) of `top` latents, p(z₁|z₂) by `generation` and q(z₂|z₁) by `inference`."""

    inference: ConditionalNormal
    generation: ConditionalNormal

    @classmethod
    def of(cls, latent: int, top: int, hidden: tuple[int, ...], activation: str) -> UpperLayer:
        """Between `latent` z₁ and `top` z₂, with these `hidden` widths from z₁ to z₂ and in reverse on the way down."""
        return cls(
            ConditionalNormal("top.encoder", latent, hidden, top, activation),
            ConditionalNormal("top.decoder", top, hidden[::-1], latent, activation),
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, in buffer order."""
        return {**self.inference.shapes(), **self.generation.shapes()}

    def log_prior_forward(
        self, ops: ModuleType, parameters: Mapping[str, Array], z: Array, eps: Array
    ) -> tuple[Array, Any]:
        """log p(z₁|z₂) + log p(z₂) − log q(z₂|z₁), (R,) in nats, at z (R, K₁) and z₂ of the noise eps (R, K₂). [D59]

        The mean of its exponential over the noise is p(z₁). Between log p(z₂) and log q(z₂|z₁), written in ε, the
        constants cancel.
        """
        (mu, logvar), of_inference = self.inference.forward(ops, parameters, z)
        top = normal_sample(mu, logvar, eps)
        (mean, spread), of_generation = self.generation.forward(ops, parameters, top)
        log_prob, of_density = normal_log_prob_forward(z, mean, spread)
        log_ratio = 0.5 * (eps * eps + logvar - top * top).sum(axis=-1)
        return log_prob + log_ratio, (of_inference, of_generation, of_density, top, logvar, eps)

    def log_prior_backward(
        self, ops: ModuleType, dlog_prior: Array, cache: Any, gradients: Mapping[str, Array] | None
    ) -> Array:
        """Returns dz (R, K₁), from dlog_prior (R,), and writes the gradients of both networks, if asked for. [D59]"""
        of_inference, of_generation, of_density, top, logvar, eps = cache
        upstream = dlog_prior[:, None]
        dz, dmean, dspread = normal_log_prob_backward(dlog_prior, of_density)
        dtop = self.generation.backward(ops, dmean, dspread, of_generation, gradients) - upstream * top
        # Along the path of the draw [D17], and −log q's own ½ logvar.
        dlogvar = 0.5 * (dtop * eps * np.exp(0.5 * logvar) + upstream)
        return dz + self.inference.backward(ops, dtop, dlogvar, of_inference, gradients)

    def draw_forward(self, ops: ModuleType, parameters: Mapping[str, Array], normals: Array) -> tuple[Array, Any]:
        """z₁ (R, K₁) of standard normals (R, K₁ + K₂), the last of which are z₂; its density is p(z₁). [D60]"""
        latent = self.generation.outputs
        lower, top = normals[:, :latent], normals[:, latent:]
        (mean, logvar), of_generation = self.generation.forward(ops, parameters, top)
        scaled = np.exp(0.5 * logvar) * lower
        return mean + scaled, (of_generation, logvar, scaled)

    def draw_backward(self, ops: ModuleType, dz: Array, cache: Any) -> Array:
        """The gradient with respect to the normals, (R, K₁ + K₂), from dz (R, K₁). [D60]"""
        of_generation, logvar, scaled = cache
        dtop = self.generation.backward(ops, dz, 0.5 * dz * scaled, of_generation, None)
        return np.concatenate([dz * np.exp(0.5 * logvar), dtop], axis=1)
