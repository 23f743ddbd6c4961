"""What is verified: every function with a hand-written backward, with the inputs to check it at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from vae_np import distributions, layers, ops
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.choices import LIKELIHOODS, OBJECTIVES, POSTERIORS, Activation
from vae_np.elbo import FORMS, elbo_backward, elbo_forward
from vae_np.likelihoods import FAMILIES
from vae_np.likelihoods import Family as Likelihood
from vae_np.model import encoder_of, initialise
from vae_np.objectives import objective_backward, objective_forward
from vae_np.parameters import Parameters
from vae_np.posteriors import FAMILIES_OF, Family
from vae_np.two_layers import UpperLayer
from vae_np.verify.frozen import frozen_loss, frozen_loss_of_any_family
from vae_np.verify.observed import OBSERVED, cells_for, rows_for

ACTIVATIONS: tuple[Activation, ...] = ("tanh", "softplus", "relu")
_B, _D, _K, _H, _S = 3, 7, 2, 5, 2
# The ELBO's forms, and what else can be maximised.
LOSSES = (*FORMS, *(name for name in OBJECTIVES if name != "elbo"))
_OBJECTIVE_SAMPLES = 3
# Of those, what shows a likelihood's gradient with every sum that is made of it.
OBSERVED_LOSSES = ("joint", "iwae")
# Each family of q beside the diagonal one, with three latents: in two, a mask turned round is a mask.
RICH = tuple(
    Architecture(_D, 3, (_H,), "tanh", "bernoulli", posterior=name, flow_hidden=_H if name == "iaf" else None)
    for name in POSTERIORS
    if name != "diagonal"
)
# Two steps on λ after the encoder, of one draw each.
REFINED = (
    Architecture(_D, _K, (_H,), "tanh", "bernoulli", refine_steps=2, refine_rate=0.4),
    Architecture(_D, _K, (_H, 4), "softplus", "normal-diagonal", 0.7, refine_steps=2, refine_rate=0.2),
)
# Two stochastic layers, of different widths so that none can stand for another.
TWO_LAYERS = (
    Architecture(_D, 3, (_H,), "tanh", "bernoulli", top_latent=2, top_hidden=(4,)),
    Architecture(_D, 2, (_H, 4), "softplus", "normal-diagonal", 0.7, top_latent=3, top_hidden=()),
)
_C = 4
# Each learned prior, one beside a flow, and a conditional model.
PRIORS_AND_CONDITIONS = (
    Architecture(_D, 3, (_H,), "tanh", "bernoulli", prior="mixture", components=_C),
    Architecture(_D, 3, (_H,), "tanh", "bernoulli", prior="vamp", components=_C),
    Architecture(_D, 3, (_H,), "softplus", "normal", prior="vamp", components=_C),
    Architecture(_D, 3, (_H,), "tanh", "bernoulli", posterior="planar", flow_steps=2, prior="mixture", components=_C),
    Architecture(_D, 3, (_H,), "tanh", "bernoulli", conditions=_C),
)


@dataclass(frozen=True)
class Pair:
    """A forward and its backward, the inputs to check them at, and the names of those that have a gradient."""

    name: str
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    inputs: tuple[Any, ...]
    names: tuple[str, ...]
    wrt: tuple[str, ...]
    smooth: bool = True


@dataclass(frozen=True)
class Scalar:
    """A loss of named tensors, and its gradient."""

    name: str
    loss: Callable[[Any], Any]
    gradient: Callable[[Any], Any]
    point: dict[str, Array]
    smooth: bool = True


def layer_pairs(seed: int) -> Iterator[Pair]:
    """The pairs of `vae_np.layers`: affine, each activation, and the MLP."""
    rng = np.random.default_rng(seed)
    x, weight, bias = rng.standard_normal((_B, _D)), rng.standard_normal((_D, _H)), rng.standard_normal(_H)
    inputs = ("x", "weight", "bias")
    yield Pair("affine", layers.affine_forward, layers.affine_backward, (x, weight, bias), inputs, inputs)
    for name, (forward, backward) in layers.ACTIVATIONS.items():
        yield Pair(name, forward, backward, (rng.standard_normal((_B, _H)),), ("a",), ("a",), smooth=name != "relu")
    second = (rng.standard_normal((_H, 4)), rng.standard_normal(4))
    for activation in ACTIVATIONS:
        yield Pair(
            f"mlp, {activation}",
            partial(_mlp_forward, activation),
            _mlp_backward,
            (x, weight, bias, *second),
            (*inputs, "weight2", "bias2"),
            (*inputs, "weight2", "bias2"),
            smooth=activation != "relu",
        )


def _mlp_forward(
    activation: str, x: Array, weight: Array, bias: Array, weight2: Array, bias2: Array
) -> tuple[Array, Any]:
    return layers.mlp_forward(ops, x, [(weight, bias), (weight2, bias2)], activation)


def _mlp_backward(dh: Array, cache: Any) -> tuple[Array | None, ...]:
    dx, ((dweight, dbias), (dweight2, dbias2)) = layers.mlp_backward(ops, dh, cache, input_gradient=True)
    return dx, dweight, dbias, dweight2, dbias2


def distribution_pairs(seed: int) -> Iterator[Pair]:
    """The pairs of `vae_np.distributions`: every log-density, sample and KL that has a backward."""
    rng = np.random.default_rng(seed)
    d = distributions
    binary, real = rng.integers(0, 2, (_B, _D)).astype(float), rng.standard_normal((_B, _D))
    stacked = rng.standard_normal((_S * _B, _D))
    yield Pair(
        "bernoulli_log_prob",
        d.bernoulli_log_prob_forward,
        d.bernoulli_log_prob_backward,
        (binary, stacked),
        ("x", "logits"),
        ("logits",),
    )
    for sigma, logvar in (
        ("one sigma", rng.standard_normal(1)),
        ("sigma per dimension", rng.standard_normal(_D)),
        ("sigma per example", rng.standard_normal((_B, _D))),
    ):
        names = ("x", "mean", "logvar")
        yield Pair(
            f"normal_log_prob, {sigma}",
            d.normal_log_prob_forward,
            d.normal_log_prob_backward,
            (real, stacked, logvar),
            names,
            names,
        )
    mu, logvar = rng.standard_normal((_B, _K)), rng.standard_normal((_B, _K))
    both = ("mu", "logvar")
    yield Pair("normal_kl", d.normal_kl_forward, d.normal_kl_backward, (mu, logvar), both, both)
    chol = np.tril(rng.standard_normal((_B, 3, 3)))
    chol[:, range(3), range(3)] = 0.5 + rng.random((_B, 3))
    z, mean, eps = (rng.standard_normal((_B, 3)) for _ in range(3))
    yield Pair(
        "full_normal_log_prob",
        _lower(d.full_normal_log_prob_forward, 2),
        d.full_normal_log_prob_backward,
        (z, mean, chol),
        ("z", "mu", "chol"),
        ("z", "mu", "chol"),
    )
    yield Pair(
        "full_normal_sample",
        _lower(d.full_normal_sample_forward, 1),
        d.full_normal_sample_backward,
        (mean, chol, eps),
        ("mu", "chol", "eps"),
        ("mu", "chol"),
    )
    both = ("mu", "chol")
    yield Pair("full_normal_kl", d.full_normal_kl_forward, d.full_normal_kl_backward, (mean, chol), both, both)
    yield Pair(
        "categorical_log_prob",
        d.categorical_log_prob_forward,
        d.categorical_log_prob_backward,
        (rng.integers(0, 5, _B), rng.standard_normal((_B, 5))),
        ("labels", "logits"),
        ("logits",),
    )


def _lower(forward: Callable[..., Any], position: int) -> Callable[..., Any]:
    """Return `forward` on the lower triangle of one argument; L has no upper one, so its gradient there is zero."""

    def of_lower(*inputs: Array) -> Any:
        return forward(*(np.tril(a) if i == position else a for i, a in enumerate(inputs)))

    return of_lower


def operation_pairs(backend: ModuleType, seed: int) -> Iterator[Pair]:
    """The operations of the contract, as `backend` implements them, in float64."""
    rng = np.random.default_rng(seed)
    x, weight, bias = rng.standard_normal((_B, _D)), rng.standard_normal((_D, _H)), rng.standard_normal(_H)
    binary = rng.integers(0, 2, (_B, _D)).astype(np.uint8)
    for activation in ("identity", *ACTIVATIONS):
        smooth = activation != "relu"
        names = ("x", "weight", "bias", "activation")
        yield Pair(
            f"affine_act, {activation}",
            backend.affine_act_forward,
            backend.affine_act_backward,
            (x, weight, bias, activation),
            names,
            names[:3],
            smooth,
        )
        yield Pair(
            f"binary_affine_act, {activation}",
            backend.binary_affine_act_forward,
            lambda dy, cache: (None, *backend.binary_affine_act_backward(dy, cache)),
            (binary, weight, bias, activation),
            names,
            names[1:3],
            smooth,
        )
    mu, logvar = rng.standard_normal((_B, _K)), rng.standard_normal((_B, _K))
    yield Pair(
        "reparam_kl",
        backend.reparam_kl_forward,
        backend.reparam_kl_backward,
        (mu, logvar, rng.standard_normal((_S * _B, _K))),
        ("mu", "logvar", "eps"),
        ("mu", "logvar"),
    )
    stacked = rng.standard_normal((_S * _B, _D))
    yield Pair(
        "bernoulli_loglik",
        backend.bernoulli_loglik_forward,
        backend.bernoulli_loglik_backward,
        (binary, stacked),
        ("x", "logits"),
        ("logits",),
    )
    for sigma, size in (("one sigma", 1), ("sigma per dimension", _D)):
        yield Pair(
            f"normal_loglik, {sigma}",
            backend.normal_loglik_forward,
            backend.normal_loglik_backward,
            (x, stacked, rng.standard_normal(size)),
            ("x", "mean", "logvar"),
            ("mean", "logvar"),
        )
    yield Pair(
        "log_mean_exp_weights",
        backend.log_mean_exp_weights,
        lambda dlog_mean, weights: dlog_mean * weights,
        (rng.standard_normal((4, _B)),),
        ("log_w",),
        ("log_w",),
    )


def posterior_pairs(backend: ModuleType, seed: int) -> Iterator[Pair]:
    """The draw of each family of q, composed of what `backend` has: z, and where q has them its KL and log det."""
    rng = np.random.default_rng(seed)
    for arch in RICH:
        family = arch.family
        tensors = {name: 0.6 * rng.standard_normal(shape) for name, shape in family.shapes().items()}
        q = [rng.standard_normal((_B, width)) for width in (arch.latent, arch.latent, *family.heads().values())]
        names = ("mu", "logvar", *family.heads(), *tensors)
        yield Pair(
            f"draw of q, {arch.posterior}",
            partial(_draw_forward, backend, family, tuple(tensors)),
            partial(_draw_backward, backend, family, tuple(tensors)),
            (*q, *tensors.values(), rng.standard_normal((_S * _B, arch.latent))),
            (*names, "eps"),
            names,
        )


def layer_above_pairs(backend: ModuleType, seed: int) -> Iterator[Pair]:
    """What the layer above z adds, composed of what `backend` has: log p(z) by a draw of z₂, and z of normals."""
    rng = np.random.default_rng(seed)
    for arch in TWO_LAYERS:
        upper = arch.upper
        assert upper is not None
        tensors = {name: 0.6 * rng.standard_normal(shape) for name, shape in upper.shapes().items()}
        z, eps = rng.standard_normal((_S * _B, arch.latent)), rng.standard_normal((_S * _B, arch.top_latent or 0))
        yield Pair(
            f"log p(z) by the layer above, {arch.activation}",
            partial(_log_prior_forward, backend, upper, tuple(tensors)),
            partial(_log_prior_backward, backend, upper, tuple(tensors)),
            (z, *tensors.values(), eps),
            ("z", *tensors, "eps"),
            ("z", *tensors),
        )
        yield Pair(
            f"z by the layer above, {arch.activation}",
            lambda normals, upper=upper, tensors=tensors: upper.draw_forward(backend, tensors, normals),
            partial(upper.draw_backward, backend),
            (np.hstack([z, eps]),),
            ("normals",),
            ("normals",),
        )


def _log_prior_forward(backend: ModuleType, upper: UpperLayer, names: tuple[str, ...], *inputs: Array) -> Any:
    z, *tensors, eps = inputs
    log_prior, cache = upper.log_prior_forward(backend, dict(zip(names, tensors, strict=True)), z, eps)
    return log_prior, (cache, tensors)


def _log_prior_backward(
    backend: ModuleType, upper: UpperLayer, names: tuple[str, ...], dlog_prior: Array, cache: Any
) -> tuple[Array, ...]:
    of_prior, tensors = cache
    gradients = {name: np.zeros_like(tensor) for name, tensor in zip(names, tensors, strict=True)}
    dz = upper.log_prior_backward(backend, dlog_prior, of_prior, gradients)
    return dz, *gradients.values()


def likelihood_pairs(seed: int) -> Iterator[Pair]:
    """The log-density of each family of p(x|z), cell by cell, in the decoder's outputs and in its own tensors."""
    rng = np.random.default_rng(seed)
    for name, kind in FAMILIES.items():
        family = kind(_D, 4 if kind.default_levels != 0 else 0)
        x = cells_for(family, (_B, _D), rng)
        tensors = {key: start + 0.5 * rng.standard_normal(shape) for key, (shape, start) in family.tensors().items()}
        wrt = ("out", *tensors)
        yield Pair(
            f"log p(x|z), {name}",
            partial(_cells_forward, family, tuple(tensors), x),
            partial(_cells_backward, family),
            (rng.standard_normal((_S, _B, _D, family.outputs)), *tensors.values()),
            wrt,
            wrt,
        )


