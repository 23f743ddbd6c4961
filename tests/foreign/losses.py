import numpy as np


def mse_loss(pred, target):
    """
    Mean squared error over all elements.
    Returns (loss, gradient wrt pred).
    """
    diff = pred - target
    loss = np.mean(diff**2)
    grad = 2 * diff / pred.shape[0]
    return loss, grad


def l1_loss(pred, target):
    diff = pred - target
    return np.abs(diff).mean(), np.sign(diff) / diff.size


def huber_loss(pred, target, delta=1.0):
    r = pred - target
    small = np.abs(r) <= delta
    loss = np.where(small, 0.5 * r**2, delta * (np.abs(r) - 0.5 * delta)).sum()
    grad = np.where(small, r, delta * np.sign(r))
    return loss, grad


def bce_with_logits(logits, labels):
    """labels are 0 or 1, same shape as logits"""
    loss = np.maximum(logits, 0) - logits * labels + np.log1p(np.exp(-np.abs(logits)))
    grad = 1 / (1 + np.exp(-logits)) - labels
    return loss.mean(), grad / logits.size


def cross_entropy_loss(logits, labels):
    """
    logits: (batch, classes) float
    labels: (batch,) int
    """
    n = len(labels)
    shifted = logits - logits.max(1, keepdims=True)
    logp = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    loss = -logp[np.arange(n), labels].mean()
    grad = np.exp(logp)
    grad[np.arange(n), labels] -= 1
    return loss, grad


def label_smoothing_loss(logits, labels, smoothing=0.1):
    n, c = logits.shape
    target = np.full((n, c), smoothing / c)
    target[np.arange(n), labels] += 1 - smoothing
    z = logits - logits.max(axis=1, keepdims=True)
    logp = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    loss = -(target * logp).sum() / n
    return loss, (np.exp(logp) - target) / n


def kl_to_standard_normal(mu, logvar):
    """
    KL(N(mu, exp(logvar)) || N(0, 1)), summed over units and averaged over the batch.
    Returns loss, dmu, dlogvar
    """
    n = mu.shape[0]
    loss = -0.5 * np.sum(1 + logvar - mu**2 - np.exp(logvar)) / n
    dmu = mu / n
    dlogvar = 0.5 * (np.exp(logvar) - 1) / n
    return loss, dmu, dlogvar


def hinge_loss(scores, y):
    """binary hinge; y is -1 or +1"""
    m = 1 - y * scores
    active = m > 0
    return np.mean(np.where(active, m, 0)), np.where(active, -y, 0) / len(y)


def focal_loss(logits, labels, gamma=2.0):
    """binary focal loss without alpha"""
    s = 1 / (1 + np.exp(-logits))
    pt = np.where(labels == 1, s, 1 - s)
    sign = np.where(labels == 1, 1.0, -1.0)
    loss = -np.mean((1 - pt) ** gamma * np.log(pt))
    dpt = gamma * (1 - pt) ** (gamma - 1) * np.log(pt) - (1 - pt) ** gamma / pt
    grad = dpt * sign * s * (1 - s) / logits.size
    return loss, grad


def cosine_distance(a, b):
    """1 - cos(a, b) for two vectors; returns loss and a dict of gradients"""
    na, nb = np.linalg.norm(a), np.linalg.norm(b)
    cos = a.dot(b) / (na * nb)
    grads = {
        "a": -(b / (na * nb) - cos * a / na**2),
        "b": -(a / (na * nb) - cos * b / nb**2),
    }
    return 1 - cos, grads


def poisson_nll(log_rate, counts):
    rate = np.exp(log_rate)
    return float((rate - counts * log_rate).mean()), (rate - counts) / rate.size
