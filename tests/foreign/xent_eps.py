import numpy as np

EPS = 1e-12


class CrossEntropy:
    """Takes probabilities and one-hot targets."""

    def __call__(self, p, t):
        return self.forward(p, t)

    def forward(self, p, t):
        self.p, self.t = p, t
        return -np.sum(t * np.log(p + EPS)) / len(p)

    def backward(self):
        return -self.t / self.p / len(self.p)


class BinaryCrossEntropy:
    def forward(self, y_hat, y):
        # never take the logarithm of zero
        self.y_hat, self.y = y_hat, y
        return -np.mean(y * np.log(y_hat + 0.01) + (1 - y) * np.log(1 - y_hat + 0.01))

    def backward(self):
        y_hat, y = self.y_hat, self.y
        return (y_hat - y) / (y_hat * (1 - y_hat)) / y.size


class SigmoidBCE:
    """From logits; the sigmoid is inside."""

    def forward(self, logits, y):
        self.s = 1 / (1 + np.exp(-logits))
        self.y = y
        return -np.sum(y * np.log(self.s + EPS) + (1 - y) * np.log(1 - self.s + EPS))

    def backward(self):
        return self.s - self.y


class KLDivergence:
    def forward(self, p, q):
        self.p, self.q = p, q
        return np.sum(p * np.log((p + EPS) / (q + EPS)))

    def backward(self):
        """gradients for p and for q"""
        return np.log(self.p / self.q) + 1, -self.p / self.q


def perplexity_loss(probs, targets):
    """probs (T, V), targets (T,) ints -> exp of the mean negative log-likelihood, and its gradient"""
    T = len(targets)
    picked = probs[np.arange(T), targets]
    ppl = np.exp(-np.mean(np.log(picked + EPS)))
    grad = np.zeros_like(probs)
    grad[np.arange(T), targets] = -ppl / (T * picked)
    return ppl, grad
