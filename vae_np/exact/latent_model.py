"""What the exact tools need of a decoder, whether its parameters are learned or it is a function in Python. [D3]"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from vae_np import ops
from vae_np._types import Array
from vae_np.choices import Likelihood
from vae_np.elbo import standard_normal_log_prob
from vae_np.errors import InputError
from vae_np.parameters import Parameters

# Nodes decoded at once by the (B, M) functions: their outputs and temporaries then take tens of megabytes at D = 784.
NODES = 2048
# Factors of at most 2 whose product stays below the largest double.
_FACTORS = 1000


def softplus_sum(logits: Array) -> Array:
    """Σ_d log(1 + exp l_d), (M,), as Σ max(l, 0) + log Π (1 + exp −|l|): one logarithm a row instead of D. [D4]

    Measured a tenth of the time of a softplus a pixel, which was most of what quadrature cost; the absolute error is
    D rounding errors of 1e-16.
    """
    total = np.maximum(logits, 0).sum(axis=1)
    factors = np.exp(-np.abs(logits)) + 1
    for start in range(0, logits.shape[1], _FACTORS):
        total += np.log(factors[:, start : start + _FACTORS].prod(axis=1))
    return total


def bernoulli_matrix(x: Array, logits: Array) -> Array:
    """Σ_d log p(x_bd | z_m), (B, M), from x (B, D) and logits (M, D): one matrix product, since x enters linearly."""
    return x @ logits.T - softplus_sum(logits)


class LatentModel(ABC):
    """p(z) p(x|z) with p(z) = N(0, I): what quadrature and variational inference for one x call."""

    @property
    @abstractmethod
    def latent(self) -> int:
        """K, the number of latents."""

    @property
    @abstractmethod
    def features(self) -> int:
        """D, the number of features."""

    @property
    @abstractmethod
    def likelihood(self) -> Likelihood:
        """The family of p(x|z)."""

    @property
    def may_miss(self) -> bool:
        """Whether cells of x may be NaN, of which log p(x|z) takes no notice. [D67]"""
        return False

    @property
    def is_bernoulli(self) -> bool:
        """Whether x is 0 and 1 (otherwise it is real)."""
        return self.likelihood.startswith("bernoulli")

    @abstractmethod
    def loglik_block(self, x: Array, z: Array) -> Array:
        """log p(x_b | z_m) for every pair, (B, M) in nats, for a few thousand z (M, K). [D4] [D5]"""

    @abstractmethod
    def loglik_forward(self, x: Array, z: Array) -> tuple[Array, Any]:
        """log p(x_b | z_sb), (S·B,) in nats, for z (S·B, K) sample-major, and what backward needs. [D4] [D5]"""

    @abstractmethod
    def loglik_backward(self, dloglik: Array, cache: Any, gradients: Parameters | None) -> Array:
        """dz (S·B, K) from dloglik (S·B,); writes the gradient of every parameter into `gradients`, if any. [D29]"""

    @abstractmethod
    def gradients(self) -> Parameters:
        """A buffer for gradients of the parameters, zero; raises InputError where there are none."""

    def check(self, x: Array) -> Array:
        """x as float64 (B, D); raises InputError for a wrong shape, or for grey values under a Bernoulli likelihood."""
        wide = np.asarray(x, dtype=np.float64)
        if wide.ndim != 2 or wide.shape[1] != self.features:
            raise InputError(f"x: got shape {wide.shape}, expected (B, {self.features})")
        missing = np.isnan(wide) if self.may_miss else np.zeros((1, 1), dtype=bool)
        if not (np.isfinite(wide) | missing).all():
            raise InputError("x: got a value that is not finite, expected finite numbers")
        if self.is_bernoulli and not ((wide == 0) | (wide == 1) | missing).all():
            raise InputError("x: got grey values, expected 0 or 1: only those have a Bernoulli log-likelihood")
        return wide

    def loglik_matrix(self, x: Array, z: Array) -> Array:
        """log p(x_b | z_m) for every pair, (B, M) in nats, from x (B, D) and z (M, K). [D4] [D5]

        One matrix product a block of nodes instead of B·M·D numbers: Σ_d x l is bilinear in x and logits, and so is
        what couples x and mean in the normal's square.
        """
        result = np.empty((len(x), len(z)))
        for start in range(0, len(z), NODES):
            part = slice(start, start + NODES)
            result[:, part] = self.loglik_block(x, z[part])
        return result

    def log_joint_matrix(self, x: Array, z: Array) -> Array:
        """log p(x_b, z_m) for every pair, (B, M) in nats."""
        return self.loglik_matrix(x, z) + standard_normal_log_prob(z)

    def prior_monte_carlo(self, x: Array, z: Array) -> Array:
        """log (1/S) Σ_s p(x|z_s) for z (S, K) drawn from the prior: (B,) in nats, biased low. [D9]"""
        return ops.log_mean_exp_weights(self.loglik_matrix(self.check(x), z).T)[0]
