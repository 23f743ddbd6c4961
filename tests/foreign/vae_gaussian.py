import numpy as np


class GaussianVAE:
    """One-hidden-layer VAE with a Gaussian decoder of unit variance."""

    def __init__(self, D, H, Z, rng=np.random):
        self.p = {
            "W1": rng.randn(D, H) * 0.1,
            "b1": np.zeros(H),
            "Wm": rng.randn(H, Z) * 0.1,
            "bm": np.zeros(Z),
            "Wv": rng.randn(H, Z) * 0.1,
            "bv": np.zeros(Z),
            "W2": rng.randn(Z, H) * 0.1,
            "b2": np.zeros(H),
            "W3": rng.randn(H, D) * 0.1,
            "b3": np.zeros(D),
        }
        self.Z = Z

    def loss_and_grads(self, x, eps=None):
        p = self.p
        N = len(x)
        if eps is None:
            eps = np.random.randn(N, self.Z)

        # forward
        h1 = np.tanh(x @ p["W1"] + p["b1"])
        mu = h1 @ p["Wm"] + p["bm"]
        logvar = h1 @ p["Wv"] + p["bv"]
        sigma = np.exp(0.5 * logvar)
        z = mu + sigma * eps
        h2 = np.tanh(z @ p["W2"] + p["b2"])
        xr = h2 @ p["W3"] + p["b3"]

        rec = 0.5 * np.sum((xr - x) ** 2)
        kl = 0.5 * np.sum(mu**2 + sigma**2 - logvar - 1)
        loss = (rec + kl) / N

        # backward
        g = {}
        dxr = (xr - x) / N
        g["W3"] = h2.T @ dxr
        g["b3"] = dxr.sum(0)
        da2 = (dxr @ p["W3"].T) * (1 - h2**2)
        g["W2"] = z.T @ da2
        g["b2"] = da2.sum(0)
        dz = da2 @ p["W2"].T

        dmu = dz + mu / N
        dlogvar = dz * eps * sigma + 0.5 * (sigma**2 - 1) / N

        g["Wm"] = h1.T @ dmu
        g["bm"] = dmu.sum(0)
        g["Wv"] = h1.T @ dlogvar
        g["bv"] = dlogvar.sum(0)
        da1 = (dmu @ p["Wm"].T + dlogvar @ p["Wv"].T) * (1 - h1**2)
        g["W1"] = x.T @ da1
        g["b1"] = da1.sum(0)
        return loss, g


def reparameterize(mu, logvar, eps):
    return mu + np.exp(0.5 * logvar) * eps


def reparameterize_backward(dz, mu, logvar, eps):
    dmu = dz
    dlogvar = 0.5 * dz * eps * np.exp(0.5 * logvar)
    return dmu, dlogvar


def gaussian_nll(x, mean, logvar):
    return 0.5 * np.sum(np.log(2 * np.pi) + logvar + (x - mean) ** 2 / np.exp(logvar))


def gaussian_nll_grad(x, mean, logvar):
    iv = np.exp(-logvar)
    dmean = (mean - x) * iv
    dlogvar = 0.5 * (1 - (x - mean) ** 2 * iv)
    return dmean, dlogvar
