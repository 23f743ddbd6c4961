"""Gradient checks of the catalogue, as named checks: complex step to 1e-12 where the function is smooth."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from vae_np import distributions, layers, ops
from vae_np.architecture import Architecture
from vae_np.gradcheck import Report, check_grad, check_vjp
from vae_np.verify import catalogue
from vae_np.verify.catalogue import model_loss
from vae_np.verify.runner import SMOOTH_RTOL

from .plant import Check

SEED = 0


def _hold(report: Report, smooth: bool) -> None:
    assert report.passed, str(report)
    assert not smooth or report.max_error <= SMOOTH_RTOL, str(report)


def pair(name: str) -> Check:
    """The gradient check of the catalogue's pair of that name."""

    def run() -> None:
        pairs = itertools.chain(
            catalogue.layer_pairs(SEED), catalogue.distribution_pairs(SEED), catalogue.operation_pairs(ops, SEED)
        )
        found = next(pair for pair in pairs if pair.name == name)
        options = {"names": found.names, "wrt": found.wrt, "name": name}
        _hold(check_vjp(found.forward, found.backward, found.inputs, **options), found.smooth)

    return Check(f"gradient of {name}", "gradient", run)


def model(likelihood: str = "bernoulli", form: str = "analytic", activation: str = "tanh") -> Check:
    """The gradient check of a whole model's loss in every parameter tensor."""

    def run() -> None:
        scalar = model_loss(ops, Architecture(7, 2, (5, 4), activation, likelihood, 0.7), form, SEED)
        _hold(check_grad(scalar.loss, scalar.gradient, scalar.point, name=scalar.name), scalar.smooth)

    return Check(f"gradient of the model ({likelihood}, {form} form)", "gradient", run)


def _vjp(name: str, forward: Callable[..., object], backward: Callable[..., object], *inputs: object) -> Check:
    def run() -> None:
        _hold(check_vjp(forward, backward, inputs, name=name), smooth=False)

    return Check(f"gradient of {name}", "gradient", run)


# At arguments where a clamp that only one of the two directions has would bite.
KL_FAR_OUT = _vjp(
    "normal_kl at logvar from −25 to 25",
    lambda mu, logvar: distributions.normal_kl_forward(mu, logvar),
    lambda dkl, cache: distributions.normal_kl_backward(dkl, cache),
    np.array([[0.5, -3.0, 40.0]]),
    np.array([[-25.0, 12.0, 25.0]]),
)
BERNOULLI_FAR_OUT = _vjp(
    "bernoulli_log_prob at logits from −60 to 60",
    lambda x, logits: distributions.bernoulli_log_prob_forward(x, logits),
    lambda dlog_prob, cache: (None, distributions.bernoulli_log_prob_backward(dlog_prob, cache)),
    np.array([[0, 1, 1, 0]], dtype=np.uint8),
    np.array([[25.0, -60.0, -18.0, 60.0]]),
)
SQUARE_AFFINE = _vjp(
    "affine with a square weight",
    lambda x, weight, bias: layers.affine_forward(x, weight, bias),
    lambda dy, cache: layers.affine_backward(dy, cache),
    np.arange(6.0).reshape(2, 3),
    np.array([[0.0, 1, 2], [3, 4, 5], [6, 7, 8]]),
    np.ones(3),
)
