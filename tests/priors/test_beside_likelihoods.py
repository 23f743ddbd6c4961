"""Learned priors and conditions beside what `vae_np.likelihoods` reads: gradients, imputation in closed form, refusals.

Budget: about 3 s.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from numeric import complex_step, error

from vae_np import VAE, ops
from vae_np.architecture import Architecture
from vae_np.config import Config
from vae_np.errors import InputError
from vae_np.exact import missing
from vae_np.exact.linear_gaussian import LinearGaussian, from_parameters
from vae_np.objectives import objective_backward, objective_forward
from vae_np.parameters import Parameters

COLUMNS = {
    "n": "normal", "c": {"family": "categorical", "levels": ["x", "y", "z"]}, "p": "poisson", "b": "bernoulli"
}  # fmt: skip
KINDS = (
    {"conditions": 2, "likelihood": "bernoulli", "missing": "mask"},
    {"conditions": 2, "columns": COLUMNS, "likelihood": "columns", "missing": "zero"},
    {"conditions": 2, "likelihood": "poisson", "prior": "mixture", "components": 3},
    {"columns": COLUMNS, "likelihood": "columns", "missing": "mask", "prior": "mixture", "components": 3},
)


@pytest.mark.parametrize("objective", ["elbo", "iwae"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(str(value) for value in kind.values())[:40])
def test_gradient_of_every_parameter(kind: dict[str, Any], objective: str, rng: np.random.Generator) -> None:
    arch = Architecture(4, 2, (3,), "tanh", **kind)
    parameters = Parameters(arch.shapes(), np.float64)
    for view in parameters.values():
        view[...] = rng.normal(0, 0.5, view.shape)
    x = np.column_stack([rng.standard_normal(3), [0, 2, 1], rng.poisson(3, 3), [0, 1, 1]])
    x = x if arch.likelihood == "columns" else rng.integers(0, 2, (3, 4)).astype(float)
    if arch.missing:
        x[[0, 1, 1, 2], [1, 0, 3, 2]] = np.nan
    x = np.hstack([x, rng.standard_normal((3, arch.conditions))])
    eps = rng.standard_normal((6, 2))
    _, cache = objective_forward(ops, arch, parameters, x, eps, objective=objective, beta=0.7)
    gradients = parameters.zeros_like()
    objective_backward(ops, arch, cache, gradients)
    for name, value in parameters.items():

        def loss(v: Any, name: str = name) -> Any:
            point = {**parameters, name: v}
            return objective_forward(ops, arch, point, x, eps, objective=objective, beta=0.7)[0].loss(0.7)

        assert error(gradients[name], complex_step(loss, value)) < 1e-12, name


def linear(arch_kind: dict[str, Any], rng: np.random.Generator) -> tuple[VAE, LinearGaussian]:
    """A fitted VAE whose decoder is W z + A c + b with random parts, and whose q is N(0, I); and W, b and the noise."""
    vae = VAE(5, hidden=(), latent=2, likelihood="normal-fixed", sigma=0.6, dtype="float64", backend="numpy",
              missing="zero", **arch_kind)  # fmt: skip
    given = {"given": np.eye(2)[[0, 1, 1]]} if vae.arch.conditions else {}
    vae.fit(rng.standard_normal((3, 5)), epochs=1, batch_size=3, **given)
    for name, view in vae.parameters.items():
        view[...] = rng.normal(0, 0.8, view.shape) if name.startswith(("decoder", "prior")) else 0
    weight = vae.parameters["decoder.out.weight"]
    return vae, LinearGaussian(weight[:2].T.copy(), vae.parameters["decoder.out.bias"].copy(), 0.36)


def holed(rng: np.random.Generator) -> np.ndarray:
    x = rng.standard_normal((6, 5))
    x[rng.random(x.shape) < 0.4] = np.nan
    x[0] = np.nan
    return x


def check(vae: VAE, exact: missing.Conditional, x: np.ndarray, **given: Any) -> None:
    """Value and spread of every missing cell over 16 seeds, within 4.5 standard errors; draws have the same."""
    holes = np.isnan(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [vae.impute(x, samples=3000, draws=40, seed=seed, **given) for seed in range(16)]
    spread = np.sqrt(np.diagonal(exact.covariance, axis1=1, axis2=2))
    for name, right in (("mean", exact.mean), ("spread", spread)):
        every = np.stack([getattr(each, name)[holes] for each in found])
        stderr = every.std(axis=0, ddof=1) / 4
        assert np.abs((every.mean(axis=0) - right[holes]) / stderr).max() < 4.5, name
        assert stderr.max() < 0.05
    drawn = np.concatenate([each.draws for each in found])[:, holes]
    assert np.abs(drawn.mean(axis=0) - exact.mean[holes]).max() < 5 * spread[holes].max() / np.sqrt(len(drawn))


def test_a_conditional_model_fills_in_what_its_conditions_say(rng: np.random.Generator) -> None:
    vae, model = linear({"conditions": 2}, rng)
    shift = vae.parameters["decoder.out.weight"][2:]
    x, c = holed(rng), rng.random((6, 2))
    encoded = vae._encoded(c, 6)
    exact = missing.conditional(model, x - encoded @ shift)
    moved = missing.Conditional(exact.mean + encoded @ shift, exact.covariance)
    check(vae, moved, x, given=c)
    # Without conditions in the decoder the answer would be another one.
    assert np.abs(encoded @ shift)[np.isnan(x)].min() > 1e-3


def test_with_a_mixture_of_one_normal_imputation_is_in_closed_form(rng: np.random.Generator) -> None:
    vae, model = linear({"prior": "mixture", "components": 1}, rng)
    m, logvar = vae.parameters["prior.means"][0], vae.parameters["prior.logvars"][0]
    shifted = LinearGaussian(model.weight * np.exp(logvar / 2), model.bias + model.weight @ m, 0.36)
    x = holed(rng)
    # Where nothing was observed the answer is that of the learned prior.
    exact = missing.conditional(shifted, x)
    np.testing.assert_allclose(exact.mean[0], shifted.bias)
    check(vae, exact, x)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"prior": "vamp", "likelihood": "poisson"}, "prior: got 'vamp' with columns, missing cells or a"),
        ({"prior": "vamp", "missing": "zero"}, "prior: got 'vamp' with columns, missing cells or a"),
        ({"prior": "mixture", "refine_steps": 2}, "refine_steps: got 2 with prior 'mixture', expected 0, or prior"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_one_line_that_names_both(settings: dict[str, Any], says: str) -> None:
    for make in (Config, Architecture):
        with pytest.raises(InputError) as raised:
            make(**settings)
        assert str(raised.value).startswith(says)


def test_conditions_are_not_refined_and_are_no_plain_linear_model() -> None:
    with pytest.raises(InputError, match="refine_steps: got 2 with given, expected 0, or none"):
        Architecture(conditions=3, refine_steps=2)
    with pytest.raises(InputError, match="refine_steps: got 2 with given, expected 0, or none"):
        Config(given="labels", refine_steps=2)
    for kind in ({"conditions": 1}, {"prior": "mixture", "components": 2}):
        arch = Architecture(4, 2, (), likelihood="normal", **kind)
        with pytest.raises(InputError, match="arch: got "):
            from_parameters(arch, Parameters(arch.shapes(), np.float64))
