"""Conditional models: gradients, the closed form with a linear shift, conditions of every kind, and every door.

Budget: about 4 s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import good, vae_np
from numeric import complex_step, error, make_problem

from vae_np import VAE, backends, data, ops
from vae_np.architecture import Architecture
from vae_np.choices import OBJECTIVES
from vae_np.elbo import elbo_backward, elbo_forward
from vae_np.errors import CheckpointError, DataError, InputError
from vae_np.evaluation.annealing import Annealing
from vae_np.evaluation.importance import importance_log_likelihood
from vae_np.exact.linear_gaussian import LinearGaussian
from vae_np.model import Model, initialise
from vae_np.objectives import objective_forward
from vae_np.parameters import Parameters
from vae_np.runs.conditions import Conditions
from vae_np.training.trainer import architecture

SMALL = ("--hidden", 12, "--latent", 2, "--epochs", 2, "--batch-size", 20, "--backend", "numpy")


# --- Exactly ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [{}, {"prior": "mixture", "components": 3}, {"posterior": "planar"},
                                  {"hidden": ()}], ids=str)  # fmt: skip
def test_gradient_of_every_parameter(kind: dict[str, Any]) -> None:
    arch = Architecture(**{"features": 5, "latent": 3, "hidden": (4,), "activation": "tanh", "conditions": 2, **kind})
    p = make_problem(arch, batch=3, samples=2)
    x = np.hstack([p.x, np.random.default_rng(1).standard_normal((3, 2))])
    _, cache = elbo_forward(ops, arch, p.parameters, x, p.eps)
    gradients = p.parameters.zeros_like()
    elbo_backward(ops, arch, cache, gradients, beta=0.7)
    for name, value in p.parameters.items():
        expected = complex_step(
            lambda v, name=name: elbo_forward(ops, arch, {**p.parameters, name: v}, x, p.eps)[0].loss(0.7), value
        )
        assert error(gradients[name], expected) < 1e-12, name


def shifted(latent: int = 2, seed: int = 0) -> tuple[LinearGaussian, Any, Architecture, Parameters]:
    """x = W z + A c + b + noise: W and b, A (D, C), and the same as a conditional VAE whose q is p(z|x, c)."""
    random = np.random.default_rng(seed)
    weight, shift = random.standard_normal((4, latent)), random.standard_normal((4, 3))
    model = LinearGaussian(weight, random.standard_normal(4), 0.49)
    arch = Architecture(4, latent, (), "tanh", "normal-fixed", 0.7, posterior="full", conditions=3)
    parameters = Parameters(arch.shapes(), np.float64)
    parameters["decoder.out.weight"][...] = np.vstack([weight.T, shift.T])
    parameters["decoder.out.bias"][...] = model.bias
    covariance = np.linalg.inv(model.precision)
    gain = model.pull.T @ covariance
    parameters["encoder.mu.weight"][...] = np.vstack([gain, -shift.T @ gain])
    parameters["encoder.mu.bias"][...] = -model.bias @ gain
    lower = np.linalg.cholesky(covariance)
    parameters["encoder.logvar.bias"][...] = 2 * np.log(np.diag(lower))
    parameters["encoder.below.bias"][...] = lower[np.tril_indices(latent, -1)]
    return model, shift, arch, parameters


def test_at_the_posterior_the_elbo_is_log_p_of_x_given_c_in_closed_form() -> None:
    model, shift, arch, parameters = shifted()
    random = np.random.default_rng(1)
    x, c = random.standard_normal((6, 4)), random.standard_normal((6, 3))
    exact = model.log_prob(x - c @ shift.T)
    given = np.hstack([x, c])
    joint, _ = elbo_forward(ops, arch, parameters, given, random.standard_normal((6, 2)), form="joint")
    # At the posterior every draw's weight is p(x|c).
    assert error(joint.elbo, exact) < 1e-12
    found = importance_log_likelihood(Model(ops, arch, parameters), given, np.arange(6), samples=3, seed=0)
    assert error(found.log_likelihood, exact) < 1e-12
    # Another condition has another density.
    assert abs(exact - model.log_prob(x)).min() > 1e-2
    # The analytic form by a rule that is exact for squares.
    nodes = np.sqrt(2.0) * np.vstack([np.eye(2), -np.eye(2)])
    averaged = np.mean(
        [elbo_forward(ops, arch, parameters, given, np.tile(node, (6, 1)))[0].elbo for node in nodes], axis=0
    )
    assert error(averaged, exact) < 1e-12


@pytest.mark.slow
def test_training_reaches_log_p_of_x_given_c() -> None:
    """The trained ELBO, and the trained decoder's log p(x|c) in closed form, against the best that there is."""
    random = np.random.default_rng(0)
    n, weight, shift = 600, np.array([[1.5], [1.2], [-0.4]]), np.array([[2.0, 0.0], [-1.0, 1.0], [0.5, 3.0]])
    c = random.standard_normal((n, 2)) * [1, 5] + [0, 20]
    x = random.standard_normal((n, 1)) @ weight.T + c @ shift.T + 0.5 * random.standard_normal((n, 3))
    vae = VAE(3, hidden=(), latent=1, likelihood="normal", dtype="float64", conditions=2, backend="numpy")
    for lr in (0.05, 0.01, 0.001):
        vae.fit(x, given=c, epochs=60, batch_size=100, lr=lr, standardize=True)
    # The best linear shift is that of least squares, and what is left is probabilistic PCA, in closed form.
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    design = np.hstack([c, np.ones((n, 1))])
    left = scaled - design @ np.linalg.lstsq(design, scaled, rcond=None)[0]
    values, vectors = np.linalg.eigh(left.T @ left / n)
    noise = values[:2].mean()
    best = LinearGaussian(vectors[:, 2:] * np.sqrt(values[2] - noise), np.zeros(3), noise)
    highest = best.log_prob(left).mean() - np.log(x.std(axis=0)).sum()
    parts = vae.parameters["decoder.out.weight"]
    variance = float(np.exp(vae.parameters["likelihood.logvar"][0]))
    own = LinearGaussian(parts[:1].T, vae.parameters["decoder.out.bias"], variance)
    encoded = (c - c.mean(axis=0)) / c.std(axis=0)
    log_p = own.log_prob(scaled - encoded @ parts[1:]).mean() - np.log(x.std(axis=0)).sum()
    elbo = vae.elbo(x, given=c, z_samples=200).elbo.mean()
    assert 0 <= highest - log_p < 1e-2
    assert abs(highest - elbo) < 1e-2
    # Without the conditions the same model is far from it.
    assert vae.elbo(x, given=c[::-1]).elbo.mean() < highest - 1


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_takes_conditions_and_backends_agree(objective: str) -> None:
    arch = Architecture(5, 3, (4,), "tanh", conditions=2)
    p = make_problem(arch, batch=3, samples=2)
    x = np.hstack([p.x, np.eye(2, dtype=np.uint8)[[0, 1, 0]]])
    ours, _ = objective_forward(ops, arch, p.parameters, x, p.eps, objective=objective)
    for name in backends.present():
        backend = backends.choose(name)
        theirs, _ = objective_forward(backend.ops, arch, p.parameters, x, p.eps, objective=objective)
        assert error(theirs.elbo, ours.elbo) < 1e-12
        why = "numpy has nothing fused" if name == "numpy" else "nothing is fused for a conditional model"
        assert backend.unfused(arch) == why
    # What stands behind x is no part of what is reconstructed, and is seen by encoder and decoder.
    other = x.copy()
    other[:, 5:] = other[:, :4:-1]
    assert (objective_forward(ops, arch, p.parameters, other, p.eps, objective=objective)[0].elbo != ours.elbo).all()


