"""Two stochastic layers through the command line, a checkpoint, an evaluation and the Python API.

Budget: about 6 s.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commandline import good, vae_np

from vae_np import VAE, checkpoint, data
from vae_np.evaluation.annealing import Annealing

SMALL = (
    "--data", "bars", "--hidden", 12, "--latent", 3, "--top-latent", 2, "--top-hidden", 7, "--epochs", 2,
    "--batch-size", 50,
)  # fmt: skip
NUMPY = (*SMALL, "--backend", "numpy")


@pytest.mark.parametrize("objective", [(), ("--objective", "iwae", "--samples", 3)])
def test_a_run_is_trained_resumed_and_evaluated(objective: tuple[object, ...], tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    said = good("train", *NUMPY, *objective, "--out", whole, "--no-plots").out
    assert "stochastic layers of 3 and 2: " in said
    assert "composed steps" in said
    good("train", *NUMPY, *objective, "--epochs", 1, "--out", parts, "--no-plots")
    good("train", "--resume", parts, "--epochs", 2, "--no-plots")
    ours, theirs = (checkpoint.load_weights(folder).parameters for folder in (whole, parts))
    assert any(name.startswith("top.") for name in ours)
    assert all((ours[name] == theirs[name]).all() for name in ours)
    found = json.loads(good("eval", whole, "--samples", 20, "--no-plots", "--json", "-").out)["test"]
    assert found["mutual_information"] is None
    assert len(found["kl_per_dimension"]) == 5
    assert found["log_likelihood"]["mean"] > found["elbo"]["mean"] - 3 * found["elbo"]["stderr"]


def test_every_command_takes_such_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    good("train", *NUMPY, "--out", run)
    told = good("eval", run, "--samples", 20).out
    assert "latents 0-2 are z₁, whose KL is to p(z₁|z₂), and 3-4 are z₂" in told
    assert "of 3 and" in told
    assert "from above" in good("eval", run, "--estimator", "bdmc", "--images", 4, "--temperatures", 20).out
    for command in (("sample", run, "-n", 4), ("reconstruct", run, "-n", 4), ("latent", run), ("report", run)):
        good(*command)
    written = {path.name for path in run.iterdir()}
    assert {"kl.png", "samples-n4-seed0.png", "reconstructions-n4-seed0.png", "interpolations.png"} <= written


def test_the_dry_run_and_info_say_what_is_fused() -> None:
    assert "fused steps" in good("train", *SMALL, "--dry-run", "--backend", "numba").out
    said = good("info").out
    assert "one stochastic layer in the table; two: as in the table with numba, composed with numpy and cupy" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--objective", "dreg"], "objective: got 'dreg' with top_latent 2, expected one of elbo, iwae"),
        (["--posterior", "full"], "top_latent: got 2 with posterior 'full', expected posterior 'diagonal'"),
        (["--refine-steps", "3"], "top_latent: got 2 with refine_steps 3, expected refine_steps 0"),
        (["--inference", "local"], "top_latent: got 2 with inference 'local', expected inference 'amortized'"),
        (["--top-latent", "none"], "top_hidden: got 7 without top_latent, expected both"),
        (["--precision", "bf16", "--backend", "numpy"], "precision: got 'bf16', but"),
    ],
)
def test_what_does_not_combine_is_one_line(words: list[object], says: str, tmp_path: Path) -> None:
    refused = vae_np("train", *SMALL, *words, "--out", tmp_path / "run")
    assert refused.code == 2
    assert refused.err.startswith(f"vae-np: {says}")
    assert refused.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_model_is_saved_loaded_and_trained_on_from_python(tmp_path: Path) -> None:
    x = data.load("bars").train[:200]
    vae = VAE(x.shape[1], hidden=(8,), latent=3, top_latent=2, top_hidden=6, backend="numpy")
    vae.fit(x, epochs=1, batch_size=50)
    vae.save(tmp_path)
    again = VAE.load(tmp_path, backend="numpy")
    assert again.arch == vae.arch
    assert (again.elbo(x).elbo == vae.elbo(x).elbo).all()
    for model in (vae, again):
        model.fit(x, epochs=1, batch_size=50, objective="iwae", samples=3)
    assert (again.parameters.flat == vae.parameters.flat).all()
    mu, logvar = vae.encode(x[:5])
    assert mu.shape == logvar.shape == (5, 3)
    assert vae.reconstruct(x[:5]).shape == (5, x.shape[1])
    assert vae.sample(4).shape == (4, x.shape[1])
    assert vae.prior(4).shape == (4, 3)
    assert np.isfinite(vae.log_likelihood(x[:5], samples=10).log_likelihood).all()
    assert np.isfinite(vae.annealed_log_likelihood(x[:2], Annealing(2, 5)).log_likelihood).all()
    assert np.isfinite(vae.bidirectional(2, Annealing(2, 5)).upper).all()


def test_a_step_shared_in_blocks_is_that_of_one_process(tmp_path: Path) -> None:
    for blocks in (1, 2):
        good("train", *NUMPY, "--gradient-blocks", blocks, "--out", tmp_path / str(blocks), "--no-plots")
    ours, theirs = (checkpoint.load_weights(tmp_path / name).parameters for name in ("1", "2"))
    assert all(np.abs(ours[name] - theirs[name]).max() < 1e-4 for name in ours)


def test_density_of_a_plane_is_drawn_with_the_learned_prior(tmp_path: Path) -> None:
    run = tmp_path / "rings"
    good(
        "train", "--data", "rings", "--likelihood", "normal", "--hidden", 8, "--latent", 1, "--top-latent", 1,
        "--epochs", 1, "--out", run, "--no-plots", "--backend", "numpy",
    )  # fmt: skip
    good("latent", run)
    assert (run / "density.png").exists()
