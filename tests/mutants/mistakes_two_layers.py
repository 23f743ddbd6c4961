"""Mistakes in the layer above z, with exact checks of their own: weights that are p(x), and the density of draws."""

from __future__ import annotations

import numpy as np

from vae_np import ops
from vae_np.evaluation.annealing import Target
from vae_np.evaluation.importance import importance_log_likelihood
from vae_np.exact.layered_gaussian import LayeredGaussian, LinearNormal
from vae_np.gradcheck import check_grad, check_vjp
from vae_np.model import Model
from vae_np.verify import catalogue

from .plant import Check, Edit, Mutant

SEED = 0
_RNG = np.random.default_rng(7)
_ORTHOGONAL, _ = np.linalg.qr(_RNG.standard_normal((4, 2)))
# Its two posteriors are diagonal, so that each weight of the best q is p(x).
MODEL = LayeredGaussian(
    LinearNormal(_ORTHOGONAL * [1.5, 0.7], _RNG.standard_normal(4), np.full(4, 0.3)),
    LinearNormal(np.diag([1.2, -0.8]), np.array([0.4, -0.3]), np.array([0.5, 0.2])),
)
X = 1.5 * _RNG.standard_normal((5, 4))


def _weights() -> None:
    """Every weight of the exact q is p(x), whatever the noise."""
    model = Model(ops, *MODEL.to_parameters(*MODEL.best()))
    found = importance_log_likelihood(model, X, np.arange(len(X)), samples=4, seed=0)
    np.testing.assert_allclose(found.log_likelihood, MODEL.log_prob(X), rtol=1e-12)
    assert found.stderr.max() < 1e-6


def _mean_weight() -> None:
    """The mean weight of another q is p(x)."""
    lower, upper = (LinearNormal(q.weight, q.bias + 0.2, 1.3 * q.variances) for q in MODEL.best())
    model = Model(ops, *MODEL.to_parameters(lower, upper))
    found = importance_log_likelihood(model, X, np.arange(len(X)), samples=20_000, seed=0)
    assert (np.abs(found.log_likelihood - MODEL.log_prob(X)) < 5 * found.stderr).all()


def _draws() -> None:
    """z₁ of standard normals has the mean and covariance of p(z₁)."""
    _, parameters = MODEL.to_parameters(*MODEL.best())
    upper = MODEL.to_parameters(*MODEL.best())[0].upper
    assert upper is not None
    z, _ = upper.draw_forward(ops, parameters, np.random.default_rng(SEED).standard_normal((100_000, 4)))
    np.testing.assert_allclose(z.mean(axis=0), MODEL.upper.bias, atol=0.02)
    np.testing.assert_allclose(np.cov(z.T), MODEL.prior.covariance(), atol=0.04)


def _pair(name: str) -> Check:
    def run() -> None:
        found = next(pair for pair in catalogue.layer_above_pairs(ops, SEED) if pair.name == f"{name}, tanh")
        report = check_vjp(found.forward, found.backward, found.inputs, names=found.names, wrt=found.wrt, name=name)
        assert report.passed, str(report)
        assert report.max_error <= 1e-12, str(report)

    return Check(f"gradient of {name}", "gradient", run)


def _model(what: str) -> Check:
    def run() -> None:
        scalar = catalogue.loss_of(ops, catalogue.TWO_LAYERS[0], what, SEED)
        report = check_grad(scalar.loss, scalar.gradient, scalar.point, name=scalar.name)
        assert report.passed, str(report)
        assert report.max_error <= 1e-12, str(report)

    return Check(f"gradient of the model (two layers, {what})", "gradient", run)


def _target() -> None:
    """What chains follow, along one direction by differences."""
    arch, parameters = MODEL.to_parameters(*MODEL.best())
    target, rng = Target(Model(ops, arch, parameters), X), np.random.default_rng(SEED)
    at, along = rng.standard_normal((len(X), 4)), rng.standard_normal((len(X), 4))
    _, gradient = target(at)
    slope = (target(at + 1e-5 * along)[0] - target(at - 1e-5 * along)[0]) / 2e-5
    np.testing.assert_allclose((gradient * along).sum(axis=1), slope, rtol=1e-6)