# --- What conditions are ----------------------------------------------------------------------------------------


def test_labels_are_one_hot_by_name_and_columns_are_standardised() -> None:
    labels = data.Given.of(np.array([7, 3, 7, 10]))
    assert labels.names == ("3", "7", "10")
    for same in ([3, 10], ["3", "10"], np.array([3.0, 10.0]), np.array([3, 10], dtype=np.uint8)):
        assert labels.encode(same, 2).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert labels.encode("7", 3).tolist() == [[0, 1, 0]] * 3
    assert labels.encode(7, 2).dtype == np.uint8
    text = data.Given.of(np.array(["dog", "cat", "dog"], dtype=object))
    assert text.names == ("cat", "dog")
    numbers = np.random.default_rng(0).normal(5, 3, (50, 2))
    columns = data.Given.of(numbers)
    encoded = columns.encode(numbers, 50)
    assert np.abs(encoded.mean(axis=0)).max() < 1e-6
    assert np.abs(encoded.std(axis=0) - 1).max() < 1e-6
    assert (columns.encode(numbers[3], 2) == encoded[3]).all()
    for given, width in ((labels, 3), (columns, 2)):
        again = data.Given.from_mapping(given.to_mapping(), width)
        assert str(again) == str(given)
        assert again.to_mapping() == given.to_mapping()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.array([0.5, 1.5, 2]), "given: got float64 of shape (3,), expected labels (N,), whole numbers or text, or"),
        (np.zeros((2, 2, 2)), "given: got float64 of shape (2, 2, 2), expected"),
        (np.array([]), "given: got float64 of shape (0,), expected"),
        (np.array([["a", "b"]]), "given: got <U1 of shape (1, 2), expected"),
        (np.array([[1.0, np.nan]]), "given: got nan at row 0, column 1"),
    ],
    ids=str,
)
def test_what_cannot_be_a_condition_is_one_line(given: Any, says: str) -> None:
    with pytest.raises(DataError) as raised:
        data.Given.of(given)
    assert str(raised.value).startswith(says)


