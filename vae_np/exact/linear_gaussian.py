"""The linear-Gaussian model, where nothing has to be approximated: z ~ N(0, I), x|z ~ N(W z + b, Ψ). [D52]

log p(x), the posterior, every ELBO and its gradient, the best diagonal q and its gap are closed forms; probabilistic
PCA (Ψ = σ²I) has its maximum-likelihood solution in closed form, factor analysis (Ψ diagonal) by exact EM. A linear
VAE without hidden layers is this model, and `to_parameters` writes it as one, with its best encoder.
(Tipping & Bishop 1999; Rubin & Thayer 1982; Lucas et al. 2019)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.distributions import LOG_2PI
from vae_np.errors import InputError
from vae_np.parameters import Parameters


def cholesky(covariance: Array, name: str) -> Array:
    """The lower Cholesky factor L of a covariance (..., K, K); raises InputError unless symmetric and pos. definite."""
    matrix = np.asarray(covariance, dtype=np.float64)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise InputError(f"{name}: got shape {matrix.shape}, expected a square matrix")
    if not np.isfinite(matrix).all():
        raise InputError(f"{name}: got a value that is not finite, expected a positive definite matrix")
    if not np.allclose(matrix, np.swapaxes(matrix, -1, -2), rtol=1e-10, atol=1e-12 * np.abs(matrix).max(initial=0)):
        raise InputError(f"{name}: got a matrix that is not symmetric, expected a positive definite one")
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        smallest = float(np.linalg.eigvalsh(matrix).min())
        raise InputError(
            f"{name}: got a matrix with eigenvalue {smallest:.3g}, expected a positive definite one"
        ) from None


def _full_covariance(noise: float | Array, features: int) -> Array:
    wide = np.asarray(noise, dtype=np.float64)
    if wide.ndim < 2:
        wide = np.diag(np.broadcast_to(wide, (features,)))
    if wide.shape != (features, features):
        raise InputError(f"noise: got shape {np.shape(noise)}, expected a number, ({features},) or (D, D)")
    return wide


def _gaussian_log_prob(d: Array, chol: Array) -> Array:
    whitened = np.linalg.solve(chol, d.T)
    return -0.5 * ((whitened**2).sum(axis=0) + len(chol) * LOG_2PI) - np.log(np.diag(chol)).sum()


@dataclass(frozen=True)
class LinearGaussian:
    """W `weight` (D, K), b `bias` (D,) and Ψ `noise` (a number σ², variances (D,), or a covariance (D, D)), float64.
    [D52]

    Raises InputError for shapes that do not fit, or a Ψ that is not positive definite.
    """

    weight: Array
    bias: Array
    noise: Array | float

    def __post_init__(self) -> None:
        weight = np.asarray(self.weight, dtype=np.float64)
        bias = np.asarray(self.bias, dtype=np.float64)
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise InputError(f"weight, bias: got shapes {weight.shape} and {bias.shape}, expected (D, K) and (D,)")
        noise = _full_covariance(self.noise, len(bias))
        cholesky(noise, "noise")
        for name, value in (("weight", weight), ("bias", bias), ("noise", noise)):
            object.__setattr__(self, name, value)

    @property
    def psi(self) -> Array:
        """Ψ as a matrix, (D, D)."""
        return np.asarray(self.noise)

    @property
    def features(self) -> int:
        """D."""
        return self.weight.shape[0]

    @property
    def latent(self) -> int:
        """K."""
        return self.weight.shape[1]

    @property
    def pull(self) -> Array:
        """WᵀΨ⁻¹, (K, D)."""
        return np.linalg.solve(self.psi, self.weight).T

    @property
    def precision(self) -> Array:
        """Λ = I + WᵀΨ⁻¹W, the posterior's precision, the same for every x: (K, K)."""
        return np.eye(self.latent) + self.pull @ self.weight

    def covariance(self) -> Array:
        """Cov[x] = WWᵀ + Ψ, (D, D)."""
        return self.weight @ self.weight.T + self.psi

    def log_prob(self, x: Array) -> Array:
        """log p(x) = log N(x; b, WWᵀ + Ψ), (N,) in nats."""
        return _gaussian_log_prob(x - self.bias, cholesky(self.covariance(), "covariance"))

    def log_joint(self, x: Array, z: Array) -> Array:
        """log p(x, z), (N,) in nats, for x (N, D) and z (N, K) that broadcast."""
        residual = x - self.bias - z @ self.weight.T
        log_prior = -0.5 * ((z * z).sum(axis=-1) + self.latent * LOG_2PI)
        return log_prior + _gaussian_log_prob(residual, cholesky(self.psi, "noise"))

    def posterior(self, x: Array) -> tuple[Array, Array]:
        """p(z|x) = N(Λ⁻¹WᵀΨ⁻¹(x − b), Λ⁻¹): means (N, K) and the one covariance (K, K)."""
        covariance = np.linalg.inv(self.precision)
        return (x - self.bias) @ self.pull.T @ covariance, covariance

    def posterior_log_prob(self, x: Array, z: Array) -> Array:
        """log p(z|x), (N,) in nats."""
        mean, covariance = self.posterior(x)
        return _gaussian_log_prob(z - mean, cholesky(covariance, "posterior covariance"))

    def best_diagonal(self, x: Array) -> tuple[Array, Array, float]:
        """argmin_q KL(q ‖ p(z|x)) among diagonal normals: means (N, K), variances 1/Λ_jj (K,), and the KL that is left.

        That gap to log p(x) is ½ (Σ log Λ_jj − log |Λ|), whatever x. [D11]
        """
        mean, _ = self.posterior(x)
        diagonal = np.diag(self.precision)
        gap = 0.5 * (np.log(diagonal).sum() - np.linalg.slogdet(self.precision)[1])
        return mean, 1 / diagonal, float(gap)

    def best_diagonal_forward(self, x: Array) -> tuple[Array, Array]:
        """argmin_q KL(p(z|x) ‖ q) among diagonal normals: the posterior's own means (N, K) and variances (K,). [D11]"""
        mean, covariance = self.posterior(x)
        return mean, np.diag(covariance).copy()

    def elbo(self, x: Array, mu: Array, covariance: Array) -> Array:
        """L[q] of q = N(mu, S), (N,) in nats: mu (N, K), S (K, K) or (N, K, K), full or diagonal. [D12]

        E_q log p(x|z) = log N(x; Wμ + b, Ψ) − ½ tr(WᵀΨ⁻¹W S), less the KL to the prior. [D23]
        """
        chol = cholesky(covariance, "covariance")
        expected = _gaussian_log_prob(x - self.bias - mu @ self.weight.T, cholesky(self.psi, "noise"))
        spread = np.einsum("ij,...ji->...", self.pull @ self.weight, covariance)
        trace = np.trace(covariance, axis1=-2, axis2=-1)
        log_det = 2 * np.log(np.diagonal(chol, axis1=-2, axis2=-1)).sum(axis=-1)
        kl = 0.5 * (trace + (mu * mu).sum(axis=-1) - self.latent - log_det)
        return expected - 0.5 * spread - kl

    def elbo_gradient(self, x: Array, mu: Array, logvar: Array) -> tuple[Array, Array]:
        """∂L/∂μ = WᵀΨ⁻¹(d − Wμ) − μ and ∂L/∂v_j = ½(1 − e^{v_j} Λ_jj) for a diagonal q; (N, K) each. [D22]"""
        return self._mean_gradient(x, mu), 0.5 * (1 - np.exp(logvar) * np.diag(self.precision))

    def elbo_gradient_full(self, x: Array, mu: Array, chol: Array) -> tuple[Array, Array]:
        """∂L/∂μ (N, K) as above and ∂L/∂L = diag(1/L_ii) − tril(Λ L), (N, K, K), for q = N(μ, L Lᵀ). [D23]"""
        inverse = np.eye(self.latent) / np.diagonal(chol, axis1=-2, axis2=-1)[..., None]
        return self._mean_gradient(x, mu), inverse - np.tril(self.precision @ chol)

    def _mean_gradient(self, x: Array, mu: Array) -> Array:
        return (x - self.bias - mu @ self.weight.T) @ self.pull.T - mu

    def kl_to_posterior(self, x: Array, mu: Array, covariance: Array) -> Array:
        """KL(q ‖ p(z|x)) between the two normals directly, (N,) in nats, for q = N(mu, S). [D11]"""
        mean, _ = self.posterior(x)
        precision, d = self.precision, mu - mean
        log_det = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(precision)[1]
        trace = np.einsum("ij,...ji->...", precision, covariance)
        return 0.5 * (trace + np.einsum("ni,ij,nj->n", d, precision, d) - self.latent - log_det)

    def sample(self, z: Array, eps: Array) -> Array:
        """x = W z + b + Ψ^½ ε, (N, D), for z (N, K) and eps (N, D) standard normal. [D6]"""
        return z @ self.weight.T + self.bias + eps @ cholesky(self.psi, "noise").T