WEIGHTS = Check("weights of an exact q of two layers", "exact", _weights)
MEAN = Check("mean weight of two layers", "exact", _mean_weight)
DRAWS = Check("moments of z₁", "statistics", _draws)
TARGET = Check("gradient of annealed chains in both layers", "gradient", _target)
PRIOR, DRAW = _pair("log p(z) by the layer above"), _pair("z by the layer above")
_FORWARD, _BACKWARD = "upper:UpperLayer.log_prior_forward", "upper:UpperLayer.log_prior_backward"


def _one(mistake: str, where: str, old: str, new: str, checks: tuple[Check, ...], gradient: Check) -> Mutant:
    return Mutant(mistake, (Edit(f"two_layers.{where}", old, new),), checks, gradient)


MUTANTS = (
    Mutant(
        "log q(z₂|z₁) left out, backward pass and all",
        (
            Edit(f"two_layers.{_FORWARD}", "(eps * eps + logvar - top * top)", "(-top * top)"),
            Edit(f"two_layers.{_BACKWARD}", "np.exp(0.5 * logvar) + upstream", "np.exp(0.5 * logvar)"),
        ),
        (WEIGHTS, MEAN),
        PRIOR,
    ),
    Mutant(
        "z₂ drawn with exp(logvar) as its deviation, backward pass and all",
        (
            Edit(f"two_layers.{_FORWARD}", "normal_sample(mu, logvar, eps)", "mu + np.exp(logvar) * eps"),
            Edit(
                f"two_layers.{_BACKWARD}",
                "0.5 * (dtop * eps * np.exp(0.5 * logvar) + upstream)",
                "dtop * eps * np.exp(logvar) + 0.5 * upstream",
            ),
        ),
        (WEIGHTS, MEAN),
        PRIOR,
    ),
    Mutant(
        "p(z₁|z₂) taken with variance one",
        (Edit(f"two_layers.{_FORWARD}", "_forward(z, mean, spread)", "_forward(z, mean, 0 * spread)"),),
        (WEIGHTS,),
    ),
    _one(
        "the prior of z₂ forgotten on the way back",
        _BACKWARD,
        "of_generation, gradients) - upstream * top",
        "of_generation, gradients)",
        (PRIOR, _model("iwae")),
        PRIOR,
    ),
    _one("log q's own ½ logvar forgotten", _BACKWARD, " + upstream)", ")", (PRIOR, _model("joint")), PRIOR),
    _one("z₁'s own place in p(z₁|z₂) forgotten", _BACKWARD, "return dz + self", "return self", (PRIOR,), PRIOR),
    _one(
        "the way from z₂ back to z₁ cut",
        _BACKWARD,
        "return dz + self.inference.backward(ops, dtop, dlogvar, of_inference, gradients)",
        "self.inference.backward(ops, dtop, dlogvar, of_inference, gradients)\n    return dz",
        (PRIOR, _model("joint")),
        PRIOR,
    ),
    Mutant(
        "a head's gradient in the other head's place",
        (
            Edit(
                "two_layers.conditional:ConditionalNormal.backward",
                '"mu": of_mu, "logvar": of_logvar',
                '"mu": of_logvar, "logvar": of_mu',
            ),
        ),
        (_model("joint"),),
        _model("joint"),
    ),
    Mutant(
        "z₁ drawn with exp(logvar) as its deviation",
        (Edit("two_layers.upper:UpperLayer.draw_forward", "np.exp(0.5 * logvar) * lower", "np.exp(logvar) * lower"),),
        (DRAWS,),
        DRAW,
    ),
    _one(
        "the deviation of z₁ held fixed under chains",
        "upper:UpperLayer.draw_backward",
        "0.5 * dz * scaled",
        "0 * dz * scaled",
        (DRAW,),
        DRAW,
    ),
    Mutant(
        "chains that move z₂ without the way through z₁",
        (Edit("two_layers.upper:UpperLayer.draw_backward", "dtop], axis=1)", "0 * dtop], axis=1)"),),
        (DRAW, TARGET),
        DRAW,
    ),
    Mutant(
        "one ε for both layers",
        (Edit("elbo:split_noise", "eps[:, arch.latent :]", "eps[:, : arch.top_latent]"),),
        (MEAN,),
        _model("joint"),
    ),
)