@pytest.mark.parametrize(
    "held",
    [
        {},
        {"names": ["a", "a", "b"]},
        {"names": ["a"]},
        {"mean": [0, 0, 0]},
        {"mean": [0.0] * 3, "sigma": [1, 0, 1]},
        {"mean": [0], "sigma": [1]},
    ],
    ids=str,
)
def test_a_damaged_record_is_refused(held: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="given: "):
        data.Given.from_mapping(held, 3)


def test_up_to_sixteen_labels_have_a_column_of_pictures_each() -> None:
    for names, expected in (("ab", 2), ("abcdefghijklmnop", 16), ("abcdefghijklmnopq", None)):
        rows = np.array(list(names))
        assert Conditions(data.Given.of(rows), rows, rows).in_a_row == expected
    numbers = np.random.default_rng(0).standard_normal((4, 2))
    assert Conditions(data.Given.of(numbers), numbers, numbers).in_a_row is None


# --- From Python ------------------------------------------------------------------------------------------------


def digits(rows: int = 300) -> tuple[Any, Any]:
    """Images of 9 pixels, whose label says which row is bright; text labels."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, rows)
    grey = np.full((rows, 3, 3), 0.1)
    grey[np.arange(rows), labels] = 0.9
    return (random.random((rows, 9)) < grey.reshape(rows, 9)).astype(np.uint8), np.array(["low", "mid", "top"])[labels]


def test_a_model_is_fitted_saved_loaded_and_asked(tmp_path: Path) -> None:
    x, labels = digits()
    vae = VAE(9, hidden=(16,), latent=2, conditions=3, backend="numpy", seed=1)
    vae.fit(x, given=labels, validation=60, epochs=40, batch_size=60, lr=0.02)
    assert str(vae.given) == "3 labels: low, mid, top"
    for code, name in enumerate(vae.given.names):  # type: ignore[union-attr,arg-type]
        drawn = vae.sample(200, 1, mean=True, given=name).mean(axis=0).reshape(3, 3).mean(axis=1)
        assert drawn.argmax() == code
        assert drawn.max() > 0.7
    vae.save(tmp_path)
    again = VAE.load(tmp_path, backend="numpy")
    assert again.arch.conditions == 3
    assert again.given.names == vae.given.names  # type: ignore[union-attr]
    asked = x[:20], labels[:20]
    assert (again.elbo(asked[0], given=asked[1]).elbo == vae.elbo(asked[0], given=asked[1]).elbo).all()
    for model in (vae, again):
        model.fit(x, given=labels, epochs=1, batch_size=60)
    assert (vae.parameters.flat == again.parameters.flat).all()
    mu, _ = vae.encode(asked[0], given=asked[1])
    assert vae.decode(mu, given=asked[1]).shape == vae.reconstruct(asked[0], given=asked[1]).shape == (20, 9)
    by_samples = vae.log_likelihood(asked[0][:5], 200, given=asked[1][:5]).log_likelihood
    chains = vae.annealed_log_likelihood(asked[0][:5], Annealing(4, 30), given=asked[1][:5]).log_likelihood
    assert np.abs(by_samples - chains).max() < 1
    assert vae.bidirectional(3, Annealing(2, 10), given="mid").upper.shape == (3,)
    swapped = np.where(labels == "low", "top", "low")
    assert vae.elbo(x, given=swapped).elbo.mean() < vae.elbo(x, given=labels).elbo.mean() - 1


def test_columns_condition_a_model_too_and_a_row_stands_for_all() -> None:
    random = np.random.default_rng(0)
    c = random.normal(100, 10, (200, 1))
    x = 0.1 * c + 0.1 * random.standard_normal((200, 2))
    vae = VAE(2, hidden=(), latent=1, likelihood="normal", conditions=1, backend="numpy", dtype="float64")
    vae.fit(x, given=c, epochs=100, batch_size=50, lr=0.03, standardize=True)
    assert str(vae.given) == "1 columns, standardized"
    for value in (90.0, 110.0):
        assert np.abs(vae.sample(50, given=[value], mean=True).mean(axis=0) - 0.1 * value).max() < 0.3


def test_local_inference_takes_conditions() -> None:
    x, labels = digits(60)
    vae = VAE(9, hidden=(8,), latent=2, conditions=3, inference="local", backend="numpy")
    vae.fit(x, given=labels, epochs=2, batch_size=20)
    assert np.isfinite(vae.elbo(x, given=labels).elbo).all()


def test_what_is_missing_or_too_much_is_one_line(tmp_path: Path) -> None:
    x, labels = digits(60)
    vae, plain = (VAE(9, hidden=(8,), latent=2, conditions=c, backend="numpy") for c in (3, 0))
    two = VAE(9, hidden=(8,), latent=2, conditions=2, backend="numpy")
    for model in (vae, two):
        with pytest.raises(InputError, match=f"given: got None, but the model has {model.arch.conditions} conditions"):
            model.fit(x)
    with pytest.raises(InputError, match="given: the model's conditions are not known before fit"):
        vae.sample(3, given="low")
    with pytest.raises(InputError, match=r"given: got 3 labels: low, mid, top, but the model has 2 conditions; VAE\("):
        two.fit(x, given=labels)
    with pytest.raises(InputError, match="given: got conditions for a model that has none"):
        plain.sample(3, given="low")
    vae.fit(x, given=labels, epochs=1, batch_size=20)
    with pytest.raises(InputError, match="given: got None for a conditional model, expected a label for each"):
        vae.sample(3)
    with pytest.raises(DataError, match=r"given: got 'left' in row 1 .*, which the model was not trained with"):
        vae.elbo(x[:2], given=["low", "left"])
    with pytest.raises(DataError, match=r"given: got shape \(2,\) for 3 rows, expected a label for each row"):
        vae.elbo(x[:3], given=labels[:2])
    with pytest.raises(InputError, match="validation: got rows for a conditional model, expected how many"):
        vae.fit(x, given=labels, validation=x, epochs=1, batch_size=20)
    for name in ("to_torch", "to_jax", "exact"):
        with pytest.raises(InputError, match="got a model with 3 conditions, expected one without"):
            ask(vae, name)
    for wrong in (-1, 1.5, True):
        with pytest.raises(InputError, match="conditions: got"):
            VAE(9, conditions=wrong)  # type: ignore[arg-type]


def ask(vae: VAE, name: str) -> None:
    """A property, or a method without arguments."""
    found = getattr(vae, name)
    if name != "exact":
        found()


def test_a_checkpoint_with_a_damaged_record_is_refused(tmp_path: Path) -> None:
    x, labels = digits(60)
    vae = VAE(9, hidden=(8,), latent=2, conditions=3, backend="numpy")
    vae.fit(x, given=labels, epochs=1, batch_size=20)
    vae._given = data.Given(names=("low", "low", "top"))
    vae.save(tmp_path)
    with pytest.raises(CheckpointError, match=f"{tmp_path}: given: got 3 conditions, expected 3 different ones"):
        VAE.load(tmp_path)


# --- The command line -------------------------------------------------------------------------------------------


def files(folder: Path) -> tuple[Path, Path]:
    """A data file with labels, and a file of two columns for the same rows."""
    x, labels = digits(200)
    np.savez(folder / "data.npz", train=x[:160], train_labels=labels[:160], test=x[160:], test_labels=labels[160:])
    c = np.random.default_rng(1).normal(3, 2, (200, 2))
    np.savez(folder / "columns.npz", train=c[:160], test=c[160:])
    return folder / "data.npz", folder / "columns.npz"


@pytest.mark.parametrize("kind", ["labels", "file"])
def test_a_run_is_trained_resumed_evaluated_and_drawn_from(kind: str, tmp_path: Path) -> None:
    found, columns = files(tmp_path)
    how = ("--data", found, "--given", "labels" if kind == "labels" else columns)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    said = good("train", *how, *SMALL, "--out", whole, *([] if kind == "labels" else ["--no-plots"])).out
    assert f"given    {'3 labels: low, mid, top' if kind == 'labels' else '2 columns, standardized'}; p(z) does" in said
    assert f", {3 if kind == 'labels' else 2} conditions: " in said
    good("train", *how, *SMALL, "--epochs", 1, "--out", parts, "--no-plots")
    good("train", "--resume", parts, "--epochs", 2, "--no-plots")
    assert (VAE.load(whole).parameters.flat == VAE.load(parts).parameters.flat).all()
    test = good("eval", whole, "--samples", 20, "--no-plots", "--json", "-").json["test"]
    assert "the ELBO and log p(x) are those of x given its condition" in good("eval", whole, "--no-plots").out
    assert test["log_likelihood"]["mean"] > test["elbo"]["mean"] - 3 * test["elbo"]["stderr"]
    assert "from above" in good("eval", whole, "--estimator", "bdmc", "--images", 3, "--temperatures", 9,
                                "--no-plots").out  # fmt: skip
    given = "low,top" if kind == "labels" else "3,1.5"
    assert "samples-n6-seed0-given.png" in good("sample", whole, "-n", 6, "--given", given).out
    if kind == "labels":
        good("reconstruct", whole, "-n", 4)
    for command in ("latent", "report"):
        refused = vae_np(command, whole)
        assert refused.code == 2
        assert refused.err.startswith(f"vae-np: {command}: got a run with {VAE.load(whole).arch.conditions} conditions")
    refused = vae_np("sample", whole, "-n", 6)
    assert refused.code == 2
    assert refused.err.startswith("vae-np: given: got None for a conditional model, expected ")
    assert refused.err.count("\n") == 1


def test_missing_labels_other_rows_and_unknown_categories_are_one_line(tmp_path: Path) -> None:
    found, _ = files(tmp_path)
    np.savez(tmp_path / "short.npz", train=np.zeros((150, 2)), test=np.zeros((40, 2)))
    np.save(tmp_path / "bare.npy", digits(40)[0])
    (tmp_path / "words.csv").write_text("where\n" + "left\n" * 200)
    good("train", "--data", found, "--given", "labels", *SMALL, "--out", tmp_path / "run", "--no-plots")
    good("train", "--data", found, *SMALL, "--out", tmp_path / "plain", "--no-plots")
    other = tmp_path / "other.npz"
    x, _ = digits(40)
    np.savez(other, train=x, train_labels=np.full(40, "left"))
    for words, says in (
        (("train", "--data", tmp_path / "bare.npy", "--given", "labels"), "given: got 'labels', but data 'bare.npy'"),
        (("train", "--data", found, "--given", tmp_path / "short.npz"), "given: 'short.npz' has 150 training rows"),
        (("train", "--data", found, "--given", tmp_path / "none.npz"), "given: got '"),
        (("train", "--data", found, "--given", tmp_path / "words.csv"), "given: "),
        (("sample", tmp_path / "run", "--given", "left"), "given: got 'left' in row 0 (counted from 0), which the"),
        (("sample", tmp_path / "run", "-n", 2, "--given", "low,mid,top"), "given: got 3 labels for -n 2, expected"),
        (("sample", tmp_path / "plain", "--given", "low"), "given: got 'low' for a run without conditions, expected"),
        (("eval", tmp_path / "run", "--data", other), "given: test: got 'left' in row"),
        (("eval", tmp_path / "run", "--data", tmp_path / "bare.npy"), "given: got 'labels', but data 'bare.npy' has"),
    ):
        refused = vae_np(*words, *((*SMALL, "--out", tmp_path / "new") if words[0] == "train" else ()))
        assert refused.code == 2, words
        assert refused.err.startswith(f"vae-np: {says}"), refused.err
        assert refused.err.count("\n") == 1
    x, labels = digits(200)
    np.savez(found, train=x[:160], train_labels=labels[:160][::-1], test=x[160:], test_labels=labels[160:])
    refused = vae_np("train", "--resume", tmp_path / "run", "--epochs", 3)
    assert refused.code == 2
    assert "given: the conditions have changed since" in refused.err


def test_the_architecture_counts_conditions_as_columns() -> None:
    arch = architecture(VAE(9).config, 9, 3)
    assert arch.shapes()["encoder.hidden.0.weight"][0] == 12
    assert arch.shapes()["decoder.hidden.0.weight"][0] == 23
    assert arch.shapes()["decoder.out.weight"][1] == 9
    assert Architecture.from_dict(arch.as_dict()) == arch
    assert initialise(arch, seed=0)["encoder.hidden.0.weight"].any()