def _check_latent(x: Array, latent: int) -> None:
    if x.ndim != 2 or len(x) < 2 or not np.isfinite(x).all():
        raise InputError(f"x: got shape {x.shape}, expected finite numbers (N, D) with N >= 2")
    if not 1 <= latent < x.shape[1]:
        raise InputError(f"latent: got {latent}, expected 1 to {x.shape[1] - 1}: fewer than the features")


def _spectrum(x: Array) -> tuple[Array, Array]:
    """Eigenvalues (D,), largest first, and eigenvectors (D, D) of the covariance of x, with 1/N."""
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    return values[::-1], vectors[:, ::-1]


def ppca(x: Array, latent: int, *, rotation: Array | None = None) -> LinearGaussian:
    """Probabilistic PCA's maximum-likelihood model of x (N, D): W = U_k (Λ_k − σ²I)^½ R, σ² the mean discarded λ. [D52]

    Every orthogonal R (K, K) gives the same likelihood; at R = I a diagonal q is exact. Raises InputError for K ≥ D
    and for data that leave no noise.
    """
    x = np.asarray(x, dtype=np.float64)
    _check_latent(x, latent)
    values, vectors = _spectrum(x)
    noise = float(values[latent:].mean())
    if not noise > 1e-12 * values[0]:
        raise InputError(f"x: got data that lie in {latent} dimensions, expected variance outside them")
    weight = vectors[:, :latent] * np.sqrt(np.maximum(values[:latent] - noise, 0))
    return LinearGaussian(weight if rotation is None else weight @ rotation, x.mean(axis=0), noise)