def _cells_forward(family: Likelihood, names: tuple[str, ...], x: Array, out: Array, *tensors: Array) -> Any:
    return family.log_prob_forward(x, out, dict(zip(names, tensors, strict=True)))


def _cells_backward(family: Likelihood, dcells: Array, cache: Any) -> tuple[Array, ...]:
    dout, own = family.log_prob_backward(dcells, cache)
    return dout, *own.values()


def _draw_forward(backend: ModuleType, family: Family, names: tuple[str, ...], *inputs: Array) -> Any:
    *tensors, eps = inputs
    split = len(tensors) - len(names)
    draw, cache = family.draw_forward(
        backend, dict(zip(names, tensors[split:], strict=True)), tuple(tensors[:split]), eps
    )
    second = draw.kl if draw.log_det is None else draw.log_det
    return (draw.z, second), (cache, len(draw.kl), tensors[split:])


def _draw_backward(
    backend: ModuleType, family: Family, names: tuple[str, ...], dout: tuple[Array, Array], cache: Any
) -> tuple[Array, ...]:
    of_draw, batch, tensors = cache
    dz, dsecond = dout
    gradients = {name: np.zeros_like(tensor) for name, tensor in zip(names, tensors, strict=True)}
    dkl, dlog_det = (dsecond, np.zeros(len(dz))) if family.analytic else (np.zeros(batch), dsecond)
    dq = family.draw_backward(backend, (dz, dkl, dlog_det), of_draw, gradients)
    return *dq, *gradients.values()


