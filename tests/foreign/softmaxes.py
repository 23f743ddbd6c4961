import numpy as np


def softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def backprop_softmax(dout, p):
    """p is softmax(x)"""
    return p * (dout - np.sum(dout * p, axis=1, keepdims=True))


def softmax_prime(x):
    s = softmax(x)
    return s * (1 - s)


class SoftmaxLayer:
    def forward(self, x):
        self.out = softmax(x)
        return self.out

    def backward(self, dout):
        return dout * self.out * (1 - self.out)


def log_softmax(x):
    z = x - x.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def log_softmax_backward(grad, y):
    """y = log_softmax(x)"""
    return grad - np.exp(y) * grad.sum(axis=-1, keepdims=True)


def softmax_jacobian(s):
    """s: one softmax output (a vector). Returns ds_i / dx_j."""
    return np.diag(s) - np.outer(s, s)


def softmax1d(x):
    e = np.exp(x - np.max(x))
    return e / np.sum(e)


def softmax1d_jacobian(x):
    return softmax_jacobian(softmax1d(x))


def gumbel_softmax(logits, gumbel, tau=0.5):
    return softmax((logits + gumbel) / tau)


def gumbel_softmax_grad(dy, y, tau=0.5):
    return y * (dy - (dy * y).sum(axis=1, keepdims=True)) / tau


def sparsemax(z):
    """Euclidean projection of each row onto the simplex."""
    zs = -np.sort(-z, axis=1)
    k = np.arange(1, z.shape[1] + 1)
    cs = np.cumsum(zs, axis=1)
    K = np.sum(1 + k * zs > cs, axis=1)
    tau = (cs[np.arange(len(z)), K - 1] - 1) / K
    return np.maximum(z - tau[:, None], 0)


def sparsemax_backward(dout, p):
    support = p > 0
    v = np.sum(dout * support, axis=1) / support.sum(axis=1)
    return support * (dout - v[:, None])