def ppca_log_likelihood(x: Array, latent: int) -> float:
    """The mean log-likelihood of `ppca`, from eigenvalues alone: −½ [D log 2π + Σ_{j≤k} log λ_j + (D−k) log σ² + D]."""
    x = np.asarray(x, dtype=np.float64)
    _check_latent(x, latent)
    values, _ = _spectrum(x)
    discarded = x.shape[1] - latent
    log_det = np.log(values[:latent]).sum() + discarded * math.log(values[latent:].mean())
    return float(-0.5 * (x.shape[1] * (LOG_2PI + 1) + log_det))


def em_step(model: LinearGaussian, x: Array, *, isotropic: bool) -> LinearGaussian:
    """One exact EM step: posteriors in closed form, then the W and Ψ that maximise the expected log p(x, z). [D16]

    Ψ = σ²I (`isotropic`: probabilistic PCA) or diagonal (factor analysis). b becomes the data's mean, whose
    maximum-likelihood value it is. The likelihood never falls.
    """
    bias = x.mean(axis=0)
    d = x - bias
    mean, covariance = LinearGaussian(model.weight, bias, model.noise).posterior(x)
    cross = d.T @ mean / len(x)
    weight = np.linalg.solve(mean.T @ mean / len(x) + covariance, cross.T).T
    variances = (d * d).mean(axis=0) - (weight * cross).sum(axis=1)
    return LinearGaussian(weight, bias, float(variances.mean()) if isotropic else variances)