def prior_pairs(backend: ModuleType, seed: int) -> Iterator[Pair]:
    """The log-density of each learned prior in z and in its own tensors, composed of what `backend` has."""
    rng = np.random.default_rng(seed)
    for arch in PRIORS_AND_CONDITIONS:
        prior = arch.learned_prior
        if prior is None or arch.posterior != "diagonal":
            continue
        names = tuple(arch.shapes()) if prior.uses_encoder else tuple(prior.shapes())
        tensors = [0.6 * rng.standard_normal(arch.shapes()[name]) for name in names]
        yield Pair(
            f"log p(z), {arch.prior}, {arch.likelihood}",
            partial(_log_mixture_forward, backend, arch, names),
            partial(_log_mixture_backward, backend, arch, names),
            (rng.standard_normal((_S * _B, arch.latent)), *tensors),
            ("z", *names),
            ("z", *names),
        )


def _log_mixture_forward(
    backend: ModuleType, arch: Architecture, names: tuple[str, ...], z: Array, *tensors: Array
) -> Any:
    values = dict(zip(names, tensors, strict=True))
    assert arch.learned_prior is not None
    encoder = encoder_of(backend, arch, values)
    log_prob, cache = arch.learned_prior.log_prob_forward(backend, values, z, encoder)
    return log_prob, (cache, encoder)


