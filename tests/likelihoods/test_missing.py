"""Cells without a value: the likelihood of the others, its gradient on every backend, the encoder's view, imputation.

Budget: about 5 s; the slow ones train, 90 s.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vae_np import VAE, backends, data, ops
from vae_np.architecture import Architecture
from vae_np.elbo import elbo_backward, elbo_forward
from vae_np.errors import DataError, InputError, NothingObservedWarning
from vae_np.evaluation import imputation
from vae_np.evaluation.importance import importance_log_likelihood
from vae_np.exact import missing
from vae_np.exact.decoder import Decoder
from vae_np.exact.linear_gaussian import LinearGaussian, from_parameters, to_parameters
from vae_np.exact.quadrature import log_likelihood
from vae_np.model import Model, encode_forward, initialise, loglik_forward
from vae_np.objectives import objective_backward, objective_forward
from vae_np.parameters import Parameters

CONTRACT = ("bernoulli", "normal", "normal-fixed", "normal-diagonal")
COMPOSED = ("continuous-bernoulli", "poisson", "negative-binomial", "discretized-logistic", "student-t")
MIXED = {
    "b": "bernoulli", "n": "normal", "u": "continuous-bernoulli", "c": {"family": "categorical", "levels": ["x", "y"]},
    "p": "poisson", "m": "negative-binomial", "g": {"family": "discretized-logistic", "levels": 16}, "t": "student-t",
    "d": {"family": "categorical", "levels": 3}, "o": "normal",
}  # fmt: skip


def architecture(likelihood: str, how: str | None = "zero", **changes: Any) -> Architecture:
    if likelihood == "columns":
        return Architecture(len(MIXED), 2, (4,), "tanh", "columns", columns=MIXED, missing=how, **changes)
    return Architecture(5, 2, (4,), "tanh", likelihood, 0.7, missing=how, **changes)


def rows(arch: Architecture, count: int, rng: np.random.Generator, share: float = 0.4) -> np.ndarray:
    """Data that suit the likelihood, with holes; the first row has none, and of the second nothing is there."""
    x = rng.standard_normal((count, arch.features))
    families = [column[1] for column in arch.columns or ()] or [arch.likelihood] * arch.features
    for place, family in enumerate(families):
        if family in ("bernoulli", "categorical"):
            x[:, place] = rng.integers(0, 2, count)
        elif family == "continuous-bernoulli":
            x[:, place] = rng.random(count)
        elif family in ("poisson", "negative-binomial", "discretized-logistic"):
            x[:, place] = rng.poisson(3, count)
    holes = rng.random(x.shape) < share
    holes[0], holes[1] = False, True
    return np.where(holes, np.nan, x)


def model_at(arch: Architecture, seed: int = 0) -> Parameters:
    parameters = Parameters(arch.shapes(), np.float64)
    rng = np.random.default_rng(seed)
    for view in parameters.values():
        view[...] = rng.normal(0, 0.5, view.shape)
    return parameters


def value(arch: Architecture, values: Any, x: Any, eps: Any, what: str, backend: Any = ops) -> Any:
    if what == "iwae":
        return objective_forward(backend, arch, values, x, eps, objective=what, beta=0.7)
    return elbo_forward(backend, arch, values, x, eps, form=what)


def gradient_of(
    arch: Architecture, parameters: Parameters, x: Any, eps: Any, what: str, backend: Any = ops
) -> Parameters:
    gradients = parameters.zeros_like()
    _, cache = value(arch, parameters, x, eps, what, backend)
    if what == "iwae":
        objective_backward(backend, arch, cache, gradients)
    else:
        elbo_backward(backend, arch, cache, gradients, beta=0.7)
    return gradients


@pytest.mark.parametrize("how", ["zero", "mask"])
@pytest.mark.parametrize("likelihood", [*CONTRACT, *COMPOSED, "columns"])
def test_the_gradient_of_every_tensor_with_holes(likelihood: str, how: str) -> None:
    """By complex steps along three directions in each tensor, and in all of them together."""
    arch, rng = architecture(likelihood, how), np.random.default_rng(3)
    parameters, x = model_at(arch), rows(arch, 6, rng)
    for what, samples in (("analytic", 2), ("joint", 2), ("iwae", 3)):
        eps = rng.standard_normal((samples * len(x), arch.latent))
        gradients = gradient_of(arch, parameters, x, eps, what)
        for name in parameters:
            for _ in range(3):
                direction = rng.standard_normal(parameters[name].shape)
                moved = {**parameters, name: parameters[name] + 1e-30j * direction}
                numeric = value(arch, moved, x, eps, what)[0].loss(0.7).imag / 1e-30
                scale = np.abs(gradients[name]).sum() + 1e-3
                assert abs((gradients[name] * direction).sum() - numeric) <= 1e-12 * scale, (what, name)


@pytest.mark.parametrize("likelihood", CONTRACT)
def test_whole_rows_are_what_the_contract_says(likelihood: str) -> None:
    plain, holed = architecture(likelihood, None), architecture(likelihood)
    parameters, rng = model_at(plain), np.random.default_rng(0)
    x, eps = np.nan_to_num(rows(plain, 4, rng)), rng.standard_normal((8, 2))
    (ours, _), (contract, _) = (value(arch, parameters, x, eps, "analytic") for arch in (holed, plain))
    np.testing.assert_allclose(ours.elbo, contract.elbo, rtol=1e-14)
    both = [gradient_of(arch, parameters, x, eps, "iwae") for arch in (holed, plain)]
    np.testing.assert_allclose(both[0].flat, both[1].flat, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("likelihood", [*CONTRACT, *COMPOSED, "columns"])
def test_only_observed_cells_count(likelihood: str) -> None:
    """Against the sum over single cells, each of which is a model of one column."""
    arch, rng = architecture(likelihood), np.random.default_rng(1)
    parameters, x = model_at(arch), rows(arch, 6, rng)
    out = rng.standard_normal((6, arch.outputs))
    found, _ = loglik_forward(ops, arch, parameters, x, out)
    assert found[1] == 0
    total = np.zeros(6)
    for column in range(arch.features):
        alone = np.full_like(x, np.nan)
        alone[:, column] = x[:, column]
        there = ~np.isnan(x[:, column])
        one, _ = loglik_forward(ops, arch, parameters, alone, out)
        assert (one[~there] == 0).all()
        total += one
    np.testing.assert_allclose(found, total, rtol=1e-12, atol=1e-13)


def test_what_a_missing_cell_is_called_does_not_matter() -> None:
    """NaN, a masked array and `mask=` are one and the same; so is a value behind the mask."""
    vae = VAE(4, hidden=(3,), latent=2, likelihood="normal", missing="zero", dtype="float64", backend="numpy")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 4))
    there = rng.random(x.shape) < 0.6
    there[:, 0] |= ~there.any(axis=1)
    holed = np.where(there, x, np.nan)
    ways = holed, np.ma.masked_array(x, ~there)
    first, second = (vae.elbo(way).elbo for way in ways)
    assert (first == second).all()
    imputed = [vae.impute(holed, samples=20), vae.impute(x, mask=there, samples=20)]
    assert (imputed[0].mean == imputed[1].mean).all()
    assert (imputed[0].mean[there] == x[there]).all()
    one, other = (VAE(4, hidden=(3,), latent=2, likelihood="normal", missing="zero", backend="numpy") for _ in range(2))
    one.fit(holed, epochs=2, batch_size=10)
    other.fit(x, mask=there, epochs=2, batch_size=10)
    assert (one.parameters.flat == other.parameters.flat).all()


def test_the_encoder_sees_zeros_and_the_mask() -> None:
    x = np.array([[1.0, np.nan], [np.nan, 0.5]])
    plain, told = (Architecture(2, 1, (3,), likelihood="normal", missing=how) for how in ("zero", "mask"))
    assert plain.shapes()["encoder.hidden.0.weight"] == (2, 3)
    assert told.shapes()["encoder.hidden.0.weight"] == (4, 3)
    assert plain.observation.seen(x).tolist() == [[1, 0], [0, 0.5]]
    assert told.observation.seen(x).tolist() == [[1, 0, 1, 0], [0, 0.5, 0, 1]]
    whole = np.array([[1.0, 2.0]])
    assert told.observation.seen(whole).tolist() == [[1, 2, 1, 1]]


def test_the_encoder_sees_columns_as_their_families_say() -> None:
    columns = {
        "c": {"family": "categorical", "levels": 3},
        "p": "poisson",
        "g": {"family": "discretized-logistic", "levels": 5},
    }
    arch = Architecture(3, 1, (), likelihood="columns", columns=columns, missing="zero")
    assert arch.inputs == 5
    seen = arch.observation.seen(np.array([[2.0, np.e - 1, 4.0], [np.nan, np.nan, np.nan], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(seen, [[0, 0, 1, 1, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, -1]], rtol=1e-15)


@pytest.mark.parametrize("likelihood", ["bernoulli", "normal-diagonal", "columns"])
@pytest.mark.parametrize("backend", [name for name in backends.present() if name != "numpy"])
def test_every_backend_composes_the_same(backend: str, likelihood: str) -> None:
    chosen = backends.choose(backend)
    arch, rng = architecture(likelihood, "mask"), np.random.default_rng(5)
    parameters, x = model_at(arch), rows(arch, 6, rng)
    eps = rng.standard_normal((12, 2))
    ours, theirs = (gradient_of(arch, parameters, x, eps, "iwae", each) for each in (chosen.ops, ops))
    np.testing.assert_allclose(ours.flat, theirs.flat, rtol=1e-12, atol=1e-14)
    assert chosen.unfused(arch) is not None


def test_backends_say_why_nothing_is_fused() -> None:
    chosen = next((backends.choose(name) for name in backends.present() if name != "numpy"), None)
    if chosen is None:
        pytest.skip(f"numba: {backends.missing('numba')}")
    assert chosen.unfused(Architecture(missing="zero")) == "nothing is fused for data with missing cells"
    assert chosen.unfused(Architecture(likelihood="poisson")) == "nothing is fused for likelihood poisson"
    assert chosen.unfused(Architecture()) is None


def test_the_marginal_of_what_is_observed_is_the_sum_over_what_is_not() -> None:
    """log p(x_obs) by quadrature, from holes, and from all complete rows that agree with it."""
    arch = Architecture(4, 1, (5,), "tanh", "bernoulli", missing="zero")
    decoder = Decoder.of(arch, model_at(arch))
    every = np.array(list(itertools.product([0.0, 1.0], repeat=4)))
    p = np.exp(log_likelihood(decoder, every).log_prob)
    for holes in ([0], [1, 3], [0, 1, 2], [0, 1, 2, 3]):
        x = np.array([[1.0, 0.0, 1.0, 1.0]])
        x[0, holes] = np.nan
        agree = ((every == x) | np.isnan(x)).all(axis=1)
        assert log_likelihood(decoder, x).log_prob[0] == pytest.approx(np.log(p[agree].sum()), abs=1e-10)


def test_quadrature_climbs_by_the_gradient_of_what_is_observed() -> None:
    arch, rng = replace(architecture("columns"), latent=1), np.random.default_rng(2)
    decoder = Decoder.of(arch, model_at(arch))
    x, z, weights = rows(arch, 4, rng), rng.standard_normal((7, 1)), rng.random((4, 7))
    found = decoder.weighted_gradient(x, z, weights)
    direction = rng.standard_normal(found.flat.shape)

    def total(step: float) -> float:
        return float((weights * decoder.moved(decoder.parameters.flat + step * direction).loglik_matrix(x, z)).sum())

    numeric = (total(1e-5) - total(-1e-5)) / 2e-5
    assert found.flat @ direction == pytest.approx(numeric, rel=1e-7)


# --- the linear-Gaussian model, where every answer is exact --------------------------------------------------------


def linear(features: int = 10, latent: int = 2, seed: int = 0) -> LinearGaussian:
    rng = np.random.default_rng(seed)
    return LinearGaussian(0.8 * rng.standard_normal((features, latent)), rng.standard_normal(features), 0.3)


def holed(model: LinearGaussian, count: int, share: float, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((count, model.latent))
    x = z @ model.weight.T + model.bias + np.sqrt(0.3) * rng.standard_normal((count, model.features))
    return np.where(rng.random(x.shape) < share, np.nan, x)


def wide_posterior(model: LinearGaussian, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A diagonal q whose weights have a variance: the exact posterior's mean, with variances that cover it."""
    means, logvars = [], []
    for cells in x:
        seen = ~np.isnan(cells)
        pull = model.weight[seen].T / 0.3
        covariance = np.linalg.inv(np.eye(model.latent) + pull @ model.weight[seen])
        means.append(covariance @ pull @ (cells[seen] - model.bias[seen]))
        logvars.append(np.full(model.latent, np.log(1.3 * np.linalg.eigvalsh(covariance).max())))
    return np.array(means), np.array(logvars)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_imputation_is_the_exact_conditional(share: float) -> None:
    """Value and spread of every missing cell, over 24 seeds, within 4 standard errors; so is the stated error."""
    model = linear()
    arch, parameters = to_parameters(model)
    arch = replace(arch, missing="zero")
    count = 24 if share < 0.5 else 8  # (a tenth of 80 cells would be too few)
    x = holed(model, count, share)
    q = wide_posterior(model, x)
    found = [
        imputation.impute(
            Model(ops, arch, parameters), arch.observation, x, np.arange(count), q, samples=2000, draws=0, seed=seed
        )
        for seed in range(24)
    ]
    exact = missing.conditional(model, x)
    holes = np.isnan(x)
    spread = np.sqrt(np.diagonal(exact.covariance, axis1=1, axis2=2))
    for name, right in (("mean", exact.mean), ("spread", spread)):
        every = np.stack([getattr(each, name)[holes] for each in found])
        error = every.std(axis=0, ddof=1) / np.sqrt(len(found))
        assert np.abs((every.mean(axis=0) - right[holes]) / error).max() < 4, name
        assert (np.stack([getattr(each, name)[~holes] for each in found]) == right[~holes]).all()
    stated = np.mean([each.stderr[holes] for each in found], axis=0)
    scatter = np.std([each.mean[holes] for each in found], axis=0, ddof=1)
    assert 0.8 < np.median(scatter / stated) < 1.2


