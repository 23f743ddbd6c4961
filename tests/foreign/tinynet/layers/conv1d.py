import numpy as np

from ..base import Layer, Parameter


class Conv1d(Layer):
    """(batch, length, in_channels) -> (batch, length - kernel + 1, out_channels)"""

    def __init__(self, in_channels, out_channels, kernel):
        self.k = kernel
        self.W = Parameter(0.3 * np.random.randn(kernel, in_channels, out_channels))
        self.B = Parameter(np.zeros(out_channels))

    def forward(self, X):
        self._X = X
        n = X.shape[1] - self.k + 1
        out = np.zeros((X.shape[0], n, self.W.value.shape[2])) + self.B.value
        for i in range(self.k):
            out += X[:, i:i + n] @ self.W.value[i]
        return out

    def backward(self, d_out):
        n = d_out.shape[1]
        d_X = np.zeros_like(self._X)
        for i in range(self.k):
            self.W.grad[i] += np.einsum('bnc,bno->co', self._X[:, i:i + n], d_out)
            d_X[:, i:i + n] += d_out @ self.W.value[i].T
        self.B.grad += d_out.sum(axis=0).mean(axis=0)
        return d_X
