"""The Python API: shapes, dtypes, seeds and messages of each method, and that it agrees with the parts it is made of.

Budget: about 1 s.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vae_np import VAE, History, checkpoint, model, noise, ops
from vae_np._types import Array
from vae_np.data import REAL, UNIT, bars, rings
from vae_np.errors import (
    BackendError,
    CheckpointError,
    DataError,
    InputError,
    MissingFileError,
    NonFiniteError,
    WriteError,
)
from vae_np.evaluation.annealing import Annealing

BINARY = bars(4, 60, 0)[0]
GREY = np.where(BINARY == 1, 230, 25).astype(np.uint8)
POINTS = rings(60, 0)[0]


def small(features: int = 16, **settings: Any) -> VAE:
    return VAE(features, **{"hidden": (8,), "latent": 2, "seed": 3, "backend": "numpy", **settings})


def fitted(x: Array = BINARY, **settings: Any) -> VAE:
    vae = small(x.shape[1], **settings)
    vae.fit(x, epochs=3, batch_size=20, lr=0.01)
    return vae


def bits(vae: VAE) -> bytes:
    return vae.parameters.flat.tobytes()


# Fit


def test_fit_returns_its_history_and_leaves_the_model_better() -> None:
    vae, heard = small(), []
    before = vae.elbo(BINARY).elbo.mean()
    history = vae.fit(BINARY[:40], validation=BINARY[40:], epochs=30, batch_size=20, lr=0.02, on_metrics=heard.append)
    assert isinstance(history, History)
    assert heard == history.lines
    assert [line["step"] for line in history.split("train")] == [2 * epoch for epoch in range(1, 31)]
    assert [line["epoch"] for line in history.split("validation")] == list(range(1, 31))
    assert vae.elbo(BINARY).elbo.mean() > before + 0.5
    assert vae.config.epochs == 30


def test_fit_climbs_the_objective_it_is_given() -> None:
    vae, settings = small(), {"epochs": 3, "batch_size": 20, "lr": 0.02}
    lines = vae.fit(BINARY, objective="dreg", samples=6, **settings).lines
    assert all(line["elbo"] < line["objective"] for line in lines)
    assert (vae.config.objective, vae.config.samples) == ("dreg", 6)
    other = small()
    other.fit(BINARY, **settings)
    assert bits(vae) != bits(other)
    with pytest.raises(InputError, match=r"^samples: got 1, expected at least 2 for objective score"):
        small().fit(BINARY, objective="score", **settings)


def test_fit_is_pure_in_the_seed_and_goes_on_from_the_present_parameters() -> None:
    first, second, other = small(), small(), small()
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 20}
    first.fit(GREY, **settings)
    second.fit(GREY, **settings)
    other.fit(GREY, seed=4, **settings)
    assert bits(first) == bits(second) != bits(other)
    once = bits(first)
    first.fit(GREY, **settings)
    assert bits(first) != once


def test_fit_is_the_same_on_images_and_on_rows() -> None:
    rows, images = small(), small()
    rows.fit(GREY, epochs=1, batch_size=20)
    images.fit(GREY.reshape(60, 4, 4), epochs=1, batch_size=20)
    assert bits(rows) == bits(images)


def test_a_fit_that_fails_leaves_the_model_as_it_was() -> None:
    vae = small()
    before = bits(vae)
    with pytest.raises(NonFiniteError, match=r"step 2: \w+ is not finite"):
        vae.fit(BINARY, batch_size=20, lr=1e30)
    with pytest.raises(InputError, match="batch_size: got 61, expected at most the 60 training rows"):
        vae.fit(BINARY, batch_size=61)
    assert bits(vae) == before


def test_grey_pixels_are_drawn_anew_at_each_visit_unless_fixed() -> None:
    dynamic, default, fixed = small(), small(), small()
    dynamic.fit(GREY, epochs=2, batch_size=20, binarize="dynamic")
    default.fit(GREY, epochs=2, batch_size=20)
    fixed.fit(GREY, epochs=2, batch_size=20, binarize="fixed")
    assert bits(default) == bits(dynamic) != bits(fixed)


# Shapes, dtypes, and agreement with the parts


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("x", "likelihood"),
    [(BINARY, "bernoulli"), (GREY, "bernoulli"), (GREY / 255, "bernoulli-grey"), (POINTS, "normal"),
     (POINTS, "normal-fixed"), (POINTS, "normal-diagonal")],
)  # fmt: skip
def test_shapes_and_dtypes(x: Array, likelihood: str, dtype: str) -> None:
    n, d = x.shape
    vae = fitted(x, likelihood=likelihood, dtype=dtype)
    mu, logvar = vae.encode(x)
    assert (mu.shape, logvar.shape, mu.dtype, logvar.dtype) == ((n, 2), (n, 2), dtype, dtype)
    mean = vae.decode(mu)
    assert (mean.shape, mean.dtype) == ((n, d), dtype)
    np.testing.assert_array_equal(vae.reconstruct(x), mean)
    terms = vae.elbo(x)
    assert terms.elbo.shape == terms.reconstruction.shape == terms.kl.shape == (n,)
    np.testing.assert_array_equal(terms.elbo, terms.reconstruction - terms.kl)
    assert (terms.kl >= 0).all()
    if likelihood == "bernoulli-grey":
        with pytest.raises(InputError, match="no likelihood"):
            vae.log_likelihood(x, samples=3)
    else:
        estimate = vae.log_likelihood(x, samples=3)
        assert estimate.log_likelihood.shape == estimate.stderr.shape == estimate.ess.shape == (n,)
    draws, means = vae.sample(5), vae.sample(5, mean=True)
    assert draws.shape == means.shape == (5, d)
    assert means.dtype == dtype
    if vae.arch.is_bernoulli:
        assert draws.dtype == np.uint8
        assert set(np.unique(draws)) <= {0, 1}
        assert ((means > 0) & (means < 1)).all()
    else:
        assert draws.dtype == dtype


def test_methods_agree_with_the_functions_they_are_made_of() -> None:
    vae = fitted()
    (mu, logvar), _ = model.encode_forward(ops, vae.arch, vae.parameters, BINARY)
    for got, expected in zip(vae.encode(BINARY), (mu, logvar), strict=True):
        np.testing.assert_array_equal(got, expected)
    z = noise.normal(np.arange(4), 2, seed=9, stream=noise.PRIOR, dtype="float32")
    np.testing.assert_array_equal(vae.sample(4, seed=9, mean=True), vae.decode(z))
    logits, _ = model.decode_forward(ops, vae.arch, vae.parameters, z)
    np.testing.assert_allclose(vae.decode(z), 1 / (1 + np.exp(-logits)), rtol=1e-6)


def test_one_latent_vector_is_decoded_as_one_row() -> None:
    assert fitted().decode(np.zeros(2)).shape == (1, 16)


def test_samples_follow_their_means() -> None:
    """Over many draws, the frequency of each pixel is its probability's mean, and a normal's spread is its sigma."""
    vae = fitted()
    frequency, probability = vae.sample(20000, 1).mean(axis=0), vae.sample(20000, 1, mean=True).mean(axis=0)
    assert np.abs(frequency - probability).max() < 5 * 0.5 / np.sqrt(20000)
    normal = small(2, likelihood="normal-fixed", sigma=0.3)
    spread = normal.sample(20000, 1) - normal.sample(20000, 1, mean=True)
    assert spread.std() == pytest.approx(0.3, rel=5 / np.sqrt(2 * 40000))
    learned = small(2, likelihood="normal-diagonal", sigma=0.3)
    np.testing.assert_allclose(learned.sample(9), normal.sample(9), rtol=1e-5)


def test_samples_do_not_depend_on_how_many_are_asked_for() -> None:
    vae = fitted()
    np.testing.assert_array_equal(vae.sample(3, 7), vae.sample(8, 7)[:3])
    assert (vae.sample(8, 7) != vae.sample(8, 8)).any()


def test_the_elbo_is_below_the_log_likelihood_and_more_draws_change_it_little() -> None:
    vae = fitted(dtype="float64")
    bound, evidence = vae.elbo(BINARY, z_samples=100).elbo, vae.log_likelihood(BINARY, samples=500)
    # Both are estimates: the bound's own noise is a few hundredths of a nat at 100 draws.
    assert (bound < evidence.log_likelihood + 5 * evidence.stderr + 0.1).all()
    assert bound.mean() < evidence.log_likelihood.mean()


def test_evaluation_has_the_models_seed_unless_another_is_given() -> None:
    vae = fitted(GREY)
    np.testing.assert_array_equal(vae.elbo(GREY).elbo, vae.elbo(GREY, seed=3).elbo)
    assert (vae.elbo(GREY).elbo != vae.elbo(GREY, seed=4).elbo).any()
    first, second = (vae.log_likelihood(GREY, 5, seed=seed).log_likelihood for seed in (3, 4))
    np.testing.assert_array_equal(vae.log_likelihood(GREY, 5).log_likelihood, first)
    assert (first != second).any()


def test_grey_is_drawn_once_for_evaluation_and_thresholded_if_asked() -> None:
    vae = fitted(GREY)
    np.testing.assert_array_equal(vae.elbo(GREY, binarize="threshold").elbo, vae.elbo(BINARY, values="binary").elbo)
    np.testing.assert_array_equal(vae.elbo(GREY).elbo, vae.elbo(GREY / 255.0, values="unit").elbo)
    np.testing.assert_array_equal(vae.encode(GREY)[0], vae.encode(GREY)[0])


def test_evaluation_binarises_as_the_model_was_fitted() -> None:
    vae = small()
    vae.fit(GREY, epochs=1, batch_size=20, binarize="threshold")
    np.testing.assert_array_equal(vae.elbo(GREY).elbo, vae.elbo(GREY, binarize="threshold").elbo)
    assert (vae.elbo(GREY).elbo != vae.elbo(GREY, binarize="dynamic").elbo).any()


# What the numbers mean


DOORS: dict[str, Callable[..., Array]] = {
    "elbo": lambda vae, x, **how: vae.elbo(x, **how).elbo,
    "encode": lambda vae, x, **how: vae.encode(x, **how)[0],
    "reconstruct": lambda vae, x, **how: vae.reconstruct(x, **how),
    "log_likelihood": lambda vae, x, **how: vae.log_likelihood(x, 5, **how).log_likelihood,
    "annealed": lambda vae, x, **how: vae.annealed_log_likelihood(
        x, Annealing(temperatures=5, chains=2, leapfrog=2), **how
    ).log_likelihood,
}
# One row goes through a matrix-vector product, which sums in another order.
SAME: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-10}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("dtype", [np.int64, np.float64])
@pytest.mark.parametrize("is_fitted", [True, False])
def test_a_row_of_a_table_is_worth_the_same_alone_and_beside_negative_ones(
    door: str, dtype: type, is_fitted: bool
) -> None:
    x = np.array([[5, 10], [-1, 3], [2, 0], [0, 1]], dtype)
    vae = small(2, likelihood="normal", dtype="float64")
    if is_fitted:
        vae.fit(x, epochs=2, batch_size=2)
    whole = DOORS[door](vae, x)
    for part in (slice(0, 1), slice(2, 4), slice(0, 3)):
        # The noise of an example is its place's: only the first rows of x have the places that they have alone.
        if part.start == 0 or door in ("encode", "reconstruct"):
            np.testing.assert_allclose(DOORS[door](vae, x[part]), whole[part], **SAME)


@pytest.mark.parametrize("door", DOORS)
def test_a_row_of_bytes_nearly_black_is_no_binary_row(door: str) -> None:
    x = np.where(np.arange(16) % 3 == 0, 1, 0) * np.ones((20, 1), np.uint8)
    x[1:] = GREY[1:20]
    x = x.astype(np.uint8)
    vae = fitted(x, dtype="float64")
    assert vae.values.kind == "byte"
    whole = DOORS[door](vae, x)
    for alone in (x[:1], x[:1].astype(float), x[:1].astype(np.int64)):
        np.testing.assert_allclose(DOORS[door](vae, alone), whole[:1], **SAME)
    as_binary = DOORS[door](vae, x[:1], values="binary")
    assert np.abs(as_binary - whole[:1]).max() > 1e-3
    np.testing.assert_allclose(DOORS[door](vae, x[:1].astype(bool)), as_binary, **SAME)


@pytest.mark.parametrize(
    ("train", "held_out", "settings"),
    [
        (np.array([[5, 10], [-1, 3]] * 10), np.array([[5, 10], [7, 2]]), {"likelihood": "normal"}),
        (GREY, np.where(BINARY == 1, 1, 0)[:5], {}),
        (GREY / 255, BINARY[:5], {}),
    ],
    ids=["real", "byte", "unit"],
)
def test_validation_is_read_as_the_training_rows_are(train: Array, held_out: Array, settings: dict[str, Any]) -> None:
    vae = small(train.shape[1], dtype="float64", **settings)
    line = vae.fit(train, validation=held_out, epochs=1, batch_size=10).split("validation")[0]
    assert line["elbo"] == pytest.approx(vae.elbo(held_out).elbo.mean(), rel=1e-12)
    beside = np.concatenate([held_out, train])
    assert line["elbo"] == pytest.approx(vae.elbo(beside).elbo[: len(held_out)].mean(), rel=1e-10)


@pytest.mark.parametrize(
    ("x", "bad", "message"),
    [
        (GREY, GREY / 255, "numbers from .* expected whole numbers from 0 to 255 .* from 25 to 230; .*'unit'"),
        (GREY, GREY.astype(int) - 30, "whole numbers from -5 to 200, expected whole numbers from 0 to 255"),
        (BINARY, GREY, "whole numbers from 25 to 230, expected only 0 and 1 .* from 0 to 1; .* values 'byte'"),
        (GREY / 255, GREY, "whole numbers from 25 to 230, expected numbers from 0 to 1 .*; .* values 'byte'"),
    ],
    ids=["unit to byte", "negative to byte", "byte to binary", "byte to unit"],
)
def test_a_later_array_that_does_not_fit_is_refused_with_both_ranges(x: Array, bad: Array, message: str) -> None:
    vae = fitted(x)
    before = bits(vae)
    for door in DOORS.values():
        with pytest.raises(DataError, match=f"^x: got {message}"):
            door(vae, bad)
    with pytest.raises(DataError, match=f"^x: got {message}"):
        vae.fit(bad, epochs=1, batch_size=20)
    with pytest.raises(DataError, match=f"^validation: got {message}"):
        vae.fit(x, validation=bad, epochs=1, batch_size=20)
    assert bits(vae) == before


def test_an_unfitted_model_reads_numbers_by_its_likelihood() -> None:
    assert (small().values, small(likelihood="normal").values) == (UNIT, REAL)
    with pytest.raises(DataError, match=r"^x: got whole numbers from 25 to 230, expected numbers from 0 to 1 .*'byte'"):
        small().elbo(GREY)
    np.testing.assert_array_equal(small(values="byte").elbo(GREY).elbo, small().elbo(GREY, values="byte").elbo)


def test_levels_are_asked_for_and_kept() -> None:
    levels = np.where(BINARY == 1, 15, 1)
    with pytest.raises(DataError, match=r"^scale: x has whole numbers from 1 to 15, .* scale=15"):
        small().fit(levels)
    vae, grey = small(), small()
    vae.fit(levels, scale=16, epochs=2, batch_size=20)
    grey.fit(levels / 16, epochs=2, batch_size=20)
    assert (vae.values.kind, vae.values.scale, vae.config.scale) == ("unit", 16, 16)
    assert bits(vae) == bits(grey)
    np.testing.assert_array_equal(vae.elbo(levels).elbo, grey.elbo(levels / 16).elbo)
    with pytest.raises(DataError, match="x: got whole numbers from 2 to 30, expected numbers from 0 to 16"):
        vae.elbo(levels * 2)


def test_what_was_decided_stays_through_later_fits() -> None:
    vae = small(values="byte")
    dark = np.where(BINARY == 1, 9, 1)
    vae.fit(dark, epochs=1, batch_size=20)
    assert vae.values.span is not None
    vae.fit(GREY, epochs=1, batch_size=20)
    assert vae.values.span.high == 9
    for named in ({"values": "unit"}, {"values": "real"}, {"scale": 9}):
        with pytest.raises(DataError, match=r"^(values|scale): got .* but the model has grey, bytes over 255; a"):
            vae.fit(dark, epochs=1, batch_size=20, **named)


def test_the_kind_that_an_array_is_named_has_to_mean_the_same() -> None:
    with pytest.raises(DataError, match=r"^values: got 'real', but the model was fitted to 'byte' values"):
        fitted(GREY).elbo(GREY, values="real")
    with pytest.raises(DataError, match=r"^values: got 'byte', but the model was fitted to 'real' values"):
        fitted(POINTS, likelihood="normal").elbo(POINTS, values="byte")
    with pytest.raises(DataError, match=r"^values: got 'grey', expected one of binary, byte, unit, real"):
        fitted(GREY).elbo(GREY, values="grey")


@pytest.mark.parametrize("door", DOORS)
def test_masked_cells_are_refused_at_every_door(door: str) -> None:
    vae = fitted(POINTS, likelihood="normal")
    masked = np.ma.masked_array(POINTS, POINTS > 1)
    count = int((POINTS > 1).sum())
    with pytest.raises(DataError, match=rf"^x: has {count} of 120 cells masked, expected none; .* x.filled\(value\)"):
        DOORS[door](vae, masked)
    whole = np.ma.masked_array(POINTS, False)
    np.testing.assert_array_equal(DOORS[door](vae, whole), DOORS[door](vae, POINTS))


def test_masked_cells_are_refused_by_fit_and_decode() -> None:
    vae = small(2, likelihood="normal")
    masked = np.ma.masked_array(POINTS, POINTS > 1)
    with pytest.raises(DataError, match=r"^x: has \d+ of 120 cells masked"):
        vae.fit(masked, batch_size=20)
    with pytest.raises(DataError, match=r"^validation: has \d+ of 120 cells masked"):
        vae.fit(POINTS, validation=masked, batch_size=20)
    with pytest.raises(DataError, match=r"^z: has \d+ of 120 cells masked"):
        vae.decode(masked)


# Standardisation


def table(rows: int = 60) -> Array:
    """Columns of very different scales, and one that is constant."""
    z = np.random.default_rng(0).normal(size=(rows, 1))
    noise_ = np.random.default_rng(1).normal(size=(rows, 4))
    return (z + 0.3 * noise_) * (3e4, 0.02, 500, 0) + (1e5, -4, 0, 7)


def test_a_standardised_fit_is_the_fit_of_standardised_data() -> None:
    x = table()
    mean, sigma = x.mean(axis=0), np.where([True, True, True, False], x.std(axis=0), 1)
    vae, plain = (small(4, likelihood="normal-diagonal", dtype="float64") for _ in range(2))
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 20, "lr": 0.01}
    history = vae.fit(x, standardize=True, validation=x[:9], **settings)
    assert vae.values.standardisation is not None
    seen = vae.values.to_model(x)
    np.testing.assert_allclose(seen, (x - mean) / sigma, rtol=1e-8, atol=1e-8)
    reference = plain.fit(seen, values="real", validation=seen[:9], **settings)
    assert bits(vae) == bits(plain)
    log_det = -np.log(sigma).sum()
    assert vae.values.log_det_jacobian == pytest.approx(log_det, rel=1e-12)
    # Log-densities of the data: those of what the model sees, less Σ log σ.
    for name in ("elbo", "reconstruction", "objective"):
        for line, other in zip(history.split("train"), reference.split("train"), strict=True):
            assert line[name] == pytest.approx(other[name] + log_det, rel=1e-10)
    for line, other in zip(history.split("validation"), reference.split("validation"), strict=True):
        assert line["elbo"] == pytest.approx(other["elbo"] + log_det, rel=1e-10)
        assert line["kl"] == pytest.approx(other["kl"], rel=1e-10)
    for door in ("elbo", "log_likelihood", "annealed"):
        np.testing.assert_allclose(DOORS[door](vae, x), DOORS[door](plain, seen) + log_det, rtol=1e-10)
    np.testing.assert_allclose(vae.encode(x)[0], plain.encode(seen)[0], rtol=1e-12)
    np.testing.assert_allclose(vae.reconstruct(x), plain.reconstruct(seen) * sigma + mean, rtol=1e-10)
    np.testing.assert_allclose(vae.sample(9), plain.sample(9) * sigma + mean, rtol=1e-10)
    np.testing.assert_allclose(vae.sample(9, mean=True), plain.sample(9, mean=True) * sigma + mean, rtol=1e-10)
    both, of_plain = (each.bidirectional(3, Annealing(temperatures=5, chains=2, leapfrog=2)) for each in (vae, plain))
    np.testing.assert_allclose(both.log_likelihood, of_plain.log_likelihood + log_det, rtol=1e-6)
    np.testing.assert_allclose(both.upper, of_plain.upper + log_det, rtol=1e-6)


def test_the_density_of_a_standardised_model_integrates_to_one() -> None:
    """Against quadrature, on the data's own scale: a missing or doubled Σ log σ would make it σ or 1/σ."""
    x = np.random.default_rng(2).normal(50, 20, (200, 1))
    vae = small(1, likelihood="normal", dtype="float64", latent=1)
    vae.fit(x, standardize=True, epochs=5, batch_size=20, lr=0.01)
    places = np.linspace(-250, 350, 1201)[:, None]
    density = np.exp(vae.log_likelihood(places, 400).log_likelihood)
    assert np.trapezoid(density, places[:, 0]) == pytest.approx(1, abs=0.02)