def test_repeated_imputations_have_the_exact_covariance() -> None:
    """Sampling importance resampling: missing cells of one row vary together, as their joint conditional says."""
    model = linear(6)
    arch, parameters = to_parameters(model)
    arch = replace(arch, missing="zero")
    x = holed(model, 3, 0.5, seed=4)
    draws = 4000
    found = imputation.impute(
        Model(ops, arch, parameters), arch.observation, x, np.arange(3), wide_posterior(model, x), samples=8000,
        draws=draws, seed=0,
    ).draws  # fmt: skip
    exact = missing.conditional(model, x)
    for row in range(3):
        holes = np.isnan(x[row])
        right = exact.covariance[row][np.ix_(holes, holes)]
        scale = np.sqrt(np.diag(right))
        mean = found[:, row, holes].mean(axis=0)
        assert (np.abs(mean - exact.mean[row, holes]) < 5 * scale / np.sqrt(draws)).all()
        centred = (found[:, row, holes] - exact.mean[row, holes]) / scale
        correlation = right / np.outer(scale, scale)
        assert np.abs(centred.T @ centred / draws - correlation).max() < 5 * np.sqrt(2 / draws)
        assert (found[:, row, ~holes] == x[row, ~holes]).all()


def test_importance_sampling_estimates_the_marginal_of_what_is_observed() -> None:
    model = linear()
    arch, parameters = to_parameters(model)
    x = holed(model, 12, 0.5)
    found = importance_log_likelihood(
        Model(ops, replace(arch, missing="zero"), parameters), x, np.arange(12), samples=5000, seed=0,
        posterior=wide_posterior(model, x),
    )  # fmt: skip
    assert (np.abs(found.log_likelihood - missing.observed_log_prob(model, x)) < 4 * found.stderr).all()


