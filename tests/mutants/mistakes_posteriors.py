"""Mistakes in the families of q, with exact checks of their own: the Jacobian, the mask, and E_q[w] = p(x)."""

from __future__ import annotations

import numpy as np

from vae_np import ops
from vae_np.architecture import Architecture
from vae_np.curvature import change_of_gradient
from vae_np.elbo import posterior_elbo_backward, posterior_elbo_forward
from vae_np.evaluation.importance import importance_log_likelihood
from vae_np.exact.families import Member, member
from vae_np.exact.inference import Rule
from vae_np.exact.linear_gaussian import LinearGaussian
from vae_np.gradcheck import check_grad, check_vjp
from vae_np.model import Model, initialise
from vae_np.posteriors import FAMILIES
from vae_np.verify import catalogue

from .plant import Check, Edit, Mutant

SEED = 0


def _drawn(posterior: str) -> Member:
    kind = FAMILIES[posterior]
    family = kind(3, kind.default_steps, 7 if kind.default_hidden else 0)
    return member(family, np.array([0.3, -0.2, 0.5]), np.array([-0.5, 0.2, 0.4]), spread=0.7, seed=SEED)


def _jacobian(posterior: str) -> Check:
    def run() -> None:
        eps = np.random.default_rng(SEED).standard_normal((5, 3))
        at = _drawn(posterior)
        np.testing.assert_allclose(at.draw(eps)[1], at.draw_by_complex_steps(eps)[1], rtol=1e-11)

    return Check(f"density of {posterior} by its Jacobian", "exact", run)


def _mean_weight(posterior: str) -> Check:
    def run() -> None:
        arch = Architecture(3, 2, (), "tanh", "normal-fixed", 1.0, posterior=posterior)
        parameters = initialise(arch, seed=1, dtype=np.float64)
        # Far enough from the identity for its determinant to count.
        for name, view in parameters.items():
            if "planar" in name or "log_scale.bias" in name:
                view *= 3
        x = np.random.default_rng(3).standard_normal((4, 3))
        found = importance_log_likelihood(Model(ops, arch, parameters), x, np.arange(4), samples=20_000, seed=0)
        linear = LinearGaussian(parameters["decoder.out.weight"].T, parameters["decoder.out.bias"], 1.0)
        assert (np.abs(found.log_likelihood - linear.log_prob(x)) < 5 * found.stderr).all()

    return Check(f"mean weight of {posterior} q", "exact", run)


def _kl() -> None:
    """The full normal's KL against the mean of log q − log p over a rule that is exact for squares."""
    kind, rule = FAMILIES["full"](2), Rule.gauss_hermite(2, 3)
    at = member(kind, np.array([0.3, -0.2]), np.array([-0.5, 0.4]), spread=0.7, seed=SEED)
    draw, _ = kind.draw_forward(ops, at.tensors, at.q, rule.eps)
    z, log_q = at.draw(rule.eps)
    log_p = -0.5 * ((z * z).sum(axis=1) + 2 * np.log(2 * np.pi))
    np.testing.assert_allclose(draw.kl[0], rule.weights @ (log_q - log_p), rtol=1e-12)


def _identity() -> None:
    """With a head that is zero a planar flow is its first normal."""
    kind = FAMILIES["planar"](3, 4)
    at = member(kind, np.zeros(3), np.zeros(3))
    eps = np.random.default_rng(SEED).standard_normal((5, 3))
    assert (at.draw(eps)[0] == eps).all()


def _gradient(posterior: str) -> Check:
    def run() -> None:
        name = f"draw of q, {posterior}"
        found = next(pair for pair in catalogue.posterior_pairs(ops, SEED) if pair.name == name)
        report = check_vjp(found.forward, found.backward, found.inputs, names=found.names, wrt=found.wrt, name=name)
        assert report.passed, str(report)
        assert report.max_error <= 1e-12, str(report)

    return Check(f"gradient of the draw of {posterior} q", "gradient", run)


