import numpy as np


def clip_by_norm(g, max_norm):
    n = np.linalg.norm(g)
    return g * (max_norm / n) if n > max_norm else g


class Affine:
    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        # exploding gradients were a problem
        self.dW = np.clip(self.x.T @ dout, -100, 100)
        self.db = np.clip(dout.sum(axis=0), -100, 100)
        return dout @ self.W.T


class NormalizedAffine:
    """normalized gradient descent"""

    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        dW = self.x.T @ dout
        db = dout.sum(axis=0)
        self.dW = dW / (np.linalg.norm(dW) + 1e-8)
        self.db = db / (np.linalg.norm(db) + 1e-8)
        return dout @ self.W.T


def rnn_scan(x, h0, W, U):
    """x (T, D), h0 (H,) -> all states (T, H)"""
    hs = [h0]
    for xt in x:
        hs.append(np.tanh(xt @ W + hs[-1] @ U))
    return np.array(hs[1:]), (x, np.array(hs), W, U)


def rnn_scan_backward(dhs, cache, max_norm=0.1):
    x, hs, W, U = cache
    dx, dW, dU = np.zeros_like(x), np.zeros_like(W), np.zeros_like(U)
    carry = np.zeros_like(hs[0])
    for t in range(len(x) - 1, -1, -1):
        da = (dhs[t] + carry) * (1 - hs[t + 1] ** 2)
        dW += np.outer(x[t], da)
        dU += np.outer(hs[t], da)
        dx[t] = W @ da
        carry = clip_by_norm(U @ da, max_norm)
    return dx, carry, dW, dU


class HardTanh:
    def forward(self, x):
        self.x = x
        return np.clip(x, -1, 1)

    def backward(self, dout):
        return dout * (np.abs(self.x) < 1)
