import numpy as np


class AffineCoupling:
    """x1 stays, x2 -> x2 * exp(s(x1)) + t(x1) with linear s and t; also returns log|det|"""

    def __init__(self, d):
        self.k = d // 2
        r = d - self.k
        self.Ws = 0.3 * np.random.randn(self.k, r)
        self.Wt = 0.3 * np.random.randn(self.k, r)

    def forward(self, x):
        x1, x2 = x[:, : self.k], x[:, self.k :]
        s = np.tanh(x1 @ self.Ws)
        y2 = x2 * np.exp(s) + x1 @ self.Wt
        self.cache = x1, x2, s
        return np.hstack([x1, y2]), s.sum(axis=1)

    def inverse(self, y):
        y1, y2 = y[:, : self.k], y[:, self.k :]
        return np.hstack([y1, (y2 - y1 @ self.Wt) * np.exp(-np.tanh(y1 @ self.Ws))])

    def backward(self, dy, dlogdet):
        x1, x2, s = self.cache
        dy1, dy2 = dy[:, : self.k], dy[:, self.k :]
        ds = (dy2 * x2 * np.exp(s) + dlogdet[:, None]) * (1 - s**2)
        self.dWs = x1.T @ ds
        self.dWt = x1.T @ dy2
        dx1 = dy1 + ds @ self.Ws.T + dy2 @ self.Wt.T
        return np.hstack([dx1, dy2 * np.exp(s)])


class ActNorm:
    def __init__(self, d):
        self.log_s = np.zeros(d)
        self.t = np.zeros(d)

    def forward(self, x):
        self.x = x
        return x * np.exp(self.log_s) + self.t, np.full(len(x), self.log_s.sum())

    def backward(self, dy, dlogdet):
        self.dlog_s = (dy * self.x * np.exp(self.log_s)).sum(axis=0)
        self.dt = dy.sum(axis=0)
        return dy * np.exp(self.log_s)


def radial_forward(x, log_a, b):
    """y = x + b x / (a + |x|)"""
    r = np.linalg.norm(x, axis=1, keepdims=True)
    h = 1 / (np.exp(log_a) + r)
    return x + b * h * x, (x, log_a, b, r, h)


def radial_backward(dy, cache):
    x, log_a, b, r, h = cache
    dot = np.sum(dy * x, axis=1, keepdims=True)
    dx = dy * (1 + b * h) - b * h**2 * dot * x / r
    db = np.sum(h * dot)
    dlog_a = -np.sum(b * h**2 * dot) * np.exp(log_a)
    return dx, dlog_a, db


def logit_transform(x, lam=0.05):
    y = lam + (1 - 2 * lam) * x
    return np.log(y / (1 - y))


def logit_transform_grad(x, lam=0.05):
    y = lam + (1 - 2 * lam) * x
    return (1 - 2 * lam) / (y * (1 - y))
