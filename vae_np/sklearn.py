"""A VAE as a scikit-learn transformer, for pipelines and searches: latent means in place of columns."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from sklearn.base import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state  # type: ignore[import-untyped,import-not-found,unused-ignore]
from sklearn.utils.validation import (  # type: ignore[import-untyped,import-not-found,unused-ignore]
    check_array,
    check_is_fitted,
    validate_data,
)

from vae_np._types import Array
from vae_np.choices import Activation, BackendChoice, Likelihood, Missing, Objective
from vae_np.likelihoods import is_measured
from vae_np.vae import VAE, History
from vae_np.vae.base import Widths

_BATCH = 128
_DTYPES = (np.float64, np.float32)


class VAETransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Latent means of a VAE: `transform` gives mu of q(z|x), `inverse_transform` E[x|z], `score` the mean ELBO.

    X is (N, D), finite numbers in float64 or float32, and NaN for what has no value where `missing` is "zero" or
    "mask"; results have its precision. `fit` starts afresh, `partial_fit` goes on. With likelihood "auto" it is
    "bernoulli" where X has only 0 and 1, and "normal" otherwise, with one learned sigma, each column brought to mean 0
    and standard deviation 1. `batch_size` "auto" is 128, or N where X has fewer rows. `random_state` None, an int or a
    RandomState gives the seed. The other parameters are those of `VAE` and of `VAE.fit`. Raises ValueError where they
    cannot be used.

    After `fit` it has `vae_`, the model, `history_`, its metrics lines, and `n_features_in_`.
    """

    def __init__(
        self,
        latent: int = 2,
        *,
        hidden: Widths = (64,),
        decoder_hidden: Widths | None = None,
        activation: Activation = "relu",
        likelihood: Likelihood | Literal["auto"] = "auto",
        epochs: int = 10,
        batch_size: int | Literal["auto"] = "auto",
        lr: float = 1e-3,
        beta: float = 1.0,
        objective: Objective = "elbo",
        samples: int = 1,
        missing: Missing | None = None,
        backend: BackendChoice = "auto",
        threads: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.latent = latent
        self.hidden = hidden
        self.decoder_hidden = decoder_hidden
        self.activation = activation
        self.likelihood = likelihood
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.beta = beta
        self.objective = objective
        self.samples = samples
        self.missing = missing
        self.backend = backend
        self.threads = threads
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> VAETransformer:
        """Train a new model on X (N, D) for `epochs` epochs; y is ignored."""
        return self._trained(X, fresh=True)

    def partial_fit(self, X: Any, y: Any = None) -> VAETransformer:
        """Train on X for `epochs` more epochs, from where the model stands; y is ignored."""
        return self._trained(X, fresh=not hasattr(self, "vae_"))

    def transform(self, X: Any) -> Array:
        """Means of q(z|x): (N, D) → (N, latent)."""
        rows = self._rows(X)
        return self.vae_.encode(rows)[0].astype(rows.dtype, copy=False)

    def inverse_transform(self, X: Any) -> Array:
        """E[x|z] on the data's own scale: (N, latent) → (N, D)."""
        check_is_fitted(self)
        z = check_array(X, dtype=_DTYPES, input_name="X")
        return self.vae_.decode(z).astype(z.dtype, copy=False)

    def score(self, X: Any, y: Any = None) -> float:
        """Mean ELBO of X in nats per row, which is larger for a better model; y is ignored."""
        return float(np.mean(self.vae_.elbo(self._rows(X)).elbo))

    @property
    def _n_features_out(self) -> int:
        return self.vae_.arch.latent

    def _trained(self, X: Any, fresh: bool) -> VAETransformer:
        rows = validate_data(self, X, dtype=_DTYPES, reset=fresh, ensure_all_finite=self._finite)
        if fresh:
            binary = bool(((rows == 0) | (rows == 1) | np.isnan(rows)).all())
            likelihood = ("bernoulli" if binary else "normal") if self.likelihood == "auto" else self.likelihood
            self.vae_ = VAE(
                rows.shape[1],
                latent=self.latent,
                hidden=self.hidden,
                decoder_hidden=self.decoder_hidden,
                activation=self.activation,
                likelihood=likelihood,
                missing=self.missing,
                dtype=rows.dtype.name,
                backend=self.backend,
                threads=self.threads,
                seed=int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max)),
            )
            self.history_ = History()
        size = self.batch_size
        batch = min(_BATCH, len(rows)) if isinstance(size, str) and size == "auto" else size
        # What the numbers mean is decided once.
        real = fresh and is_measured(self.vae_.arch.likelihood)
        kinds: dict[str, Any] = {"values": "real", "standardize": True} if real else {}
        lines = self.vae_.fit(
            rows,
            epochs=self.epochs,
            batch_size=batch,
            lr=self.lr,
            beta=self.beta,
            objective=self.objective,
            samples=self.samples,
            **kinds,
        )
        self.history_.lines += lines.lines
        return self

    def _rows(self, X: Any) -> Array:
        check_is_fitted(self)
        rows: Array = validate_data(self, X, dtype=_DTYPES, reset=False, ensure_all_finite=self._finite)
        return rows

    @property
    def _finite(self) -> bool | Literal["allow-nan"]:
        """What scikit-learn is to ask of X."""
        return True if self.missing is None else "allow-nan"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing is not None
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
