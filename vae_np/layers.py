"""Layers in plain NumPy: affine, activations and the MLP, each forward beside its backward.

`<name>_forward` returns its result and what backward needs; `<name>_backward` takes the upstream gradient of the loss
and returns the gradients of the inputs. Nothing is remembered between the two calls. Every smooth function also accepts
complex input, so that its derivative can be checked by a complex step; therefore branches look at `.real` and
transposes never conjugate.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from vae_np._types import Array


def affine_forward(x: Array, weight: Array, bias: Array) -> tuple[Array, Any]:
    """y = x W + b, for x (B, I), weight (I, O), bias (O,); y is (B, O). [D25]"""
    return x @ weight + bias, (x, weight)


def affine_backward(
    dy: Array, cache: Any, *, input_gradient: bool = True, weight_gradient: bool = True
) -> tuple[Array | None, Array | None, Array | None]:
    """dx = dy Wᵀ, dW = xᵀ dy, db = Σ_batch dy; dx, or dW and db, are None where they are not asked for. [D25]"""
    x, weight = cache
    dx = dy @ weight.T if input_gradient else None
    return (dx, x.T @ dy, dy.sum(axis=0)) if weight_gradient else (dx, None, None)


def identity_forward(a: Array) -> tuple[Array, Any]:
    """y = a, any shape: what a head uses, which has no activation."""
    return a, None


def identity_backward(dy: Array, cache: Any) -> Array:
    """da = dy."""
    return dy


def relu_forward(a: Array) -> tuple[Array, Any]:
    """y = max(a, 0), any shape; NaN stays NaN. [D26]"""
    y = np.where(a.real <= 0, 0, a)
    return y, y


def relu_backward(dy: Array, cache: Any) -> Array:
    """da = dy where y > 0, else 0: the derivative at the kink is taken as 0. [D26]"""
    y = cache
    return np.where(y.real > 0, dy, 0)


def tanh_forward(a: Array) -> tuple[Array, Any]:
    """y = tanh a, any shape. [D26]"""
    y = np.tanh(a)
    return y, y


def tanh_backward(dy: Array, cache: Any) -> Array:
    """da = dy (1 − y²). [D26]"""
    y = cache
    return dy * (1 - y * y)


def softplus(a: Array) -> Array:
    """log(1 + exp a) as max(a, 0) + log1p(exp −|a|), which neither overflows nor loses its tail. [D26]"""
    positive = a.real > 0
    return np.where(positive, a, 0) + np.log1p(np.exp(np.where(positive, -a, a)))


def softplus_forward(a: Array) -> tuple[Array, Any]:
    """y = log(1 + exp a), any shape. [D26]"""
    y = softplus(a)
    return y, y


def softplus_backward(dy: Array, cache: Any) -> Array:
    """da = dy σ(a), and σ(a) = 1 − exp(−y) comes from the output alone. [D26]"""
    y = cache
    return -dy * np.expm1(-y)


def sigmoid(a: Array) -> Array:
    """σ(a) = 1 / (1 + exp −a), the derivative of softplus, without overflow on either side. [D26]"""
    positive = a.real > 0
    e = np.exp(np.where(positive, -a, a))
    return np.where(positive, 1, e) / (1 + e)


ACTIVATIONS = {
    "identity": (identity_forward, identity_backward),
    "relu": (relu_forward, relu_backward),
    "tanh": (tanh_forward, tanh_backward),
    "softplus": (softplus_forward, softplus_backward),
}


def mlp_forward(
    ops: ModuleType, x: Array, layers: Sequence[tuple[Array, Array]], activation: str
) -> tuple[Array, Any]:
    """Hidden layers of any depth: h ← activation(h W + b) for each (W, b); x (B, I), result (B, last width). [D27]

    An x of bytes is binary data, and the first layer is then the binary one. [D28]
    """
    caches = []
    h = x
    for weight, bias in layers:
        binary = h is x and x.dtype.kind in "bu"
        forward = ops.binary_affine_act_forward if binary else ops.affine_act_forward
        h, cache = forward(h, weight, bias, activation)
        caches.append(cache)
    return h, (caches, x.dtype.kind in "bu")


def mlp_backward(
    ops: ModuleType, dh: Array, cache: Any, *, input_gradient: bool, weight_gradient: bool = True
) -> tuple[Array | None, list[tuple[Array, Array]]]:
    """The chain rule, last layer first; returns dx (None unless `input_gradient`) and (dW, db) per layer. [D27]

    Without `weight_gradient` that list is empty.
    """
    caches, binary = cache
    gradients: list[tuple[Array, Array]] = []
    upstream: Array | None = dh
    for index in reversed(range(len(caches))):
        if index == 0 and binary:
            dweight, dbias = ops.binary_affine_act_backward(upstream, caches[0])
            upstream = None
        else:
            upstream, dweight, dbias = ops.affine_act_backward(
                upstream,
                caches[index],
                input_gradient=index > 0 or input_gradient,
                weight_gradient=weight_gradient,
            )
        if weight_gradient:
            gradients.append((dweight, dbias))
    return upstream, gradients[::-1]