def test_standardisation_is_kept_with_the_model(tmp_path: Path) -> None:
    x = table()
    vae = small(4, likelihood="normal")
    vae.fit(x, standardize=True, epochs=2, batch_size=20)
    vae.save(tmp_path)
    loaded = VAE.load(tmp_path, backend="numpy")
    assert loaded.config.standardize
    assert loaded.values.to_mapping() == vae.values.to_mapping()
    for door in DOORS.values():
        assert door(loaded, x).tobytes() == door(vae, x).tobytes()
        assert door(loaded, x[:3]).tobytes() == door(vae, x[:3]).tobytes()
    assert loaded.sample(5).tobytes() == vae.sample(5).tobytes()
    alone = VAE.load(tmp_path / checkpoint.WEIGHTS_FILE, backend="numpy", seed=3)
    assert alone.sample(5).tobytes() == vae.sample(5).tobytes()
    loaded.fit(x[:40] * 2, epochs=1, batch_size=20)
    assert loaded.values.to_mapping() == vae.values.to_mapping()


def test_standardisation_needs_real_data_and_is_decided_once() -> None:
    with pytest.raises(InputError, match=r"^x: likelihood 'bernoulli' takes values"):
        small().fit(BINARY, standardize=True)
    with pytest.raises(DataError, match=r"^standardize: x holds binary, 0 and 1, expected real values"):
        small(likelihood="normal").fit(BINARY, standardize=True, values="binary")
    plain = fitted(POINTS, likelihood="normal")
    with pytest.raises(DataError, match=r"^standardize: got True, but the model was fitted to data that are not"):
        plain.fit(POINTS, standardize=True)


