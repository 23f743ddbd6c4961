"""The decoder alone, as the latent-variable model it is: p(z) = N(0, I), p(x|z), and p(x) = ∫ p(z) p(x|z) dz. [D3]

No encoder appears here. Everything is float64, whatever the precision of the parameters that were handed in, because
what is built on it (quadrature, optimisation to convergence) is judged to many digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vae_np import ops
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.choices import Likelihood
from vae_np.distributions import LOG_2PI, bernoulli_sample, normal_sample
from vae_np.errors import InputError
from vae_np.exact.latent_model import NODES, LatentModel, bernoulli_matrix
from vae_np.layers import sigmoid
from vae_np.model import Model, decode_backward, decode_forward, loglik_backward, loglik_forward
from vae_np.parameters import Parameters


@dataclass(frozen=True)
class Decoder(LatentModel):
    """p(z) p(x|z): the parameters are `decoder.*`, and `likelihood.logvar` where σ is learned, in float64."""

    model: Model

    @classmethod
    def of(cls, arch: Architecture, parameters: Mapping[str, Array]) -> Decoder:
        """A float64 copy of the decoder among `parameters` (a whole model's, or a decoder's alone)."""
        shapes = {name: shape for name, shape in arch.shapes().items() if not name.startswith("encoder.")}
        own = Parameters(shapes, np.float64)
        own.assign(parameters)
        return cls(Model(ops, arch, own))

    @property
    def arch(self) -> Architecture:
        """The architecture of the whole model, whose decoder this is."""
        return self.model.arch

    @property
    def parameters(self) -> Parameters:
        """The decoder's parameters; writing into one changes the model."""
        return self.model.parameters

    @property
    def latent(self) -> int:
        """K, the number of latents."""
        return self.arch.latent

    @property
    def may_miss(self) -> bool:
        """Whether cells of x may be NaN."""
        return self.arch.missing is not None

    @property
    def features(self) -> int:
        """D, the number of features."""
        return self.arch.features

    @property
    def likelihood(self) -> Likelihood:
        """The family of p(x|z)."""
        return self.arch.likelihood

    def moved(self, flat: Array) -> Decoder:
        """The same model at other parameters, given as one flat buffer in the layout of `parameters.flat`."""
        other = self.parameters.zeros_like()
        other.flat[...] = flat
        return Decoder(self.model._replace(parameters=other))

    def output(self, z: Array) -> Array:
        """Logits or mean of p(x|z), (M, D) from z (M, K)."""
        return decode_forward(*self.model, z)[0]

    def logvar(self) -> Array:
        """log σ² of a normal likelihood, (1,) or (D,)."""
        if self.arch.likelihood == "normal-fixed":
            return np.array([self.arch.sigma_logvar])
        return self.parameters["likelihood.logvar"]

    def sample(self, z: Array, noise: Array) -> Array:
        """x ~ p(x|z), (M, D): `noise` are uniforms (Bernoulli: bytes come back) or standard normals. [D6]"""
        if self.arch.is_composed:
            raise InputError(f"likelihood: got {self.arch.likelihood!r}, whose draws take no noise; see VAE.sample")
        if self.arch.is_bernoulli:
            return bernoulli_sample(self.output(z), noise)
        return normal_sample(self.output(z), self.logvar(), noise)

    def loglik_block(self, x: Array, z: Array) -> Array:
        """log p(x_b | z_m) for every pair, (B, M) in nats, for a few thousand z (M, K). [D4] [D5] [D67]"""
        out = self.output(z)
        if self.arch.observation is not None:
            return self._observed_block(x, out)
        return bernoulli_matrix(x, out) if self.is_bernoulli else self._normal_block(x, out)

    def _observed_block(self, x: Array, out: Array) -> Array:
        """The same for families and missing cells, which no matrix product knows: every pair by itself."""
        nodes = max(1, NODES // len(x))
        parts = []
        for start in range(0, len(out), nodes):
            every = np.repeat(out[start : start + nodes], len(x), axis=0)
            parts.append(loglik_forward(*self.model, x, every)[0].reshape(-1, len(x)))
        return np.concatenate(parts).T

    def _normal_block(self, x: Array, mean: Array) -> Array:
        logvar = np.broadcast_to(self.logvar(), x.shape[1:])
        scale = np.exp(-0.5 * logvar)
        # Both centred on the bias, so that the squares that cancel below are no larger than the data's spread.
        centre = self.parameters["decoder.out.bias"]
        a, b = (x - centre) * scale, (mean - centre) * scale
        squares = (a * a).sum(axis=1)[:, None] - 2 * (a @ b.T) + (b * b).sum(axis=1)
        return -0.5 * (squares + (LOG_2PI + logvar).sum())

    def weighted_gradient(self, x: Array, z: Array, weights: Array) -> Parameters:
        """Σ_b Σ_m w_bm ∇_θ log p(x_b | z_m) by hand, for weights (B, M). [D10] [D29]

        With p(z_m|x_b) as weights this is ∇_θ Σ_b log p(x_b) (Fisher's identity), p(z) having no θ. The sum over b is
        taken first, as Wᵀ x, so that backward runs once a node.
        """
        if self.arch.observation is not None:
            return self._observed_gradient(x, z, weights)
        total, part_of = self.gradients(), self.gradients()
        for start in range(0, len(z), NODES):
            part = slice(start, start + NODES)
            w = weights[:, part]
            out, cache = decode_forward(*self.model, z[part])
            mass, mean_x = w.sum(axis=0)[:, None], w.T @ x
            if self.arch.is_bernoulli:
                dout = mean_x - mass * sigmoid(out)
            else:
                precision = np.exp(-self.logvar())
                dout = (mean_x - mass * out) * precision
                if "likelihood.logvar" in part_of:
                    squares = w.T @ (x * x) - 2 * out * mean_x + mass * out * out
                    dlogvar = 0.5 * (squares * precision - mass)
                    own = part_of["likelihood.logvar"]
                    own[...] = dlogvar.sum() if own.size == 1 else dlogvar.sum(axis=0)
            decode_backward(self.model.ops, dout, cache, part_of)
            total.flat[...] += part_of.flat
        return total

    def _observed_gradient(self, x: Array, z: Array, weights: Array) -> Parameters:
        """The same, every pair of a row and a node by itself."""
        total, part_of = self.gradients(), self.gradients()
        nodes = max(1, NODES // len(x))
        for start in range(0, len(z), nodes):
            part = slice(start, start + nodes)
            _, cache = self.loglik_forward(x, np.repeat(z[part], len(x), axis=0))
            self.loglik_backward(weights[:, part].T.reshape(-1), cache, part_of)
            total.flat[...] += part_of.flat
        return total

    def gradients(self) -> Parameters:
        """A buffer for gradients of `parameters`, zero."""
        return self.parameters.zeros_like()

    def loglik_forward(self, x: Array, z: Array) -> tuple[Array, Any]:
        """log p(x_b | z_sb), (S·B,) in nats, for z (S·B, K) sample-major, and what backward needs. [D4] [D5]"""
        out, decoder_cache = decode_forward(*self.model, z)
        loglik, loglik_cache = loglik_forward(*self.model, x, out)
        return loglik, (decoder_cache, loglik_cache)

    def loglik_backward(self, dloglik: Array, cache: Any, gradients: Parameters | None) -> Array:
        """dz (S·B, K) from dloglik (S·B,); writes the gradient of every parameter into `gradients`, if any. [D29]"""
        decoder_cache, loglik_cache = cache
        dout = loglik_backward(self.model.ops, self.arch, dloglik, loglik_cache, gradients)
        return decode_backward(self.model.ops, dout, decoder_cache, gradients)
