import numpy as np


class Sampler:
    """z = mu + exp(logvar / 2) * eps"""

    def forward(self, mu, logvar):
        self.sigma = np.exp(0.5 * logvar)
        self.eps = np.random.randn(*mu.shape)
        return mu + self.sigma * self.eps

    def backward(self, dz):
        return dz, 0.5 * dz * self.sigma * self.eps


class FreshSampler:
    def forward(self, mu, logvar):
        self.sigma = np.exp(0.5 * logvar)
        return mu + self.sigma * np.random.randn(*mu.shape)

    def backward(self, dz):
        eps = np.random.randn(*dz.shape)
        return dz, 0.5 * dz * self.sigma * eps


class TinyVAE:
    """Linear encoder and decoder, unit-variance Gaussian likelihood."""

    def __init__(self, x_dim, z_dim, beta=1.0):
        self.params = {
            "Wmu": np.random.randn(x_dim, z_dim) / np.sqrt(x_dim),
            "Wlv": np.random.randn(x_dim, z_dim) / np.sqrt(x_dim),
            "Wd": np.random.randn(z_dim, x_dim) / np.sqrt(z_dim),
            "bd": np.zeros(x_dim),
        }
        self.beta = beta
        self.sampler = Sampler()

    def encode(self, x):
        self.x = x
        self.mu = x @ self.params["Wmu"]
        self.logvar = x @ self.params["Wlv"]
        return self.mu, self.logvar

    def decode(self, z):
        self.z = z
        self.xr = z @ self.params["Wd"] + self.params["bd"]
        return self.xr

    def forward(self, x):
        """returns the loss"""
        mu, logvar = self.encode(x)
        xr = self.decode(self.sampler.forward(mu, logvar))
        self.rec = 0.5 * np.sum((xr - x) ** 2) / len(x)
        self.kl = 0.5 * np.sum(np.exp(logvar) + mu**2 - 1 - logvar) / len(x)
        return self.rec + self.beta * self.kl

    def backward(self):
        n = len(self.x)
        dxr = (self.xr - self.x) / n
        dmu, dlv = self.sampler.backward(dxr @ self.params["Wd"].T)
        dmu = dmu + self.beta * self.mu / n
        dlv = dlv + self.beta * 0.5 * (np.exp(self.logvar) - 1) / n
        return {
            "Wmu": self.x.T @ dmu,
            "Wlv": self.x.T @ dlv,
            "Wd": self.z.T @ dxr,
            "bd": dxr.sum(axis=0),
        }


class BetaVAE(TinyVAE):
    def backward(self):
        n = len(self.x)
        dxr = (self.xr - self.x) / n
        dmu, dlv = self.sampler.backward(dxr @ self.params["Wd"].T)
        dmu = dmu - self.beta * self.mu / n
        dlv = dlv + self.beta * 0.5 * (np.exp(self.logvar) - 1) / n
        return {"Wmu": self.x.T @ dmu, "Wlv": self.x.T @ dlv, "Wd": self.z.T @ dxr, "bd": dxr.sum(axis=0)}


def importance_bound(log_w):
    """log mean exp over the samples (axis 0), summed; and its gradient"""
    m = log_w.max(axis=0)
    w = np.exp(log_w - m)
    bound = np.sum(m + np.log(w.mean(axis=0)))
    return bound, w / w.sum(axis=0)


def bernoulli_logpmf(x, logits):
    return np.sum(x * logits - np.logaddexp(0, logits))


def bernoulli_logpmf_grad(x, logits):
    return x - 1 / (1 + np.exp(-logits))


def kl_two_gaussians(m1, s1, m2, s2):
    """KL(N(m1, s1^2) || N(m2, s2^2)), summed; returns kl and the gradients for all four"""
    d = m1 - m2
    kl = np.sum(np.log(s2 / s1) + (s1**2 + d**2) / (2 * s2**2) - 0.5)
    return kl, d / s2**2, s1 / s2**2 - 1 / s1, -d / s2**2, 1 / s2 - (s1**2 + d**2) / s2**3