@pytest.mark.parametrize("lr", [1e-9, 1e-3])
def test_what_dies_of_the_datas_scale_is_told_so_at_any_lr(lr: float) -> None:
    x = np.random.default_rng(0).normal(0, 1e7, (60, 4))
    with pytest.raises(NonFiniteError) as raised:
        small(4, likelihood="normal").fit(x, batch_size=20, lr=lr)
    message = str(raised.value)
    assert message.startswith("step 1: ")
    assert "the data have numbers from -" in message
    assert "standardize=True" in message
    assert "lr" not in message
    small(4, likelihood="normal").fit(x, batch_size=20, lr=lr, standardize=True)


# Saving and loading


@pytest.mark.parametrize(
    ("x", "settings"),
    [
        (GREY, {}),
        (GREY, {"dtype": "float64", "activation": "softplus", "hidden": (7, 5)}),
        (BINARY, {"hidden": ()}),
        (POINTS, {"likelihood": "normal-diagonal", "sigma": 0.5}),
        (POINTS, {"likelihood": "normal-fixed", "sigma": 0.25}),
    ],
)
def test_a_loaded_model_gives_the_same_bits(x: Array, settings: dict[str, Any], tmp_path: Path) -> None:
    vae = fitted(x, **settings)
    vae.save(tmp_path / "saved")
    loaded = VAE.load(tmp_path / "saved", backend="numpy")
    assert bits(loaded) == bits(vae)
    assert loaded.arch == vae.arch
    assert loaded.config == vae.config
    for name in ("elbo", "reconstruction", "kl"):
        assert getattr(loaded.elbo(x), name).tobytes() == getattr(vae.elbo(x), name).tobytes()
    assert loaded.sample(4).tobytes() == vae.sample(4).tobytes()
    alone = VAE.load(str(tmp_path / "saved" / checkpoint.WEIGHTS_FILE), backend="numpy", seed=3)
    assert alone.elbo(x).elbo.tobytes() == vae.elbo(x).elbo.tobytes()
    loaded.save(tmp_path / "again")
    for name in (checkpoint.WEIGHTS_FILE, "config.toml"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "saved" / name).read_bytes()


