import math

import numpy as np
from numba import njit, prange


@njit
def softmax_xent(logits, labels):
    """mean loss and gradient"""
    n, c = logits.shape
    grad = np.empty_like(logits)
    loss = 0.0
    for i in range(n):
        m = logits[i].max()
        z = 0.0
        for j in range(c):
            z += math.exp(logits[i, j] - m)
        for j in range(c):
            grad[i, j] = math.exp(logits[i, j] - m) / z / n
        grad[i, labels[i]] -= 1.0 / n
        loss += math.log(z) + m - logits[i, labels[i]]
    return loss / n, grad


@njit(parallel=False)
def total_variation(img, eps):
    """smoothed isotropic total variation and its gradient"""
    h, w = img.shape
    g = np.zeros_like(img)
    tv = 0.0
    for i in prange(h - 1):
        for j in range(w - 1):
            a = img[i + 1, j] - img[i, j]
            b = img[i, j + 1] - img[i, j]
            d = math.sqrt(a * a + b * b + eps)
            tv += d
            g[i + 1, j] += a / d
            g[i, j + 1] += b / d
            g[i, j] -= (a + b) / d
    return tv, g


@njit
def coulomb(pos, q):
    """energy and gradient of point charges"""
    n = len(q)
    g = np.zeros_like(pos)
    e = 0.0
    for i in range(n):
        for j in range(i + 1, n):
            r2 = 0.0
            for k in range(3):
                r2 += (pos[i, k] - pos[j, k]) ** 2
            r = math.sqrt(r2)
            e += q[i] * q[j] / r
            for k in range(3):
                f = q[i] * q[j] * (pos[i, k] - pos[j, k]) / r2
                g[i, k] -= f
                g[j, k] += f
    return e, g


@njit
def lstsq_cost(w, X, y, lam):
    n, d = X.shape
    grad = lam * w
    cost = 0.0
    for i in range(d):
        cost += 0.5 * lam * w[i] * w[i]
    for i in range(n):
        r = -y[i]
        for k in range(d):
            r += X[i, k] * w[k]
        cost += 0.5 * r * r
        for k in range(d):
            grad[k] += r * X[i, k]
    return cost, grad