def _log_mixture_backward(
    backend: ModuleType, arch: Architecture, names: tuple[str, ...], dlog_prob: Array, cache: Any
) -> tuple[Array, ...]:
    of_prior, encoder = cache
    assert arch.learned_prior is not None
    gradients = Parameters(arch.shapes(), np.float64)
    dz = arch.learned_prior.log_prob_backward(backend, dlog_prob, of_prior, encoder, gradients)
    return dz, *(gradients[name] for name in names)


def losses_of(arch: Architecture) -> tuple[str, ...]:
    """Those of LOSSES that the architecture's family of q, its prior, or its layers, have.

    `refined` stands alone where steps on λ follow the encoder.
    """
    if arch.refine_steps:
        return ("refined",)
    if arch.top_latent is not None or arch.prior != "standard":
        return "joint", "iwae"
    forms = FORMS if arch.family.analytic else ("joint",)
    return (*forms, *(name for name in OBJECTIVES if name != "elbo" and arch.posterior in FAMILIES_OF[name]))


def models(backend: ModuleType, seed: int, *, full: bool) -> Iterator[Scalar]:
    """The whole model's loss in every parameter tensor: activations, likelihoods, depths, forms, objectives."""
    depths: tuple[tuple[int, ...], ...] = ((_H, 4), (), (_H,)) if full else ((_H, 4),)
    for hidden in depths:
        for activation in ACTIVATIONS:
            for likelihood in LIKELIHOODS:
                arch = Architecture(_D, _K, hidden, activation, likelihood, 0.7)
                for form in FORMS:
                    yield model_loss(backend, arch, form, seed)
                if full or (activation == "tanh" and likelihood in ("bernoulli", "normal-diagonal")):
                    for objective in LOSSES[len(FORMS) :]:
                        yield objective_loss(backend, arch, objective, seed)
    for arch in (*RICH, *REFINED, *TWO_LAYERS, *PRIORS_AND_CONDITIONS):
        for what in losses_of(arch):
            yield loss_of(backend, arch, what, seed)
    for arch in OBSERVED:
        for what in OBSERVED_LOSSES:
            yield loss_of(backend, arch, what, seed)