def _checked(scalar: catalogue.Scalar) -> None:
    report = check_grad(scalar.loss, scalar.gradient, scalar.point, name=scalar.name)
    assert report.passed, str(report)
    assert report.max_error <= 1e-12, str(report)


def _change() -> None:
    """Of dmu and dlogvar along a direction: what λ's steps are followed back by."""
    arch = catalogue.REFINED[0]
    parameters = initialise(arch, seed=SEED, dtype=np.float64)
    x, eps = catalogue.example(arch, SEED, 2)
    mu, logvar, *along = np.random.default_rng(SEED).standard_normal((4, len(x), arch.latent))
    found, _ = change_of_gradient(ops, arch, parameters, x, mu, logvar, eps, (along[0], along[1]))
    moved = mu + 1e-30j * along[0], logvar + 1e-30j * along[1]
    _, cache = posterior_elbo_forward(ops, arch, parameters, x, *moved, eps)
    expected = posterior_elbo_backward(ops, arch, cache, None)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs.imag / 1e-30, rtol=1e-10, atol=1e-13)


def _model(posterior: str, what: str) -> Check:
    def run() -> None:
        arch = next(arch for arch in catalogue.RICH if arch.posterior == posterior)
        _checked(catalogue.loss_of(ops, arch, what, SEED))

    return Check(f"gradient of the model ({posterior} q, {what})", "gradient", run)


FULL, PLANAR, IAF = map(_gradient, ("full", "planar", "iaf"))
KL, IDENTITY = Check("KL of a full normal by quadrature", "exact", _kl), Check("a planar identity", "exact", _identity)
PLANAR_DENSITY, IAF_DENSITY = map(_jacobian, ("planar", "iaf"))


def _one(mistake: str, where: str, old: str, new: str, check: Check, gradient: Check) -> Mutant:
    return Mutant(mistake, (Edit(f"posteriors.{where}", old, new),), (check,), gradient)


REFINED = Check(
    "gradient of the model (refined)",
    "gradient",
    lambda: _checked(catalogue.loss_of(ops, catalogue.REFINED[0], "refined", SEED)),
)
CHANGE = Check("a gradient's change by its complex step", "exact", _change)
PLANAR_STL = _model("planar", "stl")
PLANAR_DREG = _model("planar", "dreg")
FULL_STL = _model("full", "stl")
PLANAR_JOINT = _model("planar", "joint")
IAF_IWAE = _model("iaf", "iwae")


