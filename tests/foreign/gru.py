import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class GRUCell:
    """
    z = sigmoid(x Wz + h Uz + bz)        update gate
    r = sigmoid(x Wr + h Ur + br)        reset gate
    c = tanh(x Wc + (r * h) Uc + bc)     candidate
    h' = (1 - z) * h + z * c
    """

    def __init__(self, n_in, n_hidden, seed=None):
        rng = np.random.RandomState(seed)
        self.p = {}
        for g in "zrc":
            self.p["W" + g] = rng.randn(n_in, n_hidden) / np.sqrt(n_in)
            self.p["U" + g] = rng.randn(n_hidden, n_hidden) / np.sqrt(n_hidden)
            self.p["b" + g] = np.zeros(n_hidden)
        self.g = {}

    def forward(self, x, h):
        p = self.p
        z = sigmoid(x @ p["Wz"] + h @ p["Uz"] + p["bz"])
        r = sigmoid(x @ p["Wr"] + h @ p["Ur"] + p["br"])
        c = np.tanh(x @ p["Wc"] + (r * h) @ p["Uc"] + p["bc"])
        self.memo = (x, h, z, r, c)
        return (1 - z) * h + z * c

    def backward(self, dh):
        x, h, z, r, c = self.memo
        p, g = self.p, self.g
        dac = dh * z * (1 - c**2)
        daz = dh * (c - h) * z * (1 - z)
        drh = dac @ p["Uc"].T
        dar = drh * h * r * (1 - r)
        for k, d, inp in (("z", daz, h), ("r", dar, h), ("c", dac, r * h)):
            g["W" + k] = x.T @ d
            g["U" + k] = inp.T @ d
            g["b" + k] = d.sum(0)
        dx = daz @ p["Wz"].T + dar @ p["Wr"].T + dac @ p["Wc"].T
        dh_prev = dh * (1 - z) + daz @ p["Uz"].T + dar @ p["Ur"].T + drh * r
        return dx, dh_prev


def minimal_gated_forward(x, h, Wf, Uf, Wc, Uc):
    f = sigmoid(x @ Wf + h @ Uf)
    c = np.tanh(x @ Wc + (f * h) @ Uc)
    out = (1 - f) * h + f * c
    return out, (x, h, Wf, Uf, Wc, Uc, f, c)


def minimal_gated_backward(dout, cache):
    x, h, Wf, Uf, Wc, Uc, f, c = cache
    dc = dout * f * (1 - c**2)
    dfh = dc @ Uc.T
    df = (dout * (c - h) + dfh * h) * f * (1 - f)
    dx = df @ Wf.T + dc @ Wc.T
    dh = dout * (1 - f) + dfh * f + df @ Uf.T
    return dx, dh, x.T @ df, h.T @ df, x.T @ dc, (f * h).T @ dc


class GRU2:
    """All gates in one matrix; order z, r, candidate"""

    def __init__(self, D, H):
        self.H = H
        self.W = np.random.randn(D, 3 * H) / np.sqrt(D)
        self.U = np.random.randn(H, 3 * H) / np.sqrt(H)
        self.b = np.zeros(3 * H)

    def step(self, x, h):
        H = self.H
        xw = x @ self.W + self.b
        hu = h @ self.U
        z = sigmoid(xw[:, :H] + hu[:, :H])
        r = sigmoid(xw[:, H : 2 * H] + hu[:, H : 2 * H])
        c = np.tanh(xw[:, 2 * H :] + r * hu[:, 2 * H :])
        self.saved = x, h, z, r, c, hu[:, 2 * H :]
        return z * h + (1 - z) * c

    def step_backward(self, dh):
        x, h, z, r, c, huc = self.saved
        dc = dh * (1 - z) * (1 - c**2)
        dz = dh * (h - c) * z * (1 - z)
        dr = dc * huc * r * (1 - r)
        dxw = np.hstack([dr, dz, dc])
        dhu = np.hstack([dr, dz, dc * r])
        self.dW, self.dU, self.db = x.T @ dxw, h.T @ dhu, dxw.sum(0)
        return dxw @ self.W.T, dhu @ self.U.T + dh * z