def test_exact_em_with_holes_climbs_and_agrees_with_none() -> None:
    model, start = linear(), linear(seed=5)
    x = holed(model, 200, 0.4)
    levels = []
    for _ in range(15):
        levels.append(missing.observed_log_prob(start, x).mean())
        start = missing.em_step(start, x)
    assert (np.diff(levels) > -1e-12).all()
    assert levels[-1] > levels[0] + 1
    whole = holed(model, 50, 0.0)
    np.testing.assert_allclose(missing.observed_log_prob(model, whole), model.log_prob(whole), rtol=1e-12)


def test_a_row_of_which_nothing_is_there_gets_the_priors_answer() -> None:
    model = linear()
    arch, parameters = to_parameters(model)
    vae = VAE(10, hidden=(), latent=2, likelihood="normal", sigma=np.sqrt(0.3), dtype="float64", backend="numpy")
    vae.parameters.assign(parameters)
    x = holed(model, 3, 0.3)
    x[1] = np.nan
    with pytest.warns(NothingObservedWarning, match=r"in 1 of 3 rows nothing was observed, the first is row 1"):
        found = vae.impute(x, samples=20_000)
    assert found.unobserved.tolist() == [False, True, False]
    assert found.ess[1] == pytest.approx(20_000)
    prior = np.sqrt(np.diag(model.covariance()))
    assert (np.abs(found.mean[1] - model.bias) < 5 * prior / np.sqrt(20_000)).all()
    np.testing.assert_allclose(found.spread[1], prior, rtol=0.03)
    alone = np.full((1, 10), np.nan)
    with pytest.warns(NothingObservedWarning, match=r"in 1 of 1 rows"):
        assert (vae.impute(alone, samples=50).ess > 49.99).all()
    holes = VAE(10, hidden=(), latent=2, likelihood="normal", missing="zero", dtype="float64", backend="numpy")
    found_alone = holes.elbo(alone)
    assert found_alone.reconstruction[0] == 0
    assert found_alone.elbo[0] == -found_alone.kl[0]
    assert arch.missing is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vae.impute(x[[0, 2]], samples=10)