def test_the_parameters_can_be_written() -> None:
    vae = small()
    vae.parameters["decoder.out.bias"][...] = 1e4
    assert (vae.sample(3) == 1).all()
    assert np.isfinite(vae.elbo(BINARY).elbo).all()


def test_its_name_says_what_it_is() -> None:
    assert repr(small(hidden=(8, 4), latent=2)) == "<VAE 16-8-4-2, relu, bernoulli, float32, numpy, 388 parameters>"


# Messages


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: v.elbo(BINARY[:, :5]), r"x: got shape \(60, 5\), expected \(N, 16\)"),
        (lambda v: v.encode(BINARY[0]), r"x: got shape \(16,\), expected \(N, D\) or \(N, H, W\)"),
        (lambda v: v.fit(BINARY[:0]), r"x: got the empty shape \(0, 16\), expected at least one row"),
        (lambda v: v.fit(np.where(BINARY == 1, np.nan, 0)), r"x: got nan at row \d+, column \d+"),
        (lambda v: v.elbo(np.where(BINARY == 1, np.inf, 0)), r"x: got inf at row"),
        (lambda v: v.elbo("digits"), r"x: got <U6, expected numbers"),
        (lambda v: v.fit(BINARY * 300.0), r"x: likelihood 'bernoulli' takes values in \[0, 1\] or whole numbers"),
        (lambda v: v.fit(BINARY - 1.0), r"have whole numbers from -1 to 0; use likelihood 'normal' with"),
        (lambda v: v.fit(GREY, binarize="none"), r"x: likelihood 'bernoulli' is not one for grey values; use binarize"),
        (lambda v: v.elbo(GREY / 255, binarize="none"), r"x: likelihood 'bernoulli' is not one for grey values"),
        (lambda v: v.elbo(BINARY, binarize="coin"), r"binarize: got 'coin', expected one of dynamic, fixed"),
        (lambda v: v.fit(BINARY, validation=BINARY[:, :3]), r"validation: got shape \(60, 3\), expected \(N, 16\)"),
        (lambda v: v.fit(BINARY, epochs=0), r"epochs: got 0, expected a whole number >= 1"),
        (lambda v: v.fit(BINARY, lr=-0.1), r"lr: got -0.1, expected a number > 0"),
        (lambda v: v.fit(BINARY, beta=-1), r"beta: got -1, expected a number >= 0"),
        (lambda v: v.fit(BINARY, seed=-1), r"seed: got -1, expected a whole number >= 0"),
        (lambda v: v.fit(BINARY, optimizer="sgd"), r"optimizer: got 'sgd', expected one of adam, adagrad"),
        (lambda v: v.elbo(BINARY, seed=-1), r"seed: got .*, expected an integer from 0"),
        (lambda v: v.elbo(BINARY, z_samples=0), r"z_samples: got 0, expected a whole number >= 1"),
        (lambda v: v.log_likelihood(BINARY, samples=1.5), r"samples: got 1.5, expected a whole number >= 1"),
        (lambda v: v.sample(0), r"n: got 0, expected a whole number >= 1"),
        (lambda v: v.sample("8"), r"n: got '8', expected a whole number >= 1"),
        (lambda v: v.sample(1, seed=2**64), r"seed: got .*, expected an integer from 0"),
        (lambda v: v.decode(np.zeros((4, 3))), r"z: got shape \(4, 3\), expected \(N, 2\)"),
    ],
)
def test_what_cannot_be_used_is_named(call: Callable[[VAE], Any], message: str) -> None:
    vae = small()
    before = bits(vae)
    with pytest.raises(InputError, match=message) as raised:
        call(vae)
    assert isinstance(raised.value, ValueError)
    assert len(str(raised.value).splitlines()) == 1
    assert bits(vae) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": 0}, r"features: got 0, expected a whole number > 0"),
        ({"features": 2.5}, r"features: got 2.5"),
        ({"latent": 0}, r"latent: got 0, expected a whole number >= 1"),
        ({"hidden": (4, -1)}, r"hidden: got 4,-1, expected sizes >= 1"),
        ({"activation": "gelu"}, r"activation: got 'gelu', expected one of relu, tanh, softplus"),
        ({"likelihood": "gamma"}, r"likelihood: got 'gamma', expected one of bernoulli, "),
        ({"sigma": 0}, r"sigma: got 0, expected a number > 0"),
        ({"dtype": "float16"}, r"dtype: got 'float16', expected one of float32, float64"),
        ({"init": "zeros"}, r"init: got 'zeros', expected one of uniform, glorot"),
        ({"seed": 2**64}, r"seed: got 18446744073709551616, expected a whole number >= 0 and < 2\*\*64"),
        ({"backend": "jax"}, r"backend: got 'jax', expected one of auto, numpy, numba, cupy"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        VAE(**settings)
    assert isinstance(raised.value, InputError | BackendError)


def test_a_model_that_is_not_there_or_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no such file$") as raised:
        VAE.load(tmp_path / "nowhere")
    assert isinstance(raised.value, MissingFileError)
    (tmp_path / "noise").write_bytes(b"noise" * 100)
    with pytest.raises(CheckpointError, match=r"noise: is truncated or not a safetensors file"):
        VAE.load(tmp_path / "noise")
    small().save(tmp_path / "saved")
    weights = checkpoint.load_weights(tmp_path / "saved")
    (tmp_path / "bent").mkdir()
    checkpoint.save(
        tmp_path / "bent",
        parameters=weights.parameters,
        moments={},
        architecture={**weights.architecture, "latent": 3},
        config={},
        step=0,
        extra={},
    )
    with pytest.raises(CheckpointError, match=r"bent: checkpoint: belongs to another architecture: \S+ has shape"):
        VAE.load(tmp_path / "bent")
    with pytest.raises(WriteError, match=r"below: cannot be written \(Not a directory\)$"):
        small().save(tmp_path / "noise" / "below")


@pytest.mark.parametrize("likelihood", ["bernoulli", "normal"])
def test_an_error_state_of_the_callers_changes_nothing(likelihood: str, tmp_path: Path) -> None:
    """`np.seterr(all="raise")` around every method: the same numbers, and the state is the caller's again."""

    def everything() -> list[Any]:
        vae = VAE(4, hidden=(3,), latent=2, likelihood=likelihood, backend="numpy", seed=3)
        x = np.tile(np.eye(4), (5, 1)) if likelihood == "bernoulli" else np.linspace(-900, 900, 80).reshape(20, 4)
        vae.fit(x, epochs=3, batch_size=5, lr=1e-4, seed=1, validation=x)
        vae.save(tmp_path / "saved")
        vae = VAE.load(tmp_path / "saved", backend="numpy")
        # So far from zero that exp underflows.
        vae.parameters["decoder.out.bias"][...] = 800 if likelihood == "bernoulli" else 0
        estimate = vae.log_likelihood(x, 4)
        annealed = vae.annealed_log_likelihood(x[:2], Annealing(chains=2, temperatures=3, leapfrog=2))
        both = vae.bidirectional(2, Annealing(chains=2, temperatures=3, leapfrog=2))
        return [
            *vae.encode(x), vae.decode(np.full((1, 2), 50.0)), vae.sample(3), vae.sample(3, mean=True), vae.prior(3),
            vae.reconstruct(x), vae.elbo(x).elbo, estimate.log_likelihood, annealed.log_likelihood, both.upper,
        ]  # fmt: skip

    expected = everything()
    with np.errstate(all="raise"):
        before = np.geterr()
        found = everything()
        assert np.geterr() == before
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_seed_may_be_a_generator_or_left_to_chance(tmp_path: Path) -> None:
    first, again, after = (VAE(4, hidden=(3,), latent=2, seed=seed) for seed in (
        np.random.default_rng(3), np.random.default_rng(3), 5
    ))  # fmt: skip
    assert first.parameters.flat.tobytes() == again.parameters.flat.tobytes() != after.parameters.flat.tobytes()
    generator = np.random.default_rng(0)
    one, other = first.sample(50, generator), first.sample(50, generator)
    assert not np.array_equal(one, other)
    assert np.array_equal(one, first.sample(50, np.random.default_rng(0)))
    x = np.array([[0.0, 1, 0, 1]])
    assert first.elbo(x, seed=np.random.default_rng(1)).elbo == first.elbo(x, seed=np.random.default_rng(1)).elbo
    assert first.elbo(x).elbo == first.elbo(x, seed=first.config.seed).elbo
    first.save(tmp_path / "run")
    loaded = VAE.load(tmp_path / "run", seed=np.random.default_rng(1))
    assert loaded.config.seed == np.random.default_rng(1).integers(2**63)
    # The model keeps the number, so that what chance gave can be had again.
    chance = VAE(4, hidden=(3,), latent=2, seed=None)
    assert chance.config.seed != VAE(4, hidden=(3,), latent=2, seed=None).config.seed
    repeated = VAE(4, hidden=(3,), latent=2, seed=chance.config.seed)
    assert repeated.parameters.flat.tobytes() == chance.parameters.flat.tobytes()
