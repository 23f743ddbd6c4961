"""What a model says of data and of latents: encoding, decoding, sampling, and its likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vae_np import data, likelihoods, memory, model, noise
from vae_np._types import Array
from vae_np.choices import Binarization, ValuesKind
from vae_np.config import counted
from vae_np.distributions import bernoulli_sample, normal_sample
from vae_np.elbo import Terms, prior_draw_forward, prior_mixture
from vae_np.evaluation import held_out
from vae_np.evaluation.annealing import AnnealedEstimate, Annealing, BidirectionalEstimate
from vae_np.evaluation.importance import Estimate
from vae_np.layers import sigmoid
from vae_np.priors import components
from vae_np.vae.base import Base, as_usual
from vae_np.vae.exactly import Exact


class Inference(Base):
    """What a `VAE` computes of data and of latents."""

    @as_usual
    def encode(
        self,
        x: data.Rows,
        *,
        given: Any = None,
        binarize: Binarization | None = None,
        values: data.Values | ValuesKind | None = None,
    ) -> tuple[Array, Array]:
        """mu and logvar (log σ²) of q(z|x), (N, K) each; optimised where the model has no encoder. [D19] [D11]

        They are the mean and the log-variance of each z_j, whatever the family of q; of 100 draws where it is a flow.
        """
        return held_out.posterior_moments(self.model, self._examples(x, binarize, self.config.seed, values, given))

    @as_usual
    def decode(self, z: ArrayLike, *, given: Any = None) -> Array:
        """E[x|z] for z (N, K), (N, D): probabilities in [0, 1] (Bernoulli), or means on the data's scale (normal). [D3]

        Grey is on the scale [0, 1], whatever that of the data was; a category is its likeliest level.
        """
        z = np.atleast_2d(np.asarray(data.unmasked(z, "z"), dtype=self.parameters.dtype))
        data.check_columns(z, self.arch.latent, "z")
        out, _ = model.decode_forward(*self.model, z, self._encoded(given, len(z)))
        if self.arch.is_composed and self.arch.observation is not None:
            return self._own_numbers(self.arch.observation.mean(self.parameters, out))
        return sigmoid(out) if self.arch.is_bernoulli else self.values.from_model(out)

    @as_usual
    def sample(self, n: int, seed: noise.Seed = 0, *, mean: bool = False, given: Any = None) -> Array:
        """n draws from the model: z ~ p(z), then x ~ p(x|z), (n, D): bytes 0 or 1, or floats as in `decode`. [D6]

        `mean=True` returns E[x|z] instead of a draw, which is what pictures usually show. A conditional model draws
        from p(x|z, given). [D79]
        """
        seed = noise.seed_of(seed)
        z = self.prior(n, seed)
        if mean:
            return self.decode(z, given=given)
        out, _ = model.decode_forward(*self.model, z, self._encoded(given, n))
        rows, dtype = np.arange(n), self.parameters.dtype
        # x|z has the prior's stream too, as sample 1, so that it never shares a block with z.
        address = {"seed": seed, "stream": noise.PRIOR, "sample": 1}
        if self.arch.is_composed and self.arch.observation is not None:
            randoms = likelihoods.generators(rows, **address)
            return self._own_numbers(self.arch.observation.draw(self.parameters, out, randoms))
        if self.arch.is_bernoulli:
            return bernoulli_sample(out, noise.uniform(rows, self.arch.features, **address))
        eps = noise.normal(rows, self.arch.features, dtype=dtype, **address)
        return self.values.from_model(normal_sample(out, self._logvar(), eps))

    def _logvar(self) -> Array:
        if self.arch.likelihood == "normal-fixed":
            return np.full(1, self.arch.sigma_logvar, dtype=self.parameters.dtype)
        return self.parameters["likelihood.logvar"]

    @as_usual
    def prior(self, n: int, seed: noise.Seed = 0) -> Array:
        """The n draws z ~ p(z) that `sample` decodes, (n, K): exact samples of p(z|x) for the x it returns. [D49]"""
        return self._drawn_from_prior(n, noise.seed_of(seed))[0]

    @as_usual
    def lifted(self, normals: ArrayLike) -> Array:
        """z (n, K) of standard normals: themselves, or with two layers, (n, K₁ + K₂), a draw of p(z₁). [D60]"""
        normals = np.asarray(normals, dtype=self.parameters.dtype)
        return prior_draw_forward(*self.model, normals)[0]

    def _drawn_from_prior(self, n: int, seed: int) -> tuple[Array, Array]:
        """The z (n, K) of `prior`, and what annealed chains start at: the normals it was made of, for a mixture z."""
        rows, dtype = np.arange(self._drawn(n)), self.parameters.dtype
        normals = noise.normal(rows, self.arch.noise_columns, seed=seed, stream=noise.PRIOR, dtype=dtype)
        mixture = prior_mixture(*self.model)
        if mixture is None:
            return self.lifted(normals), normals
        u = noise.uniform(rows, 1, seed=seed, stream=noise.PRIOR, sample=2)[:, 0]
        z = components.sample(mixture, normals, u)
        return z, z

    def _drawn(self, n: int) -> int:
        """The number of draws, checked against memory: at least 21 bytes per pixel were measured in float32."""
        count = counted("n", n)
        cells = self.arch.features + self.arch.latent
        memory.check("n", count, 5 * count * cells * self.parameters.dtype.itemsize)
        return count

    @as_usual
    def simulated(self, n: int, seed: noise.Seed = 0, *, given: Any = None) -> tuple[held_out.Examples, Array]:
        """`sample(n, seed, given=given)` as examples to evaluate, and what chains start at, z (n, K). [D49] [D60]

        That is the z each was decoded from or, with two stochastic layers, the normals that it was made of.
        """
        seed = noise.seed_of(seed)
        # A normal's draws of grey are not confined to [0, 1].
        values = self.values if self.values.kind == "real" else data.REAL
        values = data.BINARY if self.arch.is_bernoulli else values
        x, encoded = self.sample(n, seed, given=given), self._encoded(given, n)
        return held_out.Examples(x, values, "none", seed, given=encoded), self._drawn_from_prior(n, seed)[1]

    @as_usual
    def reconstruct(
        self,
        x: data.Rows,
        *,
        given: Any = None,
        binarize: Binarization | None = None,
        values: data.Values | ValuesKind | None = None,
    ) -> Array:
        """E[x|z] at z = the posterior mean of x, (N, D), as in `decode`."""
        return self.decode(self.encode(x, given=given, binarize=binarize, values=values)[0], given=given)

    @as_usual
    def elbo(
        self,
        x: data.Rows,
        *,
        given: Any = None,
        seed: noise.Seed = None,
        z_samples: int = 1,
        binarize: Binarization | None = None,
        values: data.Values | ValuesKind | None = None,
    ) -> Terms:
        """Per-example `elbo`, `reconstruction` and `kl`, (N,) each in nats, with `z_samples` draws of ε. [D21]"""
        seed = self._seed_or_own(seed)
        return held_out.elbo_terms(
            self.model,
            self._examples(x, binarize, seed, values, given),
            seed=seed,
            z_samples=counted("z_samples", z_samples, bits=24),
        )

    @as_usual
    def log_likelihood(
        self,
        x: data.Rows,
        samples: int = 5000,
        *,
        given: Any = None,
        seed: noise.Seed = None,
        binarize: Binarization | None = None,
        values: data.Values | ValuesKind | None = None,
    ) -> Estimate:
        """Per-example log p(x) in nats by importance sampling, with its error and effective sample size. [D34]"""
        seed = self._seed_or_own(seed)
        examples = self._examples(x, binarize, seed, values, given)
        return held_out.log_likelihood(
            self.model,
            examples,
            samples=counted("samples", samples, bits=24),
            seed=seed,
            fused=self.backend.fused_log_weights(self.arch),
        )

    @as_usual
    def annealed_log_likelihood(
        self,
        x: data.Rows,
        annealing: Annealing | None = None,
        *,
        given: Any = None,
        seed: noise.Seed = None,
        binarize: Binarization | None = None,
        values: data.Values | ValuesKind | None = None,
    ) -> AnnealedEstimate:
        """Per-example log p(x) in nats by annealed importance sampling, which needs no encoder. [D46]"""
        seed = self._seed_or_own(seed)
        examples = self._examples(x, binarize, seed, values, given)
        return held_out.annealed_log_likelihood(self.model, examples, annealing or Annealing(), seed=seed)

    @as_usual
    def bidirectional(
        self, n: int = 100, annealing: Annealing | None = None, *, given: Any = None, seed: noise.Seed = None
    ) -> BidirectionalEstimate:
        """Log p(x) from below and from above for `sample(n, seed, given=given)`, whose latents are known. [D49]"""
        seed = self._seed_or_own(seed)
        examples, z = self.simulated(n, seed, given=given)
        estimate = held_out.annealed_log_likelihood(
            self.model, examples, annealing or Annealing(), seed=seed, posterior=z
        )
        assert isinstance(estimate, BidirectionalEstimate)
        return estimate

    @property
    def exact(self) -> Exact:
        """Exact answers of a model of one or two latents, by quadrature: log p(x), p(z|x) and the gap. [D3] [D20]"""
        return Exact(self)