@pytest.mark.slow
def test_training_with_holes_reaches_the_exact_maximum() -> None:
    """Half of all cells missing: IWAE's bound, with a mask for the encoder, against exact EM on the same holes."""
    model, rows_ = linear(6, 1, seed=3), 2000
    x = holed(model, rows_, 0.5, seed=2)
    best = linear(6, 1, seed=9)
    for _ in range(300):
        best = missing.em_step(best, x)
    vae = VAE(
        6, hidden=(32,), decoder_hidden=(), latent=1, activation="tanh", likelihood="normal", missing="mask",
        dtype="float64", backend="numpy",
    )  # fmt: skip
    for lr in (1e-2, 3e-3, 1e-3):
        vae.fit(x, epochs=60, batch_size=200, lr=lr, objective="iwae", samples=20)
    linear_arch = replace(vae.arch, hidden=(), missing=None, decoder_hidden=None)
    own = from_parameters(linear_arch, vae.parameters)
    exact = missing.observed_log_prob(own, x).mean()
    assert missing.observed_log_prob(best, x).mean() - exact < 1e-2
    assert abs(vae.log_likelihood(x, samples=500).log_likelihood.mean() - exact) < 1e-2
    found = vae.impute(x[:100], samples=2000)
    holes = np.isnan(x[:100])
    right = missing.conditional(own, x[:100])
    assert np.abs(found.mean - right.mean)[holes].max() < 0.1


