import numpy as np


class Linear:
    """y = x W + b"""

    def __init__(self, in_features, out_features):
        k = 1.0 / np.sqrt(in_features)
        self.W = np.random.uniform(-k, k, (in_features, out_features))
        self.b = np.zeros(out_features)
        self.dW = np.zeros_like(self.W)
        self.db = np.zeros_like(self.b)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dout):
        self.dW += self.x.T @ dout
        self.db += dout.sum(axis=0)
        return dout @ self.W.T


class Scale:
    """Learnable gain for each feature."""

    def __init__(self, n):
        self.gain = np.ones(n)
        self.dgain = np.zeros(n)

    def forward(self, x):
        self.x = x
        return x * self.gain

    def zero_grad(self):
        self.dgain[:] = 0

    def backward(self, dout):
        # summed until zero_grad() is called
        self.dgain += (dout * self.x).sum(axis=0)
        return dout * self.gain


class Bias:
    def __init__(self, n):
        self.b = np.zeros(n)

    def forward(self, x):
        return x + self.b

    def backward(self, dout):
        self.db = dout.sum(axis=0)
        return dout


class PReLU:
    def __init__(self, alpha=0.25):
        self.params = {"alpha": np.array([alpha])}
        self.grads = {"alpha": np.zeros(1)}

    def forward(self, x):
        self.x = x
        return np.where(x > 0, x, self.params["alpha"] * x)

    def backward(self, dout):
        neg = self.x <= 0
        self.grads["alpha"] += np.sum(dout * self.x * neg)
        return np.where(neg, self.params["alpha"] * dout, dout)
