"""Grab bag of layers. Sorry for the inconsistent argument order, these come from different projects."""

import numpy as np


def dense(w, b, x):
    return x @ w + b


def dense_backward(grad_output, x, b, w):
    grad_w = x.T @ grad_output
    grad_b = grad_output.sum(0)
    grad_x = grad_output @ w.T
    return grad_w, grad_b, grad_x


def sigmoid_fwd(x):
    y = 1 / (1 + np.exp(-x))
    return {"y": y}, y


def sigmoid_bwd(saved, grad):
    return grad * saved["y"] * (1 - saved["y"])


def scale_forward(alpha, x):
    return alpha * x, (alpha, x)


def scale_backward(ctx, delta):
    alpha, x = ctx
    return {"x": alpha * delta, "alpha": np.sum(delta * x)}


def bilinear_form(x, A, y):
    return np.einsum("ni,ij,nj->n", x, A, y)


def bilinear_form_vjp(x, A, y, g):
    gx = g[:, None] * (y @ A.T)
    gA = np.einsum("n,ni,nj->ij", g, x, y)
    gy = g[:, None] * (x @ A)
    return gy, gA, gx


def conv1d(signal, kernel):
    return np.convolve(signal, kernel, mode="valid")


def conv1d_pullback(signal, kernel):
    n, k = len(signal), len(kernel)

    def pullback(*, grad):
        d_signal = np.convolve(grad, kernel[::-1], mode="full")
        d_kernel = np.array([grad @ signal[k - 1 - j : n - j] for j in range(k)])
        return d_signal, d_kernel

    return pullback


def outer_sum(u, v):
    return u[:, None] + v[None, :]


def outer_sum_grad(g, v, u):
    return g.sum(0), g.sum(1)
