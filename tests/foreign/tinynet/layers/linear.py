import numpy as np

from ..base import Layer, Parameter


class Linear(Layer):
    def __init__(self, n_input, n_output):
        self.W = Parameter(0.3 * np.random.randn(n_input, n_output))
        self.B = Parameter(0.3 * np.random.randn(1, n_output))

    def forward(self, X):
        self._X = X
        return X @ self.W.value + self.B.value

    def backward(self, d_out):
        self.W.grad += self._X.T @ d_out
        self.B.grad += d_out.sum(axis=0, keepdims=True)
        return d_out @ self.W.value.T


class Tanh(Layer):
    def forward(self, X):
        self._Y = np.tanh(X)
        return self._Y

    def backward(self, d_out):
        return d_out * (1 - self._Y ** 2)


class Sequential(Layer):
    def __init__(self, *layers):
        self.layers = list(layers)

    def params(self):
        return [p for layer in self.layers for p in layer.params()]

    def forward(self, X):
        for layer in self.layers:
            X = layer(X)
        return X

    def backward(self, d_out):
        for layer in reversed(self.layers):
            d_out = layer.backward(d_out)
        return d_out
