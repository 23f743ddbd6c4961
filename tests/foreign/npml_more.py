"""More layers in the same interface as npml_layers."""

from npml_layers import LayerBase

import numpy as np


class BatchNorm1D(LayerBase):
    def __init__(self, momentum=0.9, epsilon=1e-5, optimizer=None):
        super().__init__(optimizer)
        self.n_in = None
        self.epsilon = epsilon
        self.momentum = momentum
        self.is_initialized = False

    def _init_params(self):
        self.parameters = {
            "scaler": np.random.rand(self.n_in) + 0.5,
            "intercept": np.zeros(self.n_in),
            "running_var": np.ones(self.n_in),
            "running_mean": np.zeros(self.n_in),
        }
        self.gradients = {"scaler": np.zeros(self.n_in), "intercept": np.zeros(self.n_in)}
        self.is_initialized = True

    def forward(self, X, retain_derived=True):
        if not self.is_initialized:
            self.n_in = X.shape[1]
            self._init_params()
        P = self.parameters
        X_mean, X_var = X.mean(axis=0), X.var(axis=0)
        if self.trainable and retain_derived:
            self.X.append(X)
            P["running_mean"] = self.momentum * P["running_mean"] + (1 - self.momentum) * X_mean
            P["running_var"] = self.momentum * P["running_var"] + (1 - self.momentum) * X_var
        N = (X - X_mean) / np.sqrt(X_var + self.epsilon)
        return P["scaler"] * N + P["intercept"]

    def backward(self, dLdy, retain_grads=True):
        if not isinstance(dLdy, list):
            dLdy = [dLdy]
        dX = []
        for dy, x in zip(dLdy, self.X):
            dx, dScaler, dIntercept = self._bwd(dy, x)
            dX.append(dx)
            if retain_grads:
                self.gradients["scaler"] += dScaler
                self.gradients["intercept"] += dIntercept
        return dX[0] if len(self.X) == 1 else dX

    def _bwd(self, dLdy, X):
        scaler = self.parameters["scaler"]
        n_ex = X.shape[0]
        X_mean, X_var = X.mean(axis=0), X.var(axis=0)
        s = np.sqrt(X_var + self.epsilon)
        N = (X - X_mean) / s
        dIntercept = dLdy.sum(axis=0)
        dScaler = np.sum(dLdy * N, axis=0)
        dN = dLdy * scaler
        dX = (n_ex * dN - dN.sum(axis=0) - N * (dN * N).sum(axis=0)) / (n_ex * s)
        return dX, dScaler, dIntercept


class Embedding(LayerBase):
    def __init__(self, n_out, vocab_size, pool=None, optimizer=None):
        """pool: None, 'sum' or 'mean' over the words of each row"""
        super().__init__(optimizer)
        self.n_out = n_out
        self.vocab_size = vocab_size
        self.pool = pool
        self._init_params()

    def _init_params(self):
        W = np.random.randn(self.vocab_size, self.n_out)
        self.parameters = {"W": W}
        self.gradients = {"W": np.zeros_like(W)}

    def forward(self, X, retain_derived=True):
        Y = self.parameters["W"][X]
        if self.pool == "sum":
            Y = Y.sum(axis=1)
        elif self.pool == "mean":
            Y = Y.mean(axis=1)
        if retain_derived:
            self.X.append(X)
        return Y

    def backward(self, dLdy, retain_grads=True):
        if not isinstance(dLdy, list):
            dLdy = [dLdy]
        for dy, x in zip(dLdy, self.X):
            dW = np.zeros_like(self.parameters["W"])
            if self.pool == "mean":
                dy = np.repeat(dy[:, None, :] / x.shape[1], x.shape[1], axis=1)
            elif self.pool == "sum":
                dy = np.repeat(dy[:, None, :], x.shape[1], axis=1)
            np.add.at(dW, x, dy)
            if retain_grads:
                self.gradients["W"] += dW


class DotProductAttention(LayerBase):
    def __init__(self, scale=True, optimizer=None):
        super().__init__(optimizer)
        self.scale = scale
        self._init_params()

    def _init_params(self):
        self.parameters, self.gradients = {}, {}

    def _weights(self, Q, K):
        s = 1 / np.sqrt(Q.shape[-1]) if self.scale else 1
        scores = Q @ K.swapaxes(-1, -2) * s
        e = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True), s

    def forward(self, Q, K, V, retain_derived=True):
        weights, _ = self._weights(Q, K)
        if retain_derived:
            self.X.append((Q, K, V))
        return weights @ V

    def backward(self, dLdy, retain_grads=True):
        Q, K, V = self.X[-1]
        weights, s = self._weights(Q, K)
        dV = weights.swapaxes(-1, -2) @ dLdy
        dW = dLdy @ V.swapaxes(-1, -2)
        dS = s * weights * (dW - dW.sum(axis=-1, keepdims=True))
        return dS @ K, dS.swapaxes(-1, -2) @ Q, dV
