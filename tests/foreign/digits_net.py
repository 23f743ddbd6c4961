import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def sigmoid_prime(z):
    """derivative of sigmoid at the weighted input z"""
    return z * (1 - z)


class DigitsNet:
    def __init__(self, n_in=64, n_hidden=30, n_out=10):
        self.w1 = np.random.normal(0, n_in**-0.5, (n_in, n_hidden))
        self.w2 = np.random.normal(0, n_hidden**-0.5, (n_hidden, n_out))

    def forward(self, x):
        self.x = x
        self.z1 = x @ self.w1
        self.a1 = sigmoid(self.z1)
        self.z2 = self.a1 @ self.w2
        self.a2 = sigmoid(self.z2)
        return self.a2

    def loss(self, x, y):
        return 0.5 * np.sum((self.forward(x) - y) ** 2)

    def gradients(self, x, y):
        """d loss / d w1, d loss / d w2"""
        out = self.forward(x)
        delta2 = (out - y) * sigmoid_prime(self.z2)
        delta1 = delta2 @ self.w2.T * sigmoid_prime(self.z1)
        return self.x.T @ delta1, self.a1.T @ delta2
