"""Forward and backward pairs that are right, and points to check them at."""

from __future__ import annotations

import numpy as np


def normal(*shape, seed=0):
    return np.random.default_rng([seed, 99]).standard_normal(shape)


X = normal(4, 3)


def affine_forward(x, W, b):
    return x @ W + b, (x, W)


def affine_backward(dout, cache):
    x, W = cache
    return dout @ W.T, x.T @ dout, dout.sum(axis=0)


def affine_inputs(dtype=np.float64, rows=5, columns=4, outputs=3):
    return tuple(a.astype(dtype) for a in (normal(rows, columns), normal(columns, outputs), normal(outputs, seed=1)))


def tanh_forward(x):
    return np.tanh(x), np.tanh(x)


def tanh_backward(dout, out):
    return dout * (1 - out**2)


def relu_forward(x):
    return np.where(x > 0, x, 0.0), x


def relu_backward(dout, x):
    return np.where(x > 0, dout, 0.0)


def softmax_forward(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    return p, p


def softmax_backward(dp, p):
    return p * (dp - (dp * p).sum(axis=1, keepdims=True))


def row_of(report, tensor):
    return next(row for row in report.rows if row.tensor == tensor)


def notes_of(report, tensor="x"):
    return " ".join(row_of(report, tensor).notes)
