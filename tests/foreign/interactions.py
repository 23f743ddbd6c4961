import numpy as np


class Bilinear:
    """out[n, k] = x1[n] @ W[k] @ x2[n] + b[k]"""

    def __init__(self, in1, in2, out, rng=None):
        rng = rng or np.random.default_rng()
        self.W = rng.standard_normal((out, in1, in2)) / np.sqrt(in1 * in2)
        self.b = np.zeros(out)

    def forward(self, x1, x2):
        self.x1, self.x2 = x1, x2
        return np.einsum("ni,kij,nj->nk", x1, self.W, x2) + self.b

    def backward(self, dout):
        self.dW = np.einsum("nk,ni,nj->kij", dout, self.x1, self.x2)
        self.db = dout.sum(0)
        dx1 = np.einsum("nk,kij,nj->ni", dout, self.W, self.x2)
        dx2 = np.zeros_like(self.x2)
        return dx1, dx2


class Highway:
    def __init__(self, d):
        self.Wh, self.bh = np.random.randn(d, d) / np.sqrt(d), np.zeros(d)
        self.Wt, self.bt = np.random.randn(d, d) / np.sqrt(d), -np.ones(d)

    def forward(self, x):
        self.x = x
        self.h = np.tanh(x @ self.Wh + self.bh)
        self.t = 1 / (1 + np.exp(-(x @ self.Wt + self.bt)))
        return self.t * self.h + (1 - self.t) * x

    def backward(self, dy):
        dah = dy * self.t * (1 - self.h**2)
        dat = dy * (self.h - self.x) * self.t * (1 - self.t)
        self.dWh, self.dbh = self.x.T @ dah, dah.sum(0)
        self.dWt, self.dbt = self.x.T @ dat, dat.sum(0)
        return dah @ self.Wh.T + dat @ self.Wt.T + dy * (1 - self.t)


class FactorizationMachine:
    def __init__(self, n_features, k):
        self.w0 = np.zeros(1)
        self.w = 0.1 * np.random.randn(n_features)
        self.V = 0.1 * np.random.randn(n_features, k)

    def predict(self, X):
        s = X @ self.V
        return self.w0 + X @ self.w + 0.5 * np.sum(s**2 - (X**2) @ (self.V**2), axis=1)

    def gradients(self, X, dy):
        """dy: gradient of the loss for each prediction"""
        s = X @ self.V
        return {
            "w0": np.array([dy.sum()]),
            "w": X.T @ dy,
            "V": X.T @ (dy[:, None] * s) - ((X**2).T @ dy)[:, None] * self.V,
        }


def gated_forward(x, g):
    s = 1 / (1 + np.exp(-g))
    return x * s, (x, s)


def gated_backward(dout, cache):
    x, s = cache
    dx = dout * s
    return dx, None


def concat_forward(a, b):
    return np.concatenate([a, b], axis=1), a.shape[1]


def concat_backward(dout, split):
    return dout[:, :split], dout[:, split:]


def pairwise_dist_forward(A, B):
    """squared distances between the rows of A and B"""
    D = (A**2).sum(1)[:, None] - 2 * A @ B.T + (B**2).sum(1)[None]
    return D, (A, B)


def pairwise_dist_backward(dD, cache):
    A, B = cache
    dA = 2 * (A * dD.sum(1)[:, None] - dD @ B)
    dB = 2 * (B * dD.sum(0)[:, None] - dD.T @ A)
    return dA, dB
