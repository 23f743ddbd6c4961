"""Learned priors through the command line, checkpoints, evaluation and Python; files without them are as they were.

Budget: about 3 s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import good, vae_np

from vae_np import VAE, checkpoint, data
from vae_np.architecture import Architecture
from vae_np.config import Config
from vae_np.errors import InputError
from vae_np.evaluation.annealing import Annealing

SMALL = ("--hidden", 12, "--latent", 2, "--epochs", 2, "--batch-size", 50, "--backend", "numpy")
PRIORS = ("mixture", "vamp")


@pytest.mark.parametrize("prior", PRIORS)
def test_a_run_is_trained_resumed_evaluated_and_drawn_from(prior: str, tmp_path: Path) -> None:
    np.save(tmp_path / "bars.npy", data.load("bars").train[:600])
    kind = ("--data", tmp_path / "bars.npy", "--prior", prior, "--components", 5)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    said = good("train", *SMALL, *kind, "--out", whole, "--no-plots").out
    assert f", prior {prior} of 5: " in said
    assert "composed steps" in said
    good("train", *SMALL, *kind, "--epochs", 1, "--out", parts, "--no-plots")
    good("train", "--resume", parts, "--epochs", 2, "--no-plots")
    ours, theirs = (checkpoint.load_weights(folder).parameters for folder in (whole, parts))
    assert all((ours[name] == theirs[name]).all() for name in ours)
    few = ("--images", 50, "--no-plots")
    found = good("eval", whole, "--samples", 20, *few, "--json", "-").json["test"]
    assert found["mutual_information"] is None
    assert found["kl"]["stderr"] > 0
    assert found["log_likelihood"]["mean"] > found["elbo"]["mean"] - 3 * found["elbo"]["stderr"]
    text = good("eval", whole, "--samples", 20, *few, "--z-samples", 3).out
    assert f"prior {prior}: the KL is sampled, log q − log p at 3 draws of z per example" in text
    assert "the KL of a latent is that to N(0, 1)" in text
    bracket = good("eval", whole, "--estimator", "bdmc", "--images", 3, "--temperatures", 20, "--no-plots")
    assert "from above" in bracket.out
    if prior == "mixture":
        good("sample", whole, "-n", 4)
        assert "note     lattice and circles are those of N(0, I)" in good("latent", whole, "-n", 4).out


def test_the_dry_run_says_that_nothing_is_fused() -> None:
    said = good("train", "--data", "bars", *SMALL[:-2], "--prior", "mixture", "--dry-run", "--backend", "numba").out
    assert "composed steps (nothing is fused for prior mixture)" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--prior", "vamp", "--objective", "dreg"], "objective: got 'dreg' with prior 'vamp'"),
        (["--prior", "vamp", "--posterior", "full"], "prior: got 'vamp' with posterior 'full'"),
        (["--prior", "vamp", "--inference", "local"], "prior: got 'vamp' with inference 'local'"),
        (["--prior", "vamp", "--given", "labels"], "prior: got 'vamp' with given"),
        (["--components", 4], "components: got 4 with prior 'standard'"),
    ],
)
def test_priors_that_do_not_combine_are_one_line(words: list[object], says: str, tmp_path: Path) -> None:
    refused = vae_np("train", "--data", "bars", *SMALL, *words, "--out", tmp_path / "run")
    assert refused.code == 2
    assert refused.err.startswith(f"vae-np: {says}")
    assert refused.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "settings",
    [{"prior": "vamp", "components": 6}, {"prior": "mixture"}, {"prior": "mixture", "posterior": "iaf"},
     {"prior": "mixture", "inference": "local"}],
    ids=str,
)  # fmt: skip
def test_a_model_is_saved_loaded_and_trained_on_from_python(settings: dict[str, Any], tmp_path: Path) -> None:
    x = data.load("bars").train[:200]
    vae = VAE(x.shape[1], hidden=(8,), latent=2, backend="numpy", **settings)
    vae.fit(x, validation=50, epochs=1, batch_size=50)
    assert vae.history.lines[-1]["split"] == "validation"
    vae.save(tmp_path)
    again = VAE.load(tmp_path, backend="numpy")
    assert again.arch == vae.arch
    assert (again.elbo(x[:50]).elbo == vae.elbo(x[:50]).elbo).all()
    assert (again.sample(5, 1) == vae.sample(5, 1)).all()
    for model in (vae, again):
        model.fit(x[:150], epochs=1, batch_size=50)
    assert (again.parameters.flat == vae.parameters.flat).all()
    before = initial_prior(vae)
    assert all((vae.parameters[name] != value).any() for name, value in before.items())
    assert np.isfinite(vae.log_likelihood(x[:5], samples=10).log_likelihood).all()
    assert np.isfinite(vae.annealed_log_likelihood(x[:2], Annealing(2, 5)).log_likelihood).all()
    says = f"got a model with prior '{vae.arch.prior}', expected 'standard'"
    for name in ("to_torch", "to_jax", "exact"):
        with pytest.raises(InputError, match=says):
            ask(vae, name)
    with pytest.raises(InputError, match=says):
        vae.to_onnx(tmp_path / "onnx")


def ask(vae: VAE, name: str) -> None:
    """A property, or a method without arguments."""
    found = getattr(vae, name)
    if name != "exact":
        found()


def initial_prior(vae: VAE) -> dict[str, Any]:
    fresh = VAE(vae.arch.features, hidden=(8,), latent=2, backend="numpy", prior=vae.arch.prior,
                components=vae.arch.components)  # fmt: skip
    return {name: value for name, value in fresh.parameters.items() if name.startswith("prior.")}


def test_a_model_without_them_is_written_and_read_as_before_there_were_any() -> None:
    held = Architecture().as_dict()
    assert not {"prior", "components", "conditions"} & held.keys()
    assert Architecture.from_dict(held) == Architecture()
    before = {name: value for name, value in Config().to_mapping().items() if name != "prior"}
    assert Config.from_mapping(before) == Config()
