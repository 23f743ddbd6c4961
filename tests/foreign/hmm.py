import numpy as np
from scipy.special import logsumexp, log_softmax


class GaussianHMM:
    """
    HMM with one-dimensional Gaussian emissions, trained by gradient ascent on
    unconstrained parameters:
      pi_logits (K,), A_logits (K, K), mu (K,), log_sigma (K,)
    """

    def __init__(self, K, seed=None):
        rng = np.random.RandomState(seed)
        self.params = dict(
            pi_logits=rng.randn(K),
            A_logits=rng.randn(K, K),
            mu=rng.randn(K),
            log_sigma=0.1 * rng.randn(K),
        )

    def _log_emission(self, x):
        mu, ls = self.params["mu"], self.params["log_sigma"]
        return -0.5 * ((x[:, None] - mu) / np.exp(ls)) ** 2 - ls - 0.5 * np.log(2 * np.pi)

    def _forward_backward(self, x):
        log_pi = log_softmax(self.params["pi_logits"])
        log_A = log_softmax(self.params["A_logits"], axis=1)
        log_B = self._log_emission(x)
        T, K = log_B.shape
        la = np.zeros((T, K))
        lb = np.zeros((T, K))
        la[0] = log_pi + log_B[0]
        for t in range(1, T):
            la[t] = log_B[t] + logsumexp(la[t - 1][:, None] + log_A, axis=0)
        for t in range(T - 2, -1, -1):
            lb[t] = logsumexp(log_A + log_B[t + 1] + lb[t + 1], axis=1)
        return log_pi, log_A, log_B, la, lb

    def log_likelihood(self, x):
        return logsumexp(self._forward_backward(x)[3][-1])

    def gradient(self, x):
        log_pi, log_A, log_B, la, lb = self._forward_backward(x)
        ll = logsumexp(la[-1])
        gamma = np.exp(la + lb - ll)
        xi = np.exp(la[:-1, :, None] + log_A + (log_B[1:] + lb[1:])[:, None, :] - ll).sum(axis=0)

        sigma = np.exp(self.params["log_sigma"])
        z = (x[:, None] - self.params["mu"]) / sigma
        return dict(
            pi_logits=gamma[0] - np.exp(log_pi),
            A_logits=xi - xi.sum(axis=1, keepdims=True) * np.exp(log_A),
            mu=(gamma * z / sigma).sum(axis=0),
            log_sigma=(gamma * (z**2 - 1)).sum(axis=0),
        )


def discrete_hmm_loglik(log_pi, log_A, log_B, obs):
    """obs: int array; log_B: (K, symbols). Parameters need not be normalized."""
    a = log_pi + log_B[:, obs[0]]
    for o in obs[1:]:
        a = log_B[:, o] + logsumexp(a[:, None] + log_A, axis=0)
    return logsumexp(a)


def discrete_hmm_loglik_grad(log_pi, log_A, log_B, obs):
    T, K = len(obs), len(log_pi)
    la, lb = np.zeros((T, K)), np.zeros((T, K))
    la[0] = log_pi + log_B[:, obs[0]]
    for t in range(1, T):
        la[t] = log_B[:, obs[t]] + logsumexp(la[t - 1][:, None] + log_A, axis=0)
    for t in range(T - 2, -1, -1):
        lb[t] = logsumexp(log_A + log_B[:, obs[t + 1]] + lb[t + 1], axis=1)
    ll = logsumexp(la[-1])
    gamma = np.exp(la + lb - ll)
    g_pi = gamma[0]
    g_A = np.zeros((K, K))
    for t in range(T - 1):
        g_A += np.exp(la[t][:, None] + log_A + log_B[:, obs[t + 1]] + lb[t + 1] - ll)
    g_B = np.zeros_like(log_B)
    g_B[:, obs] += gamma.T
    return g_pi, g_A, g_B
