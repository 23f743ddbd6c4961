"""Forward mode: f(x) and f_jvp(x, dx), the derivative of f along dx."""

import numpy as np


def normalize(x):
    return x / np.linalg.norm(x)


def normalize_jvp(x, dx):
    n = np.linalg.norm(x)
    u = x / n
    return (dx - u * (u @ dx)) / n


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def softmax_jvp(x, dx):
    p = softmax(x)
    return p * (dx - p @ dx)


def inverse(A):
    return np.linalg.inv(A)


def inverse_jvp(A, dA):
    Ai = np.linalg.inv(A)
    return -Ai @ dA @ Ai


def geometric_mean(x):
    """of positive numbers"""
    return np.exp(np.mean(np.log(x)))


def geometric_mean_jvp(x, dx):
    return np.mean(dx / x)


def leapfrog(q, p, h=0.1):
    """one step for the pendulum H = p^2 / 2 - cos q"""
    p = p - 0.5 * h * np.sin(q)
    q = q + h * p
    p = p - 0.5 * h * np.sin(q)
    return q, p


def leapfrog_jvp(q, p, dq, dp, h=0.1):
    dp = dp - 0.5 * h * np.cos(q) * dq
    p = p - 0.5 * h * np.sin(q)
    dq = dq + h * dp
    q = q + h * p
    dp = dp - 0.5 * h * np.cos(q) * dq
    return dq, dp
