"""Missing cells of rows, filled in by the model."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vae_np import data, memory, noise
from vae_np._types import Array
from vae_np.choices import Binarization, ValuesKind
from vae_np.config import counted
from vae_np.errors import InputError, NothingObservedWarning
from vae_np.evaluation import held_out, imputation
from vae_np.evaluation.imputation import Imputed
from vae_np.likelihoods.columns import own_numbers
from vae_np.vae.base import Base, as_usual

_BATCH = 100


class Imputation(Base):
    """How a `VAE` fills in what is missing."""

    @as_usual
    def impute(
        self,
        x: data.Rows,
        *,
        given: Any = None,
        mask: ArrayLike | None = None,
        draws: int = 0,
        samples: int = 1000,
        seed: noise.Seed = None,
        binarize: Binarization | None = None,
        values: data.Values | ValuesKind | None = None,
    ) -> Imputed:
        """x (N, D) with its missing cells filled in from p(x_mis | x_obs), by `samples` draws of z per row. [D71]

        No value has what is NaN, masked in one of NumPy's masked arrays, or False in `mask`, shaped as x. With `draws`
        each row is also filled in so many times at random, by sampling importance resampling: what is computed from
        each, and varies from one to the next, varies by as much as the missing cells leave open. Results are on the
        data's own scale; grey on [0, 1], and binarised where it was observed, if the model sees it so.

        A model that was trained on complete rows will do: its encoder then sees zeros, of which it has learned nothing,
        so `ess` may be low. A row of which nothing was observed gets the prior's answer, and NothingObservedWarning
        says so, once. A conditional model fills in from p(x_mis | x_obs, given). [D79] Raises InputError where x or an
        argument cannot be used.
        """
        if self.arch.top_latent is not None:
            top = self.arch.top_latent
            raise InputError(f"impute: got a model with top_latent {top}, expected one stochastic layer")
        seed = self._seed_or_own(seed)
        count, more = counted("samples", samples, bits=24), 0 if draws == 0 else counted("draws", draws, bits=16)
        arch = self.arch if self.arch.missing is not None else replace(self.arch, missing="zero")
        model = self.model._replace(arch=arch)
        examples = self._examples(x, binarize, seed, values, given, mask=mask, missing=True)
        cells = self.arch.features * self.parameters.dtype.itemsize
        memory.check("samples", count, 4 * count * cells)
        memory.check("draws", max(more, 1), more * len(examples) * cells)
        parts = []
        for start in range(0, len(examples), _BATCH):
            seen, places = examples.batch(slice(start, start + _BATCH))
            q = held_out.posterior(model, seen, places, seed=seed)
            assert model.arch.observation is not None
            parts.append(
                imputation.impute(model, model.arch.observation, seen, places, q, samples=count, draws=more, seed=seed)
            )
        found = imputation.joined(parts)
        if found.unobserved.any():
            warnings.warn(
                f"x: in {int(found.unobserved.sum())} of {len(examples)} rows nothing was observed, the first is row "
                f"{int(np.argmax(found.unobserved))} (counted from 0): their answer is the prior's",
                NothingObservedWarning,
                stacklevel=3,
            )
        spread = examples.values.standardisation
        scale = 1.0 if spread is None else spread.sigma
        return replace(
            found,
            mean=self._filled(found.mean, examples),
            spread=(found.spread * scale).astype(found.spread.dtype, copy=False),
            stderr=(found.stderr * scale).astype(found.stderr.dtype, copy=False),
            draws=None if found.draws is None else np.stack([self._filled(each, examples) for each in found.draws]),
        )

    def _filled(self, x: Array, examples: held_out.Examples) -> Array:
        """The model's x (N, D) on the data's own scale; real numbers that were observed are those that were given.

        To be standardised and back costs some of them their last digit.
        """
        if examples.values.kind == "real":
            given = np.asarray(examples.rows)
            x = np.where(np.isnan(given), self.values.from_model(x), given).astype(x.dtype, copy=False)
            return x if self.arch.columns is None else own_numbers(self.arch.columns, x)
        return self._own_numbers(x)
