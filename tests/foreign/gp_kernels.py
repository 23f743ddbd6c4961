import numpy as np
from scipy.linalg import cho_factor, cho_solve


class RBF:
    def __init__(self, length_scale=1.0, variance=1.0):
        self.theta = np.log(np.array([length_scale, variance], dtype=float))

    def __call__(self, X, Y=None, eval_gradient=False):
        """K, or (K, dK) with dK[:, :, i] the derivative for theta[i] (log of the hyperparameter)."""
        l, s = np.exp(self.theta)
        Z = X if Y is None else Y
        d2 = ((X[:, None, :] - Z[None, :, :]) ** 2).sum(-1)
        K = s * np.exp(-0.5 * d2 / l**2)
        if not eval_gradient:
            return K
        return K, np.dstack([K * d2 / l**2, K])


class Periodic:
    def __init__(self, length_scale=1.0, period=1.0):
        self.theta = np.log(np.array([length_scale, period], dtype=float))

    def __call__(self, X, Y=None, eval_gradient=False):
        l, p = np.exp(self.theta)
        Z = X if Y is None else Y
        d = np.sqrt(((X[:, None, :] - Z[None, :, :]) ** 2).sum(-1))
        a = np.pi * d / p
        K = np.exp(-2 * np.sin(a) ** 2 / l**2)
        if not eval_gradient:
            return K
        dl = K * 4 * np.sin(a) ** 2 / l**3
        dp = K * 4 * a / l**2 * np.sin(a) * np.cos(a)
        return K, np.dstack([dl, dp])


def gp_nll(theta, X, y):
    """theta = log (length scale, signal std, noise std); returns nll, gradient"""
    l, sf, sn = np.exp(theta)
    n = len(y)
    d2 = ((X[:, None] - X[None]) ** 2).sum(-1)
    Kf = sf**2 * np.exp(-0.5 * d2 / l**2)
    c = cho_factor(Kf + sn**2 * np.eye(n), lower=True)
    alpha = cho_solve(c, y)
    nll = 0.5 * y @ alpha + np.log(np.diag(c[0])).sum() + 0.5 * n * np.log(2 * np.pi)

    W = cho_solve(c, np.eye(n)) - np.outer(alpha, alpha)
    grad = 0.5 * np.array(
        [
            np.sum(W * Kf * d2 / l**2),
            np.sum(W * 2 * Kf),
            np.trace(W) * 2 * sn**2,
        ]
    )
    return nll, grad


def matern32(r, l):
    """k(r) and dk/dr"""
    a = np.sqrt(3) * r / l
    return (1 + a) * np.exp(-a), -3 * r / l**2 * np.exp(-a)
