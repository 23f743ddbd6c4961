"""The error of a sampled KL that comes from its draws alone, against the exact KL of two normals. [D81]

Budget: about 1 s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import good
from numeric import error, make_problem

from vae_np import VAE, data, ops
from vae_np.architecture import Architecture
from vae_np.elbo import posterior_elbo_forward
from vae_np.evaluation import held_out, sampled_kl
from vae_np.evaluation.held_out import Examples, elbo_terms
from vae_np.model import Model, encode_forward

ROWS = 40


def problem(**kind: Any) -> tuple[Model, Examples]:
    """A model with numbers that are not its first ones, and some binary examples."""
    arch = Architecture(**{"features": 5, "latent": 3, "hidden": (4,), "activation": "tanh", **kind})
    p = make_problem(arch, batch=3)
    x = np.random.default_rng(7).integers(0, 2, (ROWS, 5)).astype(np.uint8)
    return Model(ops, arch, p.parameters), Examples(x, data.BINARY, "none", 0)


def one_normal() -> tuple[Model, Examples, Any]:
    """With a mixture of one component, N(m, exp v), and each example's KL to it in closed form."""
    model, examples = problem(prior="mixture", components=1)
    mu, logvar = encode_forward(*model, examples.rows.astype(float))[0]
    m, v = (model.parameters[f"prior.{name}"][0] for name in ("means", "logvars"))
    assert np.abs(v).min() > 0.05
    exact = 0.5 * (np.exp(logvar - v) + (mu - m) ** 2 * np.exp(-v) - 1 + v - logvar).sum(axis=1)
    return model, examples, exact


@pytest.mark.parametrize("samples", [2, 100, 4000])
def test_the_mean_kl_is_the_exact_one_within_its_error(samples: int) -> None:
    model, examples, exact = one_normal()
    terms = elbo_terms(model, examples, seed=3, z_samples=samples)
    assert terms.kl_sampling_stderr is not None
    assert abs(terms.kl.mean() - exact.mean()) < 4 * terms.kl_sampling_stderr
    if samples > 2:
        assert terms.kl_stderr is not None
        assert (np.abs(terms.kl - exact) < 5 * terms.kl_stderr).all()


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_the_error_is_as_large_as_the_means_scatter_from_seed_to_seed(samples: int) -> None:
    """Over 200 seeds (mean − exact) / error has mean square 1; with one draw, the error is that of two, times √2."""
    model, examples, exact = one_normal()
    found = [elbo_terms(model, examples, seed=seed, z_samples=samples) for seed in range(200)]
    off = np.array([terms.kl.mean() - exact.mean() for terms in found])
    errors = np.array([terms.kl_sampling_stderr for terms in found])
    # The relative error of a mean square of 200 normals is 0.1; that of one variance from 40 examples adds to it.
    assert 0.65 < (off**2).mean() / (errors**2).mean() < 1.4
    assert abs(off.mean()) < 4 * off.std() / np.sqrt(200)


def test_the_error_shrinks_with_the_root_of_the_draws() -> None:
    model, examples, _ = one_normal()
    errors = [elbo_terms(model, examples, seed=0, z_samples=16 * 4**k).kl_sampling_stderr for k in range(4)]
    shrunk = np.array(errors[:-1]) / np.array(errors[1:])  # type: ignore[operator]
    assert (np.abs(shrunk - 2) < 0.2).all()
    # Over examples it doesn't: they differ.
    spreads = [
        held_out.mean_and_stderr(elbo_terms(model, examples, seed=0, z_samples=s).kl)["stderr"] for s in (64, 1024)
    ]
    assert spreads[0] < 1.5 * spreads[1]
    assert spreads[1] > 5 * errors[-1]  # type: ignore[operator]


@pytest.mark.parametrize(
    "kind",
    [{"prior": "mixture", "components": 4}, {"prior": "vamp", "components": 4}, {"posterior": "planar"},
     {"prior": "mixture", "components": 2, "posterior": "iaf", "flow_steps": 1, "flow_hidden": 4}, {"top_latent": 2}],
    ids=str,
)  # fmt: skip
def test_its_draws_are_those_of_the_kl(kind: dict[str, Any]) -> None:
    model, examples = problem(**kind)
    x, places = examples.batch(slice(0, ROWS))
    q = held_out.posterior(model, x, places, seed=1)
    mu, logvar, *more = q
    eps = np.random.default_rng(0).standard_normal((6 * ROWS, model.arch.noise_columns))
    drawn = sampled_kl.draws(model, q, eps)
    terms, _ = posterior_elbo_forward(*model, x, mu, logvar, eps, more=tuple(more))
    assert drawn.shape == (6, ROWS)
    assert error(drawn.mean(axis=0), terms.kl) < 1e-12
    assert error(sampled_kl.stderr(model, q, eps, 24), drawn.std(axis=0, ddof=1) / np.sqrt(24)) < 1e-12
    assert elbo_terms(model, examples, seed=0).kl_sampling_stderr > 0  # type: ignore[operator]


def test_a_kl_in_closed_form_has_none() -> None:
    terms = elbo_terms(*problem(), seed=0, z_samples=3)
    assert terms.kl_stderr is None
    assert terms.kl_sampling_stderr is None


def test_eval_says_it_beside_the_error_over_examples(tmp_path: Path) -> None:
    x = data.load("bars").train[:300]
    vae = VAE(x.shape[1], hidden=(8,), latent=2, backend="numpy", prior="mixture", components=3)
    vae.fit(x, epochs=1, batch_size=50)
    vae.save(tmp_path / "run")
    np.save(tmp_path / "bars.npy", x)
    words = ("eval", tmp_path / "run", "--data", tmp_path / "bars.npy", "--samples", 2, "--images", 30, "--no-plots")
    content = good(*words, "--z-samples", 4, "--json", "-", "--per-example", tmp_path / "each.npz").json["test"]
    each = np.load(tmp_path / "each.npz")["kl_stderr"]
    assert each.shape == (30,)
    np.testing.assert_allclose(content["kl_sampling_stderr"], np.sqrt((each.astype(float) ** 2).sum()) / 30)
    said = good(*words, "--z-samples", 4).out
    line = next(line for line in said.splitlines() if "error of sampling alone" in line)
    assert f" ± {content['kl_sampling_stderr']:.4f} " in line
    vae = VAE(x.shape[1], hidden=(8,), latent=2, backend="numpy")
    vae.fit(x, epochs=1, batch_size=50)
    vae.save(tmp_path / "plain")
    words = ("eval", tmp_path / "plain", *words[2:])
    assert good(*words, "--json", "-").json["test"]["kl_sampling_stderr"] is None
    assert "error of sampling" not in good(*words).out
