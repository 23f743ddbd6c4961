"""Layers as functions that return their result and a callback for the gradient.

Every ``forward`` here has the shape ``X -> (Y, backprop)`` and every
``backprop`` the shape ``dY -> dX``. Parameter gradients are collected in the
``grads`` dictionary that is handed in when the layer is made.
"""

from typing import Callable, Dict, List, Tuple

import numpy as np

Array = np.ndarray
Backprop = Callable[[Array], Array]
Forward = Callable[[Array], Tuple[Array, Backprop]]


def Linear(W: Array, b: Array, grads: Dict[str, Array]) -> Forward:
    def forward(X: Array) -> Tuple[Array, Backprop]:
        Y = X @ W.T + b

        def backprop(dY: Array) -> Array:
            grads["W"] = dY.T @ X
            grads["b"] = dY.sum(axis=0)
            return dY @ W

        return Y, backprop

    return forward


def relu(X: Array) -> Tuple[Array, Backprop]:
    mask = X > 0

    def backprop(dY: Array) -> Array:
        return dY * mask

    return X * mask, backprop


def softmax(X: Array) -> Tuple[Array, Backprop]:
    E = np.exp(X - X.max(axis=-1, keepdims=True))
    Y = E / E.sum(axis=-1, keepdims=True)

    def backprop(dY: Array) -> Array:
        dX = Y * dY
        return dX - Y * dX.sum(axis=-1, keepdims=True)

    return Y, backprop


def layernorm(X: Array, eps: float = 1e-8) -> Tuple[Array, Backprop]:
    mu = X.mean(axis=1, keepdims=True)
    var = X.var(axis=1, keepdims=True) + eps
    Y = (X - mu) * var**-0.5

    def backprop(dY: Array) -> Array:
        N = X.shape[1]
        dist, sum_dy, sum_dy_dist = X - mu, dY.sum(1, keepdims=True), (dY * (X - mu)).sum(1, keepdims=True)
        return (N * dY - sum_dy - dist * var**-1.0 * sum_dy_dist) * var**-0.5 / N

    return Y, backprop


def residual(layer: Forward) -> Forward:
    def forward(X: Array) -> Tuple[Array, Backprop]:
        Y, layer_backprop = layer(X)

        def backprop(dY: Array) -> Array:
            return layer_backprop(dY)

        return X + Y, backprop

    return forward


def chain(*layers: Forward) -> Forward:
    def forward(X: Array) -> Tuple[Array, Backprop]:
        callbacks: List[Backprop] = []
        for layer in layers:
            X, callback = layer(X)
            callbacks.append(callback)

        def backprop(dY: Array) -> Array:
            for callback in reversed(callbacks):
                dY = callback(dY)
            return dY

        return X, backprop

    return forward


def reduce_mean(X: Array, lengths: Array) -> Tuple[Array, Backprop]:
    """Mean of each of the sequences that are concatenated in X."""
    ends = np.cumsum(lengths)
    starts = ends - lengths
    Y = np.stack([X[s:e].mean(axis=0) for s, e in zip(starts, ends)])

    def backprop(dY: Array) -> Array:
        return np.repeat(dY / lengths[:, None], lengths, axis=0)

    return Y, backprop


def maxout(X: Array) -> Tuple[Array, Backprop]:
    """X is (N, O, P): the largest of the P pieces of each output."""
    which = X.argmax(axis=-1)
    Y = np.take_along_axis(X, which[..., None], axis=-1)[..., 0]

    def backprop(dY: Array) -> Array:
        dX = np.zeros_like(X)
        np.put_along_axis(dX, which[..., None], dY[..., None], axis=-1)
        return dX

    return Y, backprop