def model_loss(backend: ModuleType, arch: Architecture, form: str, seed: int, beta: float = 0.7) -> Scalar:
    """−mean(reconstruction − beta·kl) of one model at random data, as a function of its parameters. [D29] [D30]"""
    x, eps = example(arch, seed)
    shapes = arch.shapes()

    def loss(values: dict[str, Array]) -> Any:
        return elbo_forward(backend, arch, values, x, eps, form=form)[0].loss(beta)

    def gradient(values: dict[str, Array]) -> dict[str, Array]:
        parameters = Parameters(shapes, np.float64)
        parameters.assign(values)
        gradients = parameters.zeros_like()
        _, cache = elbo_forward(backend, arch, parameters, x, eps, form=form)
        elbo_backward(backend, arch, cache, gradients, beta=beta)
        return dict(gradients)

    return _of_parameters(arch, f"{form} form", loss, gradient, seed)


def objective_loss(backend: ModuleType, arch: Architecture, what: str, seed: int, beta: float = 0.7) -> Scalar:
    """−mean(objective) of one model at random data, and the gradient by hand; `refined` is the ELBO after steps on λ.
    [D42] [D64]

    For stl, dreg and score it is the scalar that has their estimate as its derivative: what they take for numbers is
    frozen at the point. [D43] [D44] [D45] [D65]
    """
    objective = "elbo" if what == "refined" else what
    x, eps = example(arch, seed, samples_of(what))
    parameters = initialise(arch, seed=seed, dtype=np.float64)

    def loss(values: Any) -> Any:
        return objective_forward(backend, arch, values, x, eps, objective=objective, beta=beta)[0].loss(beta)

    def gradient(values: dict[str, Array]) -> dict[str, Array]:
        point = parameters.zeros_like()
        point.assign(values)
        gradients = parameters.zeros_like()
        _, cache = objective_forward(backend, arch, point, x, eps, objective=objective, beta=beta)
        objective_backward(backend, arch, cache, gradients)
        return dict(gradients)

    judged: Callable[[Any], Any] = loss
    if objective in ("stl", "dreg", "score"):
        frozen = frozen_loss if arch.posterior == "diagonal" else frozen_loss_of_any_family
        judged = frozen(backend, arch, parameters, x, eps, objective, beta)
    return _of_parameters(arch, what, judged, gradient, seed)


