"""A model's exact answers, where there are any: log p(x), p(z|x) and the gap, by quadrature over 1 or 2 latents."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from vae_np import data, noise
from vae_np._types import Array
from vae_np.choices import Binarization, ValuesKind
from vae_np.errors import InputError
from vae_np.evaluation import held_out
from vae_np.exact import quadrature
from vae_np.exact.amortisation import FamilyGap, Gap, split_family_gap, split_gap
from vae_np.exact.decoder import Decoder
from vae_np.exact.families import encoded
from vae_np.exact.quadrature import GridPosterior, LogLikelihood
from vae_np.posteriors.full import Full
from vae_np.vae.base import Base

# Of Gauss-Hermite's rule, an axis: a decoder with ReLU has kinks, which need many.
_NODES = {1: 200, 2: 40}
_SOLVER_NODES = 20
_AGREEMENT = 1e-3


class Exact:
    """What `VAE.exact` offers. Everything is computed in float64 from the decoder as it stands.

    Arguments are those of the other methods: x (N, D), how grey is binarised and by which seed, and what x holds.
    Log-densities are those of the data themselves, also where the model sees them standardised. [D51] The methods raise
    InputError for a model of more than two latents, where quadrature is out of reach: there `VAE.log_likelihood` and
    `VAE.bidirectional` estimate; and for likelihood "bernoulli-grey", which is none.
    """

    def __init__(self, vae: Base) -> None:
        if vae.arch.prior != "standard":
            raise InputError(f"exact: got a model with prior {vae.arch.prior!r}, expected 'standard'")
        if vae.arch.conditions:
            raise InputError(f"exact: got a model with {vae.arch.conditions} conditions, expected one without")
        self._vae = vae

    def __repr__(self) -> str:
        return f"<exact answers of {self._vae!r}>"

    def log_likelihood(
        self,
        x: data.Rows,
        *,
        tolerance: float = 1e-8,
        seed: noise.Seed = None,
        binarize: Binarization | None = None,
        values: data.Values | ValuesKind | None = None,
    ) -> LogLikelihood:
        """log p(x) (N,) in nats with its error, whether that is below `tolerance`, and p(z|x)'s moments. [D3]"""
        decoder, seen, examples = self._prepared(x, seed, binarize, values)
        found = quadrature.log_likelihood(decoder, seen, tolerance=tolerance)
        return replace(found, log_prob=found.log_prob + examples.values.log_det_of(seen))

    def posterior(
        self,
        x: data.Rows,
        *,
        tolerance: float = 1e-8,
        seed: noise.Seed = None,
        binarize: Binarization | None = None,
        values: data.Values | ValuesKind | None = None,
    ) -> GridPosterior:
        """p(z|x) of a few examples as weights on one set of nodes, which the examples share. [D10]"""
        decoder, seen, examples = self._prepared(x, seed, binarize, values)
        found = quadrature.posterior(decoder, seen, tolerance=tolerance)
        return replace(found, log_prob=found.log_prob + examples.values.log_det_of(seen))

    def gap(
        self,
        x: data.Rows,
        *,
        tolerance: float = 1e-8,
        seed: noise.Seed = None,
        binarize: Binarization | None = None,
        values: data.Values | ValuesKind | None = None,
    ) -> Gap | FamilyGap:
        """log p(x) − ELBO of the encoder, (N,) in nats, split into what the family of q cannot do and what it misses.
        [D20] [D57]

        `converged` says where the three quadratures agree to 0.001 nats; `residual` is by how much they do not. With
        ReLU they agree to 1e-4 or so, with smooth activations to 1e-10. For a flow the best q is that of some climbs,
        an example at a time, which takes seconds for each digit; the other families are solved to convergence.
        """
        decoder, seen, examples = self._prepared(x, seed, binarize, values)
        vae = self._vae
        seed = vae.config.seed if seed is None else noise.seed_of(seed)
        batch, places = examples.batch(slice(None))
        found_q = held_out.posterior(vae.model, batch, places, seed=seed)
        q = tuple(np.asarray(part, dtype=np.float64) for part in found_q)
        family, nodes = vae.arch.family, _NODES[decoder.latent]
        how: dict[str, Any] = {"tolerance": tolerance, "agreement": _AGREEMENT}
        found: Gap | FamilyGap
        if family.analytic:
            mu, logvar = q[:2]
            if isinstance(family, Full):
                how |= {"kind": "full", "covariance": family.covariance(logvar, q[2])}
            found = split_gap(decoder, seen, mu, logvar, nodes=nodes, solver_nodes=_SOLVER_NODES, **how)
        else:
            each = [encoded(family, [part[i : i + 1] for part in q], vae.parameters) for i in range(len(seen))]
            found = split_family_gap(decoder, seen, each, **how)
        return replace(found, log_prob=found.log_prob + examples.values.log_det_of(seen))

    def _prepared(
        self,
        x: data.Rows,
        seed: noise.Seed,
        binarize: Binarization | None,
        values: data.Values | ValuesKind | None,
    ) -> tuple[Decoder, Array, held_out.Examples]:
        vae = self._vae
        if vae.arch.top_latent is not None:
            raise InputError(
                f"exact: got a model with top_latent {vae.arch.top_latent}, expected one stochastic layer; "
                "log_likelihood and bidirectional of the model estimate log p(x)"
            )
        if vae.arch.latent > 2:
            raise InputError(
                f"latent: got {vae.arch.latent}, expected 1 or 2: quadrature in more is out of reach; log_likelihood "
                "and bidirectional of the model estimate log p(x)"
            )
        held_out.check_estimator(vae.arch)
        examples = vae._examples(x, binarize, vae.config.seed if seed is None else noise.seed_of(seed), values)
        return Decoder.of(vae.arch, vae.parameters), examples.batch(slice(None))[0], examples
