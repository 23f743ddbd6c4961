import numpy as np


class SquareDense:
    """A dense layer that keeps the number of units."""

    def __init__(self, n):
        self.params = {"W": np.random.randn(n, n) * np.sqrt(1 / n), "b": np.zeros(n)}
        self.grads = {}

    def forward(self, x):
        self.x = x
        return x @ self.params["W"] + self.params["b"]

    def backward(self, dout):
        self.grads["W"] = dout.T @ self.x
        self.grads["b"] = dout.sum(0)
        return dout @ self.params["W"].T


class Orthogonalish:
    """y = x W with the penalty |W^T W - I|^2"""

    def __init__(self, n):
        self.W = np.eye(n) + 0.1 * np.random.randn(n, n)

    def penalty(self):
        E = self.W.T @ self.W - np.eye(len(self.W))
        return np.sum(E**2)

    def penalty_grad(self):
        E = self.W.T @ self.W - np.eye(len(self.W))
        return 4 * self.W @ E


class ElmanCell:
    def __init__(self, n):
        self.U = np.random.randn(n, n) / n**0.5
        self.W = np.random.randn(n, n) / n**0.5

    def forward(self, x, h):
        self.x, self.h = x, h
        self.out = np.tanh(x @ self.U + h @ self.W)
        return self.out

    def backward(self, dout):
        da = dout * (1 - self.out**2)
        self.dU = self.x.T @ da
        self.dW = self.h.T @ da
        return da @ self.U.T, da @ self.W


def self_similarity(X):
    return X @ X.T


def self_similarity_grad(X, dS):
    return (dS + dS.T) @ X
