import numpy as np


class Dropout:
    def __init__(self, p=0.5):
        self.p = p
        self.training = True

    def forward(self, x):
        if not self.training:
            return x
        mask = (np.random.rand(*x.shape) > self.p) / (1 - self.p)
        return x * mask

    def backward(self, dout):
        if not self.training:
            return dout
        mask = (np.random.rand(*dout.shape) > self.p) / (1 - self.p)
        return dout * mask


class SpatialDropout:
    """drops whole channels of NCHW images"""

    def __init__(self, p=0.2):
        self.p = p

    def forward(self, x, training=True):
        self.mask = None
        if not training:
            return x
        keep = np.random.uniform(size=x.shape[:2] + (1, 1)) >= self.p
        self.mask = keep / (1 - self.p)
        return x * self.mask

    def backward(self, dout):
        return dout if self.mask is None else dout * self.mask


class GaussianNoise:
    """multiplicative noise N(1, sigma^2) with learnable log sigma for each unit"""

    def __init__(self, n, rng=None):
        self.log_sigma = np.full(n, -1.0)
        self.rng = rng if rng is not None else np.random.default_rng()

    def forward(self, x):
        self.x = x
        self.e = self.rng.standard_normal(x.shape)
        return x * (1 + np.exp(self.log_sigma) * self.e)

    def backward(self, dout):
        s = np.exp(self.log_sigma)
        self.dlog_sigma = (dout * self.x * self.e * s).sum(axis=0)
        return dout * (1 + s * self.e)


class DropConnect:
    def __init__(self, n_in, n_out, p=0.5):
        self.W = np.random.randn(n_in, n_out) / np.sqrt(n_in)
        self.p = p

    def forward(self, x):
        self.x = x
        self.mask = np.random.binomial(1, 1 - self.p, self.W.shape)
        return x @ (self.W * self.mask)

    def backward(self, dout):
        self.dW = self.x.T @ dout
        return dout @ (self.W * self.mask).T


def stochastic_depth_forward(x, branch, p_survive):
    alive = np.random.rand() < p_survive
    out = x + branch * alive / p_survive
    return out, (alive, p_survive)


def stochastic_depth_backward(dout, cache):
    alive, p_survive = cache
    return dout, dout * alive / p_survive
