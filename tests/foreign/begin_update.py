"""Models with ``begin_update``: it returns the output and a ``finish_update`` that takes the gradient."""

import numpy as np


class Affine:
    def __init__(self, nO, nI):
        self.W = np.random.uniform(-0.1, 0.1, (nO, nI))
        self.b = np.zeros(nO)
        self.d_W = np.zeros_like(self.W)
        self.d_b = np.zeros_like(self.b)

    def predict(self, X):
        return X @ self.W.T + self.b

    def begin_update(self, X):
        Y = self.predict(X)

        def finish_update(dY):
            self.d_W = dY.T @ X
            self.d_b = dY.sum(axis=0)
            return dY @ self.W

        return Y, finish_update


class ParametricAttention:
    """Weighted sum over rows, with weights from a learned query vector."""

    def __init__(self, n):
        self.Q = 0.5 * np.random.randn(n)
        self.d_Q = np.zeros(n)

    def begin_update(self, X):
        s = X @ self.Q
        a = np.exp(s - s.max())
        a = a / a.sum()
        Y = a @ X

        def finish_update(dY):
            da = X @ dY
            ds = a * (da - a @ da)
            self.d_Q = X.T @ ds
            return np.outer(a, dY) + np.outer(ds, self.Q)

        return Y, finish_update


def mean_pool(X):
    Y = X.mean(axis=0)

    def finish_update(dY):
        return np.tile(dY, (len(X), 1))

    return Y, finish_update


def max_pool(X):
    which = X.argmax(axis=0)

    def finish_update(dY):
        dX = np.zeros_like(X)
        dX[which, np.arange(X.shape[1])] = dY
        return dX

    return X.max(axis=0), finish_update


def expand_window(X, nW=1):
    """each row gets its neighbours: (N, D) -> (N, (2 nW + 1) D), zeros outside"""
    N, D = X.shape
    P = np.pad(X, ((nW, nW), (0, 0)))
    Y = np.concatenate([P[k : k + N] for k in range(2 * nW + 1)], axis=1)

    def finish_update(dY):
        dP = np.zeros_like(P)
        for k in range(2 * nW + 1):
            dP[k : k + N] += dY[:, k * D : (k + 1) * D]
        return dP[nW : nW + N]

    return Y, finish_update


def concatenate(*layers):
    def begin_update(X):
        Ys, callbacks = zip(*[layer(X) for layer in layers])
        widths = [Y.shape[-1] for Y in Ys]

        def finish_update(dY):
            start, dX = 0, 0
            for width, callback in zip(widths, callbacks):
                dX = dX + callback(dY[..., start : start + width])
                start += width
            return dX

        return np.concatenate(Ys, axis=-1), finish_update

    return begin_update
