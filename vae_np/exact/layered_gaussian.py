"""Two stochastic layers, all linear and normal, where nothing has to be approximated. [D62]

    z₂ ~ N(0, I),   z₁|z₂ ~ N(A z₂ + a, diag s),   x|z₁ ~ N(W z₁ + b, σ² I)

log p(x), both posteriors p(z₁|x) and p(z₂|z₁), and the two parts of any linear q's gap are closed forms. A model with
two stochastic layers and no hidden ones is this one, and `to_parameters` writes it so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.exact.linear_gaussian import LinearGaussian
from vae_np.parameters import Parameters


@dataclass(frozen=True)
class LinearNormal:
    """N(B h + c, diag v) of some h: `weight` B (K, I), `bias` c (K,) and `variances` v (K,), float64."""

    weight: Array
    bias: Array
    variances: Array

    def mean(self, h: Array) -> Array:
        """B h + c, (N, K) for h (N, I)."""
        return h @ self.weight.T + self.bias


@dataclass(frozen=True)
class LayeredGaussian:
    """`likelihood` p(x|z₁), whose variances are all the same, and `upper` p(z₁|z₂), with p(z₂) = N(0, I)."""

    likelihood: LinearNormal
    upper: LinearNormal

    @property
    def prior(self) -> LinearGaussian:
        """p(z₁) with its layer above: N(a, A Aᵀ + diag s)."""
        return LinearGaussian(self.upper.weight, self.upper.bias, self.upper.variances)

    def log_prob(self, x: Array) -> Array:
        """log p(x) = log N(x; W a + b, W (A Aᵀ + diag s) Wᵀ + σ² I), (N,) in nats. [D62]"""
        down = self.likelihood.weight
        noise = (down * self.upper.variances) @ down.T + np.diag(self.likelihood.variances)
        return LinearGaussian(down @ self.upper.weight, self.likelihood.mean(self.upper.bias), noise).log_prob(x)

    def lower_posterior(self, x: Array) -> tuple[Array, Array]:
        """Mean (N, K₁) and covariance (K₁, K₁) of p(z₁|x). [D62]"""
        precision = np.linalg.inv(self.prior.covariance())
        pull = self.likelihood.weight.T / self.likelihood.variances
        covariance = np.linalg.inv(precision + pull @ self.likelihood.weight)
        return (precision @ self.upper.bias + (x - self.likelihood.bias) @ pull.T) @ covariance, covariance

    def upper_posterior(self, z: Array) -> tuple[Array, Array]:
        """Mean (N, K₂) and covariance (K₂, K₂) of p(z₂|z₁) at z₁ (N, K₁). [D62]"""
        return self.prior.posterior(z)

    def best(self) -> tuple[LinearNormal, LinearNormal]:
        """q(z₁|x) and q(z₂|z₁) with the posteriors' means and variances: exact where both covariances are diagonal."""
        return (
            _linear(*_affine(self.lower_posterior, self.likelihood.weight.shape[0])),
            _linear(*_affine(self.upper_posterior, self.upper.weight.shape[0])),
        )

    def gap(self, x: Array, lower: LinearNormal, upper: LinearNormal) -> tuple[Array, Array]:
        """KL(q(z₁|x) ‖ p(z₁|x)) and E KL(q(z₂|z₁) ‖ p(z₂|z₁)) over q(z₁|x), (N,) each: log p(x) − ELBO. [D61]"""
        mean, covariance = self.lower_posterior(x)
        below = _kl(lower.mean(x) - mean, lower.variances, covariance)
        top_weight, top_bias, top_covariance = _affine(self.upper_posterior, self.upper.weight.shape[0])
        # The distance of the two means is linear in z₁, so its square has a mean and a part from q(z₁|x)'s variances.
        slope = upper.weight - top_weight
        distance = lower.mean(x) @ slope.T + (upper.bias - top_bias)
        spread = np.trace(np.linalg.solve(top_covariance, (slope * lower.variances) @ slope.T))
        return below, _kl(distance, upper.variances, top_covariance) + 0.5 * spread

    def to_parameters(self, lower: LinearNormal, upper: LinearNormal) -> tuple[Architecture, Parameters]:
        """The model and this q as a VAE of two stochastic layers without hidden ones, float64. [D58]"""
        features, latent = self.likelihood.weight.shape
        arch = Architecture(
            features, latent, (), "tanh", "normal-fixed", float(np.sqrt(self.likelihood.variances[0])),
            top_latent=self.upper.weight.shape[1], top_hidden=(),
        )  # fmt: skip
        parameters = Parameters(arch.shapes(), np.float64)
        parameters["decoder.out.weight"][...] = self.likelihood.weight.T
        parameters["decoder.out.bias"][...] = self.likelihood.bias
        for name, normal in (("encoder", lower), ("top.encoder", upper), ("top.decoder", self.upper)):
            parameters[f"{name}.mu.weight"][...] = normal.weight.T
            parameters[f"{name}.mu.bias"][...] = normal.bias
            parameters[f"{name}.logvar.bias"][...] = np.log(normal.variances)
        return arch, parameters


def _kl(distance: Array, variances: Array, covariance: Array) -> Array:
    """KL(N(m, diag variances) ‖ N(m − distance, covariance)), (N,) in nats for distances (N, K)."""
    precision = np.linalg.inv(covariance)
    trace = np.diag(precision) @ variances - len(variances)
    log_det = np.linalg.slogdet(covariance)[1] - np.log(variances).sum()
    return 0.5 * (trace + log_det + np.einsum("ni,ij,nj->n", distance, precision, distance))


def _affine(posterior: Callable[[Array], tuple[Array, Array]], inputs: int) -> tuple[Array, Array, Array]:
    """Weight (K, I) and bias (K,) of a posterior's mean, which is affine in its argument, and its covariance."""
    bias, covariance = posterior(np.zeros((1, inputs)))
    columns, _ = posterior(np.eye(inputs))
    return (columns - bias).T, bias[0], covariance


def _linear(weight: Array, bias: Array, covariance: Array) -> LinearNormal:
    return LinearNormal(weight, bias, np.diag(covariance).copy())
