import numpy as np


def layer_norm(x, gamma, beta, eps=1e-5):
    mean = x.mean(-1, keepdims=True)
    var = x.var(-1, keepdims=True)
    inv = 1.0 / np.sqrt(var + eps)
    xhat = (x - mean) * inv
    return xhat * gamma + beta, (xhat, inv, gamma)


def layer_norm_backward(dy, cache):
    xhat, inv, gamma = cache
    lead = tuple(range(dy.ndim - 1))
    dgamma = (dy * xhat).sum(lead)
    dbeta = dy.sum(lead)
    g = dy * gamma
    dx = inv * (g - g.mean(-1, keepdims=True) - xhat * (g * xhat).mean(-1, keepdims=True))
    return dx, dgamma, dbeta


def rms_norm(x, weight, eps=1e-6):
    r = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    return x * r * weight


def rms_norm_backward(dy, x, weight, eps=1e-6):
    r = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    g = dy * weight
    dx = r * g - x * r**3 * (g * x).mean(-1, keepdims=True)
    dweight = (dy * x * r).reshape(-1, x.shape[-1]).sum(0)
    return dx, dweight


def l2_normalize(x, eps=1e-2):
    n = np.sqrt((x**2).sum(-1, keepdims=True) + eps)
    return x / n


def l2_normalize_backward(dy, x, eps=1e-12):
    n = np.sqrt((x**2).sum(-1, keepdims=True) + eps)
    y = x / n
    return (dy - y * (dy * y).sum(-1, keepdims=True)) / n


def instance_norm(x, eps=1e-5):
    # x: (N, C, H, W)
    mu = x.mean((2, 3), keepdims=True)
    s = np.sqrt(x.var((2, 3), keepdims=True) + eps)
    return (x - mu) / s, (x, mu, s)


def instance_norm_backward(dy, cache):
    x, mu, s = cache
    M = x.shape[2] * x.shape[3]
    dvar = (dy * (x - mu)).sum((2, 3), keepdims=True) * -0.5 * s**-3
    dmu = -(dy / s).sum((2, 3), keepdims=True)
    return dy / s + dvar * 2 * (x - mu) / M + dmu / M


def weight_norm(v, g):
    """w = g * v / ||v||, one norm for each row"""
    return g[:, None] * v / np.linalg.norm(v, axis=1, keepdims=True)


def weight_norm_backward(dw, v, g):
    nv = np.linalg.norm(v, axis=1, keepdims=True)
    dg = (dw * v / nv).sum(1)
    dv = g[:, None] / nv * dw
    return dv, dg
