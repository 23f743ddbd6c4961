"""
My normalization layers (homework 2).  TODO clean up
"""

import numpy as np


def batchnorm_forward(x, gamma, beta, bn_param):
    mode = bn_param["mode"]
    eps = bn_param.get("eps", 1e-5)
    momentum = bn_param.get("momentum", 0.9)
    N, D = x.shape
    running_mean = bn_param.get("running_mean", np.zeros(D))
    running_var = bn_param.get("running_var", np.zeros(D))

    if mode == "train":
        # step 1: mean
        mu = 1.0 / N * np.sum(x, axis=0)
        # step 2: subtract it
        xmu = x - mu
        # step 3: squares
        sq = xmu**2
        # step 4: variance
        var = 1.0 / N * np.sum(sq, axis=0)
        # step 5: square root
        sqrtvar = np.sqrt(var + eps)
        # step 6: invert
        ivar = 1.0 / sqrtvar
        # step 7: normalize
        xhat = xmu * ivar
        # step 8: scale and shift
        out = gamma * xhat + beta

        cache = (xhat, gamma, xmu, ivar, sqrtvar, var, eps)
        bn_param["running_mean"] = momentum * running_mean + (1 - momentum) * mu
        bn_param["running_var"] = momentum * running_var + (1 - momentum) * var
    else:
        xhat = (x - running_mean) / np.sqrt(running_var + eps)
        out = gamma * xhat + beta
        cache = None

    return out, cache


def batchnorm_backward(dout, cache):
    xhat, gamma, xmu, ivar, sqrtvar, var, eps = cache
    N, D = dout.shape

    # step 8
    dbeta = np.sum(dout, axis=0)
    dgamma = np.sum(dout * xhat, axis=0)
    dxhat = dout * gamma
    # step 7
    divar = np.sum(dxhat * xmu, axis=0)
    dxmu1 = dxhat * ivar
    # step 6
    dsqrtvar = -1.0 / (sqrtvar**2) * divar
    # step 5
    dvar = 0.5 * 1.0 / np.sqrt(var + eps) * dsqrtvar
    # step 4
    dsq = 1.0 / N * np.ones((N, D)) * dvar
    # step 3
    dxmu2 = 2 * xmu * dsq
    # step 2
    dx = dxmu1 + dxmu2
    return dx, dgamma, dbeta


def groupnorm_forward(x, gamma, beta, G, gn_param):
    # x (N, C, H, W), gamma/beta (1, C, 1, 1), G groups
    eps = gn_param.get("eps", 1e-5)
    N, C, H, W = x.shape
    xg = x.reshape(N * G, -1)
    mu = xg.mean(axis=1, keepdims=True)
    sigma = np.sqrt(xg.var(axis=1, keepdims=True) + eps)
    norm = ((xg - mu) / sigma).reshape(N, C, H, W)
    out = norm * gamma + beta
    cache = (norm, sigma, gamma, G)
    return out, cache


def groupnorm_backward(dout, cache):
    norm, sigma, gamma, G = cache
    N, C, H, W = dout.shape
    dbeta = dout.sum(axis=(0, 2, 3), keepdims=True)
    dgamma = (dout * norm).sum(axis=(0, 2, 3), keepdims=True)

    dn = (dout * gamma).reshape(N * G, -1)
    n = norm.reshape(N * G, -1)
    dx = (dn - dn.mean(axis=1, keepdims=True) - n * (dn * n).mean(axis=1, keepdims=True)) / sigma
    return dx.reshape(N, C, H, W), dgamma, dbeta
