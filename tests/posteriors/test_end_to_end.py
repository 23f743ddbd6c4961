"""Each family through the command line, a checkpoint, an evaluation and the Python API; old files load unchanged.

Budget: about 15 s.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commandline import good, vae_np

from vae_np import VAE, checkpoint, data
from vae_np.architecture import Architecture
from vae_np.config import Config
from vae_np.elbo import elbo_forward
from vae_np.errors import ConfigError, InputError
from vae_np.evaluation.annealing import Annealing
from vae_np.model import decode_forward

SMALL = ("--data", "bars", "--hidden", 12, "--latent", 3, "--epochs", 2, "--batch-size", 50, "--backend", "numpy")
FAMILIES = {"full": {}, "planar": {"flow_steps": 3}, "iaf": {"flow_steps": 2, "flow_hidden": 9}}


def options(posterior: str) -> list[object]:
    settings = {"posterior": posterior, **FAMILIES[posterior]}
    return [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)]


@pytest.mark.parametrize("posterior", FAMILIES)
def test_a_run_is_trained_resumed_and_evaluated(posterior: str, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    said = good("train", *SMALL, *options(posterior), "--out", whole, "--no-plots").out
    steps = f" of {FAMILIES[posterior]['flow_steps']} steps" if posterior in ("planar", "iaf") else ""
    assert f"q {posterior}{steps}: " in said
    assert "composed steps" in said
    good("train", *SMALL, *options(posterior), "--epochs", 1, "--out", parts, "--no-plots")
    good("train", "--resume", parts, "--epochs", 2, "--no-plots")
    ours, theirs = (checkpoint.load_weights(folder).parameters for folder in (whole, parts))
    assert all((ours[name] == theirs[name]).all() for name in ours)
    found = json.loads(good("eval", whole, "--samples", 20, "--no-plots", "--json", "-").out)["test"]
    assert found["mutual_information"] is None
    assert found["mutual_information_ceiling"] is None
    assert len(found["kl_per_dimension"]) == 3
    assert found["log_likelihood"]["mean"] > found["elbo"]["mean"] - 3 * found["elbo"]["stderr"]
    assert f"q is {posterior}: the KL of a latent" in good("eval", whole, "--samples", 20, "--no-plots").out
    bracket = good("eval", whole, "--estimator", "bdmc", "--images", 4, "--temperatures", 20, "--no-plots")
    assert "from above" in bracket.out


def test_the_dry_run_and_info_say_that_nothing_is_fused() -> None:
    said = good("train", *SMALL[:-2], "--posterior", "planar", "--dry-run", "--backend", "numba").out
    assert "composed steps (nothing is fused for posterior planar)" in said
    assert "posterior diagonal in the table; full, planar, iaf: composed everywhere" in good("info").out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--posterior", "iaf", "--objective", "dreg"], "objective: got 'dreg' with posterior 'iaf'"),
        (
            ["--posterior", "full", "--objective", "score", "--samples", 2],
            "objective: got 'score' with posterior 'full'",
        ),
        (["--posterior", "full", "--refine-steps", 2], "refine_steps: got 2 with posterior 'full'"),
        (["--inference", "local", "--refine-steps", 2], "refine_steps: got 2 with inference 'local'"),
        (["--objective", "iwae", "--refine-steps", 2], "objective: got 'iwae' with refine_steps 2"),
        (["--refine-rate", 0.1], "refine_rate: got 0.1 with refine_steps 0"),
        (["--refine-gradient", "stopped"], "refine_gradient: got stopped with refine_steps 0"),
        (["--posterior", "full", "--inference", "local"], "posterior: got 'full' with inference 'local'"),
        (["--posterior", "full", "--flow-steps", 2], "flow_steps: got 2 with posterior 'full'"),
        (["--posterior", "full", "--latent", 1], "posterior: got 'full' with latent 1"),
    ],
)
def test_families_that_do_not_combine_are_one_line(words: list[object], says: str, tmp_path: Path) -> None:
    refused = vae_np("train", *SMALL, *words, "--out", tmp_path / "run")
    assert refused.code == 2
    assert refused.err.startswith(f"vae-np: {says}")
    assert refused.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("posterior", FAMILIES)
def test_a_model_is_saved_loaded_and_trained_on_from_python(posterior: str, tmp_path: Path) -> None:
    x = data.load("bars").train[:200]
    vae = VAE(x.shape[1], hidden=(8,), latent=3, posterior=posterior, backend="numpy", **FAMILIES[posterior])
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
    assert np.isfinite(vae.log_likelihood(x[:5], samples=10).log_likelihood).all()
    assert np.isfinite(vae.annealed_log_likelihood(x[:2], Annealing(2, 5)).log_likelihood).all()
    if posterior != "full":
        for give in (vae.to_torch, lambda: vae.to_onnx(tmp_path)):
            with pytest.raises(InputError, match=f"got a model with posterior '{posterior}', expected 'diagonal' or"):
                give()


def test_a_full_covariance_goes_to_pytorch_and_onnx(tmp_path: Path) -> None:
    """The same draw and the same KL from what the module returns, and the same heads from the ONNX file."""
    torch = pytest.importorskip("torch", reason="torch is not installed: an extra, not needed for the package")
    vae = VAE(16, hidden=(8,), latent=3, posterior="full", backend="numpy", dtype="float64")
    x = data.load("bars").train[:5]
    eps = np.random.default_rng(0).standard_normal((5, 3))
    terms, passed = elbo_forward(*vae.model, x, eps)
    theirs = vae.to_torch()(torch.tensor(x.astype(float)), torch.tensor(eps))
    out, mu, logvar, below = (part.detach() for part in theirs)
    assert torch.allclose(out, torch.tensor(decode_forward(*vae.model, passed.z)[0]), rtol=1e-12)
    lower = torch.diag_embed(torch.exp(logvar / 2))
    lower[:, [1, 2, 2], [0, 0, 1]] = below
    q, prior = (
        torch.distributions.MultivariateNormal(mean, scale_tril=scale)
        for mean, scale in ((mu, lower), (0 * mu, torch.eye(3, dtype=torch.float64).expand(5, 3, 3)))
    )
    np.testing.assert_allclose(torch.distributions.kl_divergence(q, prior).numpy(), terms.kl, rtol=1e-12)
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    encoder = runtime.InferenceSession(vae.to_onnx(tmp_path)[0])
    found = encoder.run(["mu", "logvar", "below"], {"x": x.astype(float)})
    for ours, theirs in zip(found, (mu, logvar, below), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-14)


def test_a_refined_run_is_trained_resumed_and_evaluated(tmp_path: Path) -> None:
    words = ("--refine-steps", 2, "--refine-rate", 0.2)
    whole, parts, other = tmp_path / "whole", tmp_path / "parts", tmp_path / "stopped"
    said = good("train", *SMALL, *words, "--out", whole, "--no-plots").out
    assert "q refined by 2 steps of 0.2, gradient through them: " in said
    good("train", *SMALL, *words, "--epochs", 1, "--out", parts, "--no-plots")
    good("train", "--resume", parts, "--epochs", 2, "--no-plots")
    ours, theirs = (checkpoint.load_weights(folder) for folder in (whole, parts))
    assert ours.architecture == theirs.architecture
    refined = {name: value for name, value in ours.architecture.items() if name.startswith("refine")}
    assert refined == {"refine_steps": 2, "refine_rate": 0.2, "refine_gradient": "through"}
    assert all((ours.parameters[name] == theirs.parameters[name]).all() for name in ours.parameters)
    good("train", *SMALL, *words, "--refine-gradient", "stopped", "--out", other, "--no-plots")
    assert any((ours.parameters[n] != checkpoint.load_weights(other).parameters[n]).any() for n in ours.parameters)
    found = json.loads(good("eval", whole, "--samples", 20, "--no-plots", "--json", "-").out)["test"]
    assert found["log_likelihood"]["mean"] > found["elbo"]["mean"] - 3 * found["elbo"]["stderr"]
    vae = VAE.load(whole, backend="numpy")
    for give in (vae.to_torch, lambda: vae.to_onnx(tmp_path)):
        with pytest.raises(InputError, match="got a model with refine_steps 2, expected 0: the encoder's output is"):
            give()


def test_a_diagonal_model_is_written_and_read_as_before_there_were_others() -> None:
    held = Architecture().as_dict()
    assert not {"posterior", "flow_steps", "flow_hidden"} & held.keys()
    assert Architecture(**{**held, "hidden": tuple(held["hidden"])}) == Architecture()
    before = {name: value for name, value in Config().to_mapping().items() if name != "posterior"}
    assert Config.from_mapping(before) == Config()


def test_settings_are_refused_in_python_too() -> None:
    with pytest.raises(ConfigError, match="posterior: got 'spiral', expected one of diagonal, full, planar, iaf"):
        VAE(4, posterior="spiral")
