import numpy as np


def log_add(*a):
    m = max(a)
    if m == -np.inf:
        return -np.inf
    return m + np.log(sum(np.exp(x - m) for x in a))


def ctc_loss(logits, labels, blank=0):
    """
    Connectionist temporal classification for one sequence.

    logits: (T, V) before the softmax; labels: list of ints without blanks
    Returns the negative log-likelihood and its gradient for the logits.
    """
    T, V = logits.shape
    z = logits - logits.max(axis=1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(axis=1, keepdims=True))

    ext = [blank]
    for l in labels:
        ext += [l, blank]
    S = len(ext)

    alpha = np.full((T, S), -np.inf)
    alpha[0, 0] = logp[0, blank]
    if S > 1:
        alpha[0, 1] = logp[0, ext[1]]
    for t in range(1, T):
        for s in range(S):
            terms = [alpha[t - 1, s]]
            if s > 0:
                terms.append(alpha[t - 1, s - 1])
            if s > 1 and ext[s] != blank and ext[s] != ext[s - 2]:
                terms.append(alpha[t - 1, s - 2])
            alpha[t, s] = log_add(*terms) + logp[t, ext[s]]

    beta = np.full((T, S), -np.inf)
    beta[-1, -1] = 0.0
    if S > 1:
        beta[-1, -2] = 0.0
    for t in range(T - 2, -1, -1):
        for s in range(S):
            terms = [beta[t + 1, s] + logp[t + 1, ext[s]]]
            if s + 1 < S:
                terms.append(beta[t + 1, s + 1] + logp[t + 1, ext[s + 1]])
            if s + 2 < S and ext[s + 2] != blank and ext[s + 2] != ext[s]:
                terms.append(beta[t + 1, s + 2] + logp[t + 1, ext[s + 2]])
            beta[t, s] = log_add(*terms)

    ll = log_add(alpha[-1, -1], alpha[-1, -2]) if S > 1 else alpha[-1, -1]
    grad = np.exp(logp)
    for t in range(T):
        for s in range(S):
            grad[t, ext[s]] -= np.exp(alpha[t, s] + beta[t, s] - ll)
    return -ll, grad