def expectation_maximisation(
    model: LinearGaussian, x: Array, *, steps: int, isotropic: bool, tolerance: float = 0.0
) -> tuple[LinearGaussian, list[float]]:
    """EM from `model`: the last model and the mean log-likelihood before each step and after the last. [D16]

    Stops early once a step gains less than `tolerance` nats per example.
    """
    x = np.asarray(x, dtype=np.float64)
    _check_latent(x, model.latent)
    trace = [float(model.log_prob(x).mean())]
    for _ in range(steps):
        model = em_step(model, x, isotropic=isotropic)
        trace.append(float(model.log_prob(x).mean()))
        if trace[-1] - trace[-2] < tolerance:
            break
    return model, trace


def to_parameters(model: LinearGaussian) -> tuple[Architecture, Parameters]:
    """The model as a VAE without hidden layers, float64, with the best diagonal encoder of all. [D19]

    Its encoder's mean is the posterior's and its variances are 1/Λ_jj: linear in x, so amortisation costs nothing.
    The likelihood is `normal` for an isotropic Ψ and `normal-diagonal` for a diagonal one; else InputError.
    """
    variances = np.diag(model.psi)
    if (model.psi != np.diag(variances)).any():
        raise InputError("noise: got a full covariance, expected a diagonal one: a decoder's pixels are independent")
    isotropic = bool((variances == variances[0]).all())
    arch = Architecture(
        features=model.features,
        latent=model.latent,
        hidden=(),
        likelihood="normal" if isotropic else "normal-diagonal",
        sigma=float(np.sqrt(variances[0])),
    )
    parameters = Parameters(arch.shapes(), np.float64)
    encoder = model.pull.T @ np.linalg.inv(model.precision)
    parameters["encoder.mu.weight"][...] = encoder
    parameters["encoder.mu.bias"][...] = -model.bias @ encoder
    parameters["encoder.logvar.bias"][...] = -np.log(np.diag(model.precision))
    parameters["decoder.out.weight"][...] = model.weight.T
    parameters["decoder.out.bias"][...] = model.bias
    parameters["likelihood.logvar"][...] = np.log(variances[:1] if isotropic else variances)
    return arch, parameters


def from_parameters(arch: Architecture, parameters: Mapping[str, Array]) -> LinearGaussian:
    """The linear-Gaussian model that a VAE without hidden layers is; raises InputError for any other."""
    if arch.hidden or arch.decoder_widths or arch.is_bernoulli:
        raise InputError(
            f"arch: got hidden {arch.hidden} and {arch.likelihood!r}, expected no hidden layer and a normal likelihood"
        )
    if arch.top_latent is not None:
        raise InputError(f"arch: got top_latent {arch.top_latent}, expected one stochastic layer")
    if arch.prior != "standard" or arch.conditions:
        raise InputError(
            f"arch: got prior {arch.prior!r} and {arch.conditions} conditions, expected 'standard' and no conditions"
        )
    if arch.likelihood == "normal-fixed":
        variances = np.full(arch.features, arch.sigma**2)
    else:
        logvar = np.asarray(parameters["likelihood.logvar"], dtype=np.float64)
        variances = np.exp(np.broadcast_to(logvar, (arch.features,)))
    weight = np.asarray(parameters["decoder.out.weight"], dtype=np.float64).T
    return LinearGaussian(weight, np.asarray(parameters["decoder.out.bias"], dtype=np.float64), variances)
