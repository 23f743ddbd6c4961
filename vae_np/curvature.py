"""How the ELBO's gradient changes as λ = (mu, logvar) moves: tangents of the forward and of the backward pass. [D64]

Backward says what the loss does for a small change of everything. Carry a direction in λ along through all of it,
forward first, then backward: what arrives beside each gradient is its derivative along the direction. Beside dmu and
dlogvar that is the Hessian times the direction; beside the decoder's gradients it is the mixed second derivative, which
training needs where λ has itself been found by the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import NamedTuple

import numpy as np

from vae_np import model
from vae_np._types import Array
from vae_np.architecture import Architecture
from vae_np.layers import ACTIVATIONS, sigmoid
from vae_np.posteriors.family import stacked


def _no_bend(y: Array) -> Array:
    return np.zeros_like(y)


def _tanh_bend(y: Array) -> Array:
    return -2 * y * (1 - y * y)


def _softplus_bend(y: Array) -> Array:
    return -np.expm1(-y) * np.exp(-y)


# The second derivative of each activation, from its output alone: 0, 0 beside the kink, −2 y (1 − y²), σ (1 − σ). [D64]
_BENDS: dict[str, Callable[[Array], Array]] = {
    "identity": _no_bend,
    "relu": _no_bend,
    "tanh": _tanh_bend,
    "softplus": _softplus_bend,
}


class _Layer(NamedTuple):
    """What a layer leaves for its backward pass and that one's tangent: inputs h, output y, and tangents of h and a."""

    name: str
    activation: str
    weight: Array
    h: Array
    h_change: Array
    y: Array
    a_change: Array


def change_of_gradient(
    ops: ModuleType,
    arch: Architecture,
    parameters: Mapping[str, Array],
    x: Array,
    mu: Array,
    logvar: Array,
    eps: Array,
    along: tuple[Array, Array],
    *,
    beta: float = 1.0,
) -> tuple[tuple[Array, Array], dict[str, Array]]:
    """d/dt of the loss's gradient at λ + t·along, at t = 0, for the loss −mean(reconstruction − beta·kl). [D64]

    x (B, D), mu, logvar and both of `along` (B, K), eps (S·B, K), the KL in closed form. Returns the Hessian times
    `along`, as changes of dmu and dlogvar (B, K), and the change of each of the decoder's gradients, by name. With ReLU
    it is the derivative everywhere but on kinks.
    """
    mu_along, logvar_along = along
    rows, batch = len(eps), len(mu)
    noise = stacked(eps, batch)
    half = 0.5 * np.exp(0.5 * logvar) * noise
    # ∂z/∂logvar = ½ σ ε, whose own derivative is half of itself.
    z = (mu + 2 * half).reshape(eps.shape)
    z_change = (mu_along + half * logvar_along).reshape(eps.shape)
    out, out_change, states = _decode(ops, arch, parameters, z, z_change)
    _, cache = model.loglik_forward(ops, arch, parameters, x, out)
    d = model.loglik_backward(ops, arch, np.full(rows, -1 / rows, dtype=out.dtype), cache, None)
    changes: dict[str, Array] = {}
    if arch.is_bernoulli:
        p = sigmoid(out)
        d_change = p * (1 - p) * out_change / rows
    else:
        known = parameters.get("likelihood.logvar")
        precision = np.exp(-arch.sigma_logvar if known is None else -known)
        d_change = precision * out_change / rows
        if known is not None:
            # ∂loss/∂log σ² has −½ (x − m)² e^(−log σ²) / rows of each entry, and d is (m − x) e^(−log σ²) / rows.
            each = -d * out_change
            changes["likelihood.logvar"] = each.sum(axis=0) if known.size > 1 else each.sum(keepdims=True)[0]
    for layer in reversed(states):
        backward, bend = ACTIVATIONS[layer.activation][1], _BENDS[layer.activation]
        da = backward(d, layer.y)
        da_change = backward(d_change, layer.y) + d * bend(layer.y) * layer.a_change
        changes[f"{layer.name}.weight"] = layer.h_change.T @ da + layer.h.T @ da_change
        changes[f"{layer.name}.bias"] = da_change.sum(axis=0)
        d, d_change = da @ layer.weight.T, da_change @ layer.weight.T
    d, d_change = stacked(d, batch), stacked(d_change, batch)
    share = beta / batch
    dmu_change = d_change.sum(axis=0) + share * mu_along
    path = (d_change * half + 0.5 * d * half * logvar_along).sum(axis=0)
    return (dmu_change, path + 0.5 * share * np.exp(logvar) * logvar_along), changes


def _decode(
    ops: ModuleType, arch: Architecture, parameters: Mapping[str, Array], z: Array, z_change: Array
) -> tuple[Array, Array, list[_Layer]]:
    """The decoder's output, its change along that of z, and what each layer leaves."""
    states, h, h_change = [], z, z_change
    for name in (*arch.hidden_layers("decoder"), "decoder.out"):
        activation = "identity" if name == "decoder.out" else arch.activation
        weight = parameters[f"{name}.weight"]
        y, _ = ops.affine_act_forward(h, weight, parameters[f"{name}.bias"], activation)
        a_change = h_change @ weight
        states.append(_Layer(name, activation, weight, h, h_change, y, a_change))
        h, h_change = y, ACTIVATIONS[activation][1](a_change, y)
    return h, h_change, states