def _of_parameters(
    arch: Architecture, what: str, loss: Callable[[Any], Any], gradient: Callable[[Any], Any], seed: int
) -> Scalar:
    """The scalar at the model's initial parameters; a learned prior's begin alike, and are drawn at random."""
    point = {name: value.copy() for name, value in initialise(arch, seed=seed, dtype=np.float64).items()}
    if arch.learned_prior is not None:
        rng = np.random.default_rng(seed)
        # Pseudo-inputs on both sides of 0, and some above 1.
        point |= {name: 0.4 + 0.6 * rng.standard_normal(shape) for name, shape in arch.learned_prior.shapes().items()}
    return Scalar(
        f"model {arch.sizes} {arch.activation}, {arch.likelihood}, "
        + ("" if arch.posterior == "diagonal" else f"q {arch.posterior}, ")
        + ("" if arch.missing is None else f"missing {arch.missing}, ")
        + ("" if arch.prior == "standard" else f"prior {arch.prior}, ")
        + ("conditional, " if arch.conditions else "")
        + what,
        loss,
        gradient,
        point,
        smooth=arch.activation != "relu" or not (arch.hidden or arch.decoder_widths),
    )


def loss_of(backend: ModuleType, arch: Architecture, what: str, seed: int, beta: float = 0.7) -> Scalar:
    """`model_loss` or `objective_loss`, for one of LOSSES."""
    return (model_loss if what in FORMS else objective_loss)(backend, arch, what, seed, beta)


def samples_of(what: str) -> int:
    """How many samples per example the losses of `loss_of` have; `refined` one for the bound and one for each step."""
    return _S if what in FORMS else _OBJECTIVE_SAMPLES


def example(arch: Architecture, seed: int, samples: int = _S) -> tuple[Array, Array]:
    """Random data that suit the likelihood, x (B, D), with conditions (B, D + C), and noise eps (S·B, K) for all z."""
    rng = np.random.default_rng(seed)
    if arch.observation is not None:
        return rows_for(arch, _B, rng), rng.standard_normal((samples * _B, arch.latent))
    if arch.likelihood == "bernoulli":
        x: Array = rng.integers(0, 2, (_B, arch.features)).astype(np.uint8)
    elif arch.likelihood == "bernoulli-grey":
        x = rng.random((_B, arch.features))
    else:
        x = rng.standard_normal((_B, arch.features))
    if arch.conditions:
        x = np.concatenate([x, np.eye(arch.conditions, dtype=x.dtype)[rng.permutation(arch.conditions)[:_B]]], axis=1)
    return x, rng.standard_normal((samples * _B, arch.noise_columns))