# --- scales, kinds of values, and what is refused -------------------------------------------------------------------


def test_a_log_density_is_that_of_the_data_whatever_is_missing() -> None:
    """Standardised columns: log p(x_obs) loses Σ log σ over the observed cells of each row alone."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 3)) * [1, 10, 100] + [5, 0, -7]
    x[rng.random(x.shape) < 0.3] = np.nan
    vae = VAE(3, hidden=(), latent=1, likelihood="normal-diagonal", missing="zero", dtype="float64", backend="numpy")
    history = vae.fit(x, epochs=3, batch_size=20, standardize=True)
    spread = vae.values.standardisation
    np.testing.assert_allclose(spread.mean, np.nanmean(x, axis=0))
    np.testing.assert_allclose(spread.sigma, np.nanstd(x, axis=0))
    decoder = Decoder.of(vae.arch, vae.parameters)
    scaled = (x - spread.mean) / spread.sigma
    jacobian = np.where(np.isnan(x), 0, np.log(spread.sigma)).sum(axis=1)
    expected = log_likelihood(decoder, scaled).log_prob - jacobian
    np.testing.assert_allclose(vae.exact.log_likelihood(x).log_prob, expected, rtol=1e-12)
    found = vae.log_likelihood(x, samples=2000)
    assert np.abs((found.log_likelihood - expected) / found.stderr).max() < 5
    assert vae.elbo(x).elbo.mean() == pytest.approx(history.lines[-1]["elbo"], abs=1.0)
    filled = vae.impute(x, samples=5, draws=1)
    there = ~np.isnan(x)
    assert (filled.mean[there] == x[there]).all(), "what was observed stays as it was, to the last digit"
    assert (filled.draws[0][there] == x[there]).all()


def test_pixels_with_holes_are_drawn_as_without() -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (10, 8)).astype(np.uint8)
    grey[0, 0], there = 255, rng.random((10, 8)) < 0.5
    holes = data.with_holes(grey, there, "x")
    assert holes.dtype == np.float32
    values = data.Values.named("byte")
    address = {"seed": 3, "stream": 4, "step": 0, "rows": np.arange(10)}
    for mode in ("dynamic", "fixed", "threshold"):
        whole = data.prepare(grey, values, mode, **address)
        drawn = data.prepare(values.convert(holes), values, mode, **address)
        assert np.array_equal(drawn, np.where(there, whole, np.nan), equal_nan=True)


def test_what_cannot_be_used_is_one_line() -> None:
    x = np.array([[1.0, np.nan], [0.0, 1.0]])
    vae = VAE(2, hidden=(2,), latent=1, backend="numpy")
    with pytest.raises(DataError, match=r"x: got nan at row 0, column 1 .* cells without a value need missing"):
        vae.elbo(x)
    with pytest.raises(DataError, match=r"x: has 1 of 4 cells masked, expected none"):
        vae.elbo(np.ma.masked_invalid(x))
    with pytest.raises(InputError, match=r"mask: got one, but the model takes no missing cells"):
        vae.fit(x, mask=~np.isnan(x))
    taking = VAE(2, hidden=(2,), latent=1, missing="zero", backend="numpy")
    with pytest.raises(DataError, match=r"mask: got int64 of shape \(2, 2\), expected bool of shape \(2, 2\)"):
        taking.fit(x, mask=np.ones((2, 2), dtype=int))
    with pytest.raises(DataError, match=r"mask: got bool of shape \(1, 2\), expected bool of shape \(2, 2\)"):
        taking.fit(x, mask=np.ones((1, 2), dtype=bool))
    with pytest.raises(DataError, match=r"mask: got rows of several lengths"):
        taking.fit(x, mask=[[True, False], [True]])
    with pytest.raises(DataError, match=r"x: got inf at row 0"):
        taking.fit(np.array([[np.inf, 1.0], [0.0, 1.0]]))
    with pytest.raises(DataError, match=r"x: no cell has a value"):
        taking.fit(np.full((2, 2), np.nan))
    with pytest.raises(InputError, match=r"missing: got 'mean', expected one of zero, mask"):
        Architecture(4, 2, missing="mean")
    real = VAE(2, hidden=(2,), latent=1, likelihood="normal", missing="zero", backend="numpy")
    with pytest.raises(DataError, match=r"column 1 \(counted from 0\) has no value in any row"):
        real.fit(np.array([[1.0, np.nan], [0.0, np.nan]]), standardize=True)
    for give in (taking.to_torch, lambda: taking.to_onnx("nowhere")):
        with pytest.raises(InputError, match="expected a Bernoulli or normal one without missing cells"):
            give()


def test_initial_parameters_are_those_of_the_model_without_holes() -> None:
    plain, holes = (initialise(architecture("normal", how), seed=4) for how in (None, "zero"))
    assert (plain.flat == holes.flat).all()
    (mu, _), _ = encode_forward(ops, architecture("normal"), holes, np.full((1, 5), np.nan))
    assert np.isfinite(mu).all()
