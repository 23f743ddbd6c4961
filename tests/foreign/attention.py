import numpy as np


def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def attention_forward(q, k, v, mask=None):
    """
    Scaled dot-product attention.
    q: (B, T, D), k: (B, S, D), v: (B, S, E); mask: (T, S), True where attention is allowed
    """
    scale = 1.0 / np.sqrt(q.shape[-1])
    scores = np.einsum("btd,bsd->bts", q, k) * scale
    if mask is not None:
        scores = np.where(mask, scores, -1e9)
    p = softmax(scores)
    out = np.einsum("bts,bse->bte", p, v)
    return out, (q, k, v, p, scale)


def attention_backward(dout, cache):
    q, k, v, p, scale = cache
    dv = np.einsum("bts,bte->bse", p, dout)
    dp = np.einsum("bte,bse->bts", dout, v)
    ds = p * (dp - (dp * p).sum(axis=-1, keepdims=True)) * scale
    dq = np.einsum("bts,bsd->btd", ds, k)
    dk = np.einsum("bts,btd->bsd", ds, q)
    return dq, dk, dv


def causal_attention_forward(x, Wq, Wk, Wv):
    """single head self-attention for one sequence x: (T, C)"""
    T = x.shape[0]
    q, k, v = x @ Wq, x @ Wk, x @ Wv
    att = q @ k.T / np.sqrt(q.shape[1])
    att[np.triu_indices(T, 1)] = -np.inf
    att = softmax(att)
    y = att @ v
    return y, (x, Wq, Wk, Wv, q, k, v, att)


def causal_attention_backward(dy, cache):
    x, Wq, Wk, Wv, q, k, v, att = cache
    datt = dy @ v.T
    dv = att.T @ dy
    dpre = att * (datt - np.sum(datt * att, axis=1, keepdims=True))
    dq = dpre @ k / np.sqrt(q.shape[1])
    dk = dpre.T @ q
    dWq, dWk, dWv = x.T @ dq, x.T @ dk, x.T @ dv
    dx = dq @ Wq.T + dk @ Wk.T + dv @ Wv.T
    return dx, dWq, dWk, dWv


class MultiHeadAttention:
    def __init__(self, d_model, n_heads, seed=0):
        rng = np.random.default_rng(seed)
        self.h = n_heads
        self.d = d_model // n_heads
        s = d_model**-0.5
        self.params = {n: rng.normal(0, s, (d_model, d_model)) for n in ("Wq", "Wk", "Wv", "Wo")}
        self.grads = {}

    def _split(self, x):
        B, T, _ = x.shape
        return x.reshape(B, T, self.h, self.d).transpose(0, 2, 1, 3)

    def _merge(self, x):
        B, H, T, D = x.shape
        return x.transpose(0, 2, 1, 3).reshape(B, T, H * D)

    def forward(self, x):
        P = self.params
        q, k, v = (self._split(x @ P[n]) for n in ("Wq", "Wk", "Wv"))
        s = q @ k.transpose(0, 1, 3, 2) / np.sqrt(self.d)
        a = softmax(s)
        c = self._merge(a @ v)
        self.cache = x, q, k, v, a, c
        return c @ P["Wo"]

    def backward(self, dout):
        P, G = self.params, self.grads
        x, q, k, v, a, c = self.cache
        G["Wo"] = np.einsum("btc,btd->cd", c, dout)
        dc = self._split(dout @ P["Wo"].T)
        da = dc @ v.transpose(0, 1, 3, 2)
        dv = a.transpose(0, 1, 3, 2) @ dc
        ds = a * (da - (da * a).sum(-1, keepdims=True)) / np.sqrt(self.d)
        dq = ds @ k
        dk = ds.transpose(0, 1, 3, 2) @ q
        dx = 0
        for n, g in (("Wq", dq), ("Wk", dk), ("Wv", dv)):
            g = self._merge(g)
            G[n] = np.einsum("btc,btd->cd", x, g)
            dx = dx + g @ P[n].T
        return dx
