import numpy as np


def contrastive_loss(x1, x2, y, margin=1.0):
    """
    x1, x2: (N, D) embeddings, y: (N,) 1 for pairs that belong together, otherwise 0
    returns loss, dx1, dx2
    """
    diff = x1 - x2
    d = np.sqrt(np.sum(diff**2, axis=1))
    gap = np.maximum(margin - d, 0)
    loss = np.mean(y * d**2 + (1 - y) * gap**2) / 2
    coef = (y - (1 - y) * gap / d) / len(y)
    dx1 = coef[:, None] * diff
    return loss, dx1, -dx1


def triplet_loss(anchor, positive, negative, margin=0.2):
    ap = anchor - positive
    an = anchor - negative
    h = (ap**2).sum(1) - (an**2).sum(1) + margin
    active = (h > 0)[:, None]
    n = len(anchor)
    loss = np.maximum(h, 0).mean()
    da = active * 2 * (negative - positive) / n
    dp = active * 2 * ap / n
    dn = active * 2 * an / n
    return loss, da, dp, dn


def _normalize(x):
    n = np.linalg.norm(x, axis=1, keepdims=True)
    return x / n, n


def _normalize_backward(dz, z, n):
    return (dz - z * np.sum(z * dz, axis=1, keepdims=True)) / n


def nt_xent(a, b, tau=0.5):
    """SimCLR's loss for two views a, b: (N, D). Returns loss, {'a': ..., 'b': ...}"""
    N = len(a)
    x = np.concatenate([a, b])
    z, norm = _normalize(x)
    s = z @ z.T / tau
    np.fill_diagonal(s, -np.inf)
    target = np.concatenate([np.arange(N, 2 * N), np.arange(N)])
    e = np.exp(s - s.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    loss = -np.log(p[np.arange(2 * N), target]).mean()

    ds = p.copy()
    ds[np.arange(2 * N), target] -= 1
    ds /= 2 * N
    dz = (ds + ds.T) @ z / tau
    dx = _normalize_backward(dz, z, norm)
    return loss, {"a": dx[:N], "b": dx[N:]}


def clip_loss(image, text, logit_scale):
    """image, text: (N, D), not normalized; logit_scale: float. Returns loss and (d_image, d_text, d_scale)"""
    N = len(image)
    zi, ni = _normalize(image)
    zt, nt = _normalize(text)
    sim = zi @ zt.T
    logits = np.exp(logit_scale) * sim

    def xent(l):
        l = l - l.max(axis=1, keepdims=True)
        p = np.exp(l) / np.exp(l).sum(axis=1, keepdims=True)
        return -np.log(np.diag(p)).mean(), (p - np.eye(N)) / N

    li, gi = xent(logits)
    lt, gt = xent(logits.T)
    g = (gi + gt.T) / 2
    d_scale = np.sum(g * sim)
    dzi = np.exp(logit_scale) * g @ zt
    dzt = np.exp(logit_scale) * g.T @ zi
    return (li + lt) / 2, (_normalize_backward(dzi, zi, ni), _normalize_backward(dzt, zt, nt), d_scale)


def center_loss(features, labels, centers):
    d = features - centers[labels]
    dc = np.zeros_like(centers)
    np.add.at(dc, labels, -d)
    return 0.5 * np.sum(d**2), d, dc
