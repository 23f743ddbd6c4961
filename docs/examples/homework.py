"""A homework as `vae-np verify homework.py` expects it: for each piece, a forward, a backward and an example.

    out, cache = <name>_forward(*inputs)
    grads = <name>_backward(dout, cache)     one gradient per array input, in the same order
    inputs = <name>_example(rng)             a tuple; rng is a numpy.random.Generator

An input that has no gradient (integers, data, noise) gets None; if it is a floating-point array, say which inputs
are to be checked with `<name>_wrt = ("mu", "logvar")`. NumPy is all this file needs.
"""

import numpy as np

# A layer: out = x W + b. Shapes: x (B, I), W (I, O), b (O,).


def affine_forward(x, W, b):
    return x @ W + b, (x, W)


def affine_backward(dout, cache):
    x, W = cache
    return dout @ W.T, x.T @ dout, dout.sum(axis=0)


def affine_example(rng):
    return rng.standard_normal((5, 4)), rng.standard_normal((4, 3)), rng.standard_normal(3)


# Activations. The example of relu holds an exact zero: the checker names the kink and leaves it out.


def relu_forward(x):
    return np.where(x > 0, x, 0.0), x


def relu_backward(dout, x):
    return np.where(x > 0, dout, 0.0)


def relu_example(rng):
    x = rng.standard_normal((4, 3))
    x[1, 2] = 0.0
    return (x,)


def tanh_forward(x):
    out = np.tanh(x)
    return out, out


def tanh_backward(dout, out):
    return dout * (1 - out**2)


def tanh_example(rng):
    return (rng.standard_normal((4, 3)),)


# z = mu + exp(logvar / 2) eps. The noise is an argument; it needs no gradient.


def reparameterise_forward(mu, logvar, eps):
    sigma = np.exp(0.5 * logvar)
    return mu + sigma * eps, (sigma, eps)


def reparameterise_backward(dz, cache):
    sigma, eps = cache
    return dz, 0.5 * dz * sigma * eps


reparameterise_wrt = ("mu", "logvar")


def reparameterise_example(rng):
    return tuple(rng.standard_normal((4, 2)) for _ in range(3))


# KL from N(mu, exp(logvar)) to N(0, 1), one value per row, in nats.


def kl_forward(mu, logvar):
    return 0.5 * np.sum(mu**2 + np.exp(logvar) - 1 - logvar, axis=1), (mu, logvar)


def kl_backward(dkl, cache):
    mu, logvar = cache
    return dkl[:, None] * mu, dkl[:, None] * 0.5 * (np.exp(logvar) - 1)


def kl_example(rng):
    return rng.standard_normal((4, 2)), rng.standard_normal((4, 2))


# log p(x | logits) of independent Bernoulli pixels, one value per row; x is data, so its gradient is None.


def bernoulli_forward(logits, x):
    softplus = np.log1p(np.exp(logits))
    return np.sum(x * logits - softplus, axis=1), (logits, x)


def bernoulli_backward(dlogp, cache):
    logits, x = cache
    return dlogp[:, None] * (x - 1 / (1 + np.exp(-logits))), None


bernoulli_wrt = "logits"


def bernoulli_example(rng):
    return rng.standard_normal((4, 6)), (rng.random((4, 6)) < 0.5).astype(float)


# Cross-entropy of softmax(logits) against integer classes, mean over the batch: a scalar, so dout is a number.


def cross_entropy_forward(logits, classes):
    shifted = logits - logits.max(axis=1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    rows = np.arange(len(classes))
    return -np.log(p[rows, classes]).mean(), (p, rows, classes)


def cross_entropy_backward(dloss, cache):
    p, rows, classes = cache
    dlogits = p.copy()
    dlogits[rows, classes] -= 1
    return dloss * dlogits / len(rows), None


def cross_entropy_example(rng):
    return rng.standard_normal((5, 3)), rng.integers(0, 3, 5)
