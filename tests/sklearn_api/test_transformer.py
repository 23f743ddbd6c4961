"""scikit-learn's own checks of an estimator, and what people do with one: pipelines, searches, frames.

Budget: about 2 s.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from vae_np.sklearn import VAETransformer

SMALL: dict[str, Any] = {"hidden": (8,), "epochs": 2, "backend": "numpy", "random_state": 0}


def two_groups(rows: int = 200, seed: int = 0) -> np.ndarray:
    """Rows of four columns around two centres."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 4)) * [1, 2, 0.5, 1] + 6 * rng.integers(0, 2, rows)[:, None]


@parametrize_with_checks([VAETransformer(**SMALL)])
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_a_search_over_latents_prefers_the_better_model() -> None:
    x = two_groups()
    search = GridSearchCV(VAETransformer(**{**SMALL, "epochs": 30}, lr=1e-2), {"latent": [1, 2]}, cv=2).fit(x)
    assert search.best_params_["latent"] in (1, 2)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert search.best_score_ == scores.max()
    assert search.transform(x).shape == (200, search.best_params_["latent"])


def test_in_a_pipeline_with_names_of_its_columns() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(two_groups(), columns=["a", "b", "c", "d"])
    pipeline = make_pipeline(StandardScaler(), VAETransformer(**SMALL)).set_output(transform="pandas")
    found = pipeline.fit_transform(frame)
    assert list(found.columns) == ["vaetransformer0", "vaetransformer1"]
    assert len(found) == 200


def test_fit_starts_afresh_and_partial_fit_goes_on() -> None:
    x = two_groups()
    once = VAETransformer(**{**SMALL, "epochs": 4}).fit(x)
    twice = VAETransformer(**SMALL).partial_fit(x).partial_fit(x)
    again = clone(once).fit(x).fit(x)
    np.testing.assert_array_equal(once.transform(x), twice.transform(x))
    np.testing.assert_array_equal(once.transform(x), again.transform(x))
    assert [len(model.history_.split("train")) for model in (once, twice, again)] == [4, 4, 4]


def test_likelihood_and_scale_are_found_from_the_data() -> None:
    x = two_groups()
    real = VAETransformer(**{**SMALL, "epochs": 60}, lr=1e-2).fit(x)
    assert (real.vae_.arch.likelihood, str(real.vae_.values)) == ("normal", "real, standardized column by column")
    error = np.abs(real.inverse_transform(real.transform(x)) - x).mean(axis=0)
    assert (error < x.std(axis=0)).all()
    bits = (x > 3).astype(float)
    binary = VAETransformer(**SMALL).fit(bits)
    assert binary.vae_.arch.likelihood == "bernoulli"
    assert -4 * np.log(2) * 2 < binary.score(bits) < 0
    assert binary.score(bits) == pytest.approx(float(np.mean(binary.vae_.elbo(bits).elbo)))
