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
from vae_np.data import bars, rings
from vae_np.errors import BackendError, CheckpointError, InputError, MissingFileError, NonFiniteError, WriteError

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
    vae = fitted()
    np.testing.assert_array_equal(vae.elbo(GREY).elbo, vae.elbo(GREY, seed=3).elbo)
    assert (vae.elbo(GREY).elbo != vae.elbo(GREY, seed=4).elbo).any()
    first, second = (vae.log_likelihood(GREY, 5, seed=seed).log_likelihood for seed in (3, 4))
    np.testing.assert_array_equal(vae.log_likelihood(GREY, 5).log_likelihood, first)
    assert (first != second).any()


def test_grey_is_drawn_once_for_evaluation_and_thresholded_if_asked() -> None:
    vae = fitted()
    np.testing.assert_array_equal(vae.elbo(GREY, binarize="threshold").elbo, vae.elbo(BINARY).elbo)
    np.testing.assert_array_equal(vae.elbo(GREY).elbo, vae.elbo(GREY / 255.0).elbo)
    np.testing.assert_array_equal(vae.encode(GREY)[0], vae.encode(GREY)[0])


def test_real_rows_that_are_whole_numbers_by_chance_are_no_bytes() -> None:
    """Nor is a batch within [0, 1] anything else: each row has the ELBO that it has among its neighbours."""
    vae = fitted(POINTS, likelihood="normal", dtype="float64")
    x = np.array([[2.0, 0.0], [0.0, 1.0], [0.1, 0.7], [-1.5, 300.25]])
    whole = vae.encode(x)[0]
    for row in range(4):
        # One row goes through a matrix-vector product, which sums in another order.
        np.testing.assert_allclose(vae.encode(x[row : row + 1])[0], whole[row : row + 1], rtol=1e-12)


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
        (lambda v: v.elbo(BINARY[:, :5]), r"x has shape \(60, 5\), expected \(N, 16\)"),
        (lambda v: v.encode(BINARY[0]), r"x has shape \(16,\), expected \(N, D\) or \(N, H, W\)"),
        (lambda v: v.fit(BINARY[:0]), r"x is empty"),
        (lambda v: v.fit(np.where(BINARY == 1, np.nan, 0)), r"x has the value nan at row \d+, column \d+"),
        (lambda v: v.elbo(np.where(BINARY == 1, np.inf, 0)), r"x has the value inf at row"),
        (lambda v: v.elbo("digits"), r"x holds <U6, expected numbers"),
        (lambda v: v.fit(BINARY * 300.0), r"x: likelihood 'bernoulli' takes values in \[0, 1\] or whole numbers"),
        (lambda v: v.fit(BINARY - 1.0), r"they run from -1 to 0; use likelihood 'normal' with binarize 'none'"),
        (lambda v: v.fit(GREY, binarize="none"), r"x: likelihood 'bernoulli' is none for grey values; use binarize"),
        (lambda v: v.elbo(GREY, binarize="none"), r"x: likelihood 'bernoulli' is none for grey values"),
        (lambda v: v.elbo(GREY, binarize="coin"), r"binarize 'coin': expected one of dynamic, fixed"),
        (lambda v: v.fit(BINARY, validation=BINARY[:, :3]), r"validation has shape \(60, 3\), expected \(N, 16\)"),
        (lambda v: v.fit(BINARY, epochs=0), r"epochs: got 0, expected a whole number >= 1"),
        (lambda v: v.fit(BINARY, lr=-0.1), r"lr: got -0.1, expected a number > 0"),
        (lambda v: v.fit(BINARY, beta=-1), r"beta: got -1, expected a number >= 0"),
        (lambda v: v.fit(BINARY, seed=-1), r"seed: got -1, expected a whole number >= 0"),
        (lambda v: v.fit(BINARY, optimizer="sgd"), r"optimizer: got 'sgd', expected one of adam, adagrad"),
        (lambda v: v.elbo(BINARY, seed=-1), r"seed must be an integer from 0"),
        (lambda v: v.elbo(BINARY, z_samples=0), r"z_samples: got 0, expected a whole number > 0"),
        (lambda v: v.log_likelihood(BINARY, samples=1.5), r"samples: got 1.5, expected a whole number > 0"),
        (lambda v: v.sample(0), r"n: got 0, expected a whole number > 0"),
        (lambda v: v.sample("8"), r"n: got '8', expected a whole number > 0"),
        (lambda v: v.sample(1, seed=2**64), r"seed must be an integer from 0"),
        (lambda v: v.decode(np.zeros((4, 3))), r"z has shape \(4, 3\), expected \(N, 2\)"),
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
        ({"likelihood": "poisson"}, r"likelihood: got 'poisson', expected one of bernoulli, "),
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
