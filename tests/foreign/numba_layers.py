import numpy as np
from numba import njit


@njit(fastmath=False)
def conv1d_forward(x, w, b):
    N, L = x.shape
    F, K = w.shape
    out = np.empty((N, F, L - K + 1))
    for n in range(N):
        for f in range(F):
            for i in range(L - K + 1):
                acc = b[f]
                for k in range(K):
                    acc += w[f, k] * x[n, i + k]
                out[n, f, i] = acc
    return out


@njit
def conv1d_backward(dout, x, w, b):
    N, L = x.shape
    F, K = w.shape
    dx = np.zeros_like(x)
    dw = np.zeros_like(w)
    db = np.zeros_like(b)
    for n in range(N):
        for f in range(F):
            for i in range(L - K + 1):
                g = dout[n, f, i]
                db[f] += g
                for k in range(K):
                    dw[f, k] += g * x[n, i + k]
                    dx[n, i + k] += g * w[f, k]
    return dx, dw, db


@njit
def softplus_forward(x):
    out = np.empty_like(x)
    flat, o = x.ravel(), out.ravel()
    for i in range(flat.size):
        v = flat[i]
        o[i] = max(v, 0.0) + np.log1p(np.exp(-abs(v)))
    return out


@njit
def softplus_backward(dout, x):
    return dout / (1.0 + np.exp(-x))


@njit
def dtw_soft_forward(D, gamma):
    """soft-DTW value and the table of partial costs, D (n, m)"""
    n, m = D.shape
    R = np.full((n + 2, m + 2), np.inf)
    R[0, 0] = 0.0
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            a, b, c = -R[i - 1, j - 1] / gamma, -R[i - 1, j] / gamma, -R[i, j - 1] / gamma
            mx = max(max(a, b), c)
            soft = -gamma * (mx + np.log(np.exp(a - mx) + np.exp(b - mx) + np.exp(c - mx)))
            R[i, j] = D[i - 1, j - 1] + soft
    return R[n, m], R


@njit
def dtw_soft_backward(D, R, gamma):
    n, m = D.shape
    E = np.zeros((n + 2, m + 2))
    E[n, m] = 1.0
    for i in range(n, 0, -1):
        for j in range(m, 0, -1):
            if i == n and j == m:
                continue
            e = 0.0
            if i < n:
                e += E[i + 1, j] * np.exp((R[i + 1, j] - D[i, j - 1] - R[i, j]) / gamma)
            if j < m:
                e += E[i, j + 1] * np.exp((R[i, j + 1] - D[i - 1, j] - R[i, j]) / gamma)
            if i < n and j < m:
                e += E[i + 1, j + 1] * np.exp((R[i + 1, j + 1] - D[i, j] - R[i, j]) / gamma)
            E[i, j] = e
    return E[1 : n + 1, 1 : m + 1]


@njit
def cumprod_forward(x):
    out = np.empty_like(x)
    p = 1.0
    for i in range(x.size):
        p *= x[i]
        out[i] = p
    return out


@njit
def cumprod_backward(dout, x, out):
    # dx[i] = sum over j >= i of dout[j] * out[j] / x[i]
    dx = np.empty_like(x)
    s = 0.0
    for i in range(x.size - 1, -1, -1):
        dx[i] = s / x[i]
        s += dout[i] * out[i]
    return dx