MUTANTS = (
    _one(
        "the covariance's part of the KL without its ½",
        "full:Full.draw_forward",
        "0.5 * (below * below)",
        "(below * below)",
        KL,
        FULL,
    ),
    _one("ε A for A ε", "full:Full.draw_backward", "sbi,sbj->bij", "sbj,sbi->bij", FULL, FULL),
    _one(
        "the KL's pull on the covariance forgotten",
        "full:Full.draw_backward",
        "+ dkl[:, None] * below",
        "",
        FULL,
        FULL,
    ),
    Mutant(
        "a planar log-determinant with its sign turned, backward pass and all",
        (
            Edit("posteriors.planar:Planar.draw_forward", "log_det + np.log1p", "log_det - np.log1p"),
            Edit("posteriors.planar:Planar.draw_backward", "inside = dlog_det /", "inside = -dlog_det /"),
        ),
        (PLANAR_DENSITY, _mean_weight("planar")),
        PLANAR,
    ),
    _one(
        "û without its correction's slope in c",
        "planar:step_backward",
        "(dm + along) * bounded_slope(step.dot) - along",
        "dm * bounded_slope(step.dot)",
        PLANAR,
        PLANAR,
    ),
    _one(
        "m(c) = log(1 + eᶜ) − 1, whose zero is not at 0",
        "planar:bounded",
        "return np.where(positive, right, left)",
        "return np.log1p(np.exp(a)) - 1",
        IDENTITY,
        PLANAR,
    ),
    Mutant(
        "a mask that lets a latent see itself",
        (
            Edit(
                "posteriors.autoregressive:Autoregressive.masks",
                "places[:, None] < numbers",
                "places[:, None] <= numbers",
            ),
        ),
        (IAF_DENSITY,),
        IAF,
    ),
    _one(
        "no mask on the way back",
        "autoregressive:Autoregressive.draw_backward",
        "dweight * mask",
        "dweight",
        IAF,
        IAF,
    ),
    _one(
        "the log-determinant's way into s forgotten",
        "autoregressive:Autoregressive.draw_backward",
        "dz * z * scale + dlog_det[:, None]",
        "dz * z * scale",
        IAF,
        IAF,
    ),
    Mutant(
        "the log-determinant left out of log q, backward pass and all",
        (
            Edit("elbo:sampled_kl", "sampled if log_det is None else sampled - log_det", "sampled"),
            Edit("elbo:posterior_elbo_backward", "np.full_like(loglik, -beta / rows)", "np.zeros_like(loglik)"),
            Edit("evaluation.importance:log_weights", "log_w if log_det is None else log_w + log_det", "log_w"),
        ),
        (_mean_weight("planar"), _mean_weight("iaf")),
        _model("iaf", "joint"),
    ),
    Mutant(
        "the log-determinant not differentiated in the ELBO",
        (Edit("elbo:posterior_elbo_backward", "np.full_like(loglik, -beta / rows)", "np.zeros_like(loglik)"),),
        (PLANAR_JOINT,),
        PLANAR_JOINT,
    ),
    Mutant(
        "the log-determinant not differentiated in the bound of several samples",
        (Edit("objectives:objective_backward", "else -beta * share", "else 0 * share"),),
        (IAF_IWAE,),
        IAF_IWAE,
    ),
    Mutant(
        "∂ log q/∂z of a planar flow without the slope of its log-determinant",
        (Edit("posteriors.planar:Planar.slope_of_log_q", "2 * t * h * step.m", "0 * t * h * step.m"),),
        (PLANAR_STL,),
        PLANAR_STL,
    ),
    Mutant(
        "∂ log q/∂z of a planar flow by Jᵀ where J⁻ᵀ is due",
        (
            Edit(
                "posteriors.planar:Planar.slope_of_log_q",
                "slope - (h * along / stretch)",
                "slope + (h * along)",
            ),
        ),
        (PLANAR_DREG,),
        PLANAR_DREG,
    ),
    Mutant(
        "L⁻¹ ε where L⁻ᵀ ε is due",
        (
            Edit(
                "posteriors.full:Full.slope_of_log_q",
                "np.swapaxes(self.lower(logvar, below), 1, 2)",
                "self.lower(logvar, below)",
            ),
        ),
        (FULL_STL,),
        FULL_STL,
    ),
    Mutant(
        "log q's own way into the heads kept along the path",
        (Edit("objectives:objective_backward", "np.zeros_like(share) if of_path else -beta * share", "-beta * share"),),
        (PLANAR_STL,),
        PLANAR_STL,
    ),
    Mutant(
        "the bend of tanh forgotten in the gradient's change",
        (Edit("curvature:_tanh_bend", "-2 * y * (1 - y * y)", "0 * y"),),
        (CHANGE,),
        REFINED,
    ),
    Mutant(
        "logvar's second way into z forgotten",
        (Edit("curvature:change_of_gradient", "+ 0.5 * d * half * logvar_along", ""),),
        (CHANGE,),
        REFINED,
    ),
    Mutant(
        "steps on λ followed back without what they owe to θ",
        (Edit("refinement:refine_backward", "gradients[name][...] -= change", "pass"),),
        (REFINED,),
        REFINED,
    ),
    Mutant(
        "the variance in a step on mu taken for a constant",
        (Edit("refinement:refine_backward", "- rate * variance * visit.dmu * dmu", ""),),
        (REFINED,),
        REFINED,
    ),
)
