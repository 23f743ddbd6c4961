"""One transformer block and a tiny language model, forward and backward by hand."""

import numpy as np


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def gelu_backward(dy, x):
    c = np.sqrt(2 / np.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    return dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x))


def layernorm(x, g, b):
    mu = x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    n = (x - mu) * rstd
    return n * g + b, (n, rstd, g)


def layernorm_backward(dy, cache):
    n, rstd, g = cache
    axes = tuple(range(dy.ndim - 1))
    dn = dy * g
    dx = rstd * (dn - dn.mean(-1, keepdims=True) - n * (dn * n).mean(-1, keepdims=True))
    return dx, (dy * n).sum(axes), dy.sum(axes)


def attention(qkv, heads):
    """causal self-attention; qkv (B, T, 3C)"""
    B, T, C3 = qkv.shape
    C = C3 // 3
    q, k, v = qkv.reshape(B, T, 3, heads, C // heads).transpose(2, 0, 3, 1, 4)
    s = q @ k.swapaxes(-1, -2) / np.sqrt(C // heads)
    s = np.where(np.tril(np.ones((T, T), bool)), s, -np.inf)
    p = np.exp(s - s.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return (p @ v).transpose(0, 2, 1, 3).reshape(B, T, C), (q, k, v, p)


def attention_backward(dy, cache):
    q, k, v, p = cache
    B, H, T, D = q.shape
    do = dy.reshape(B, T, H, D).transpose(0, 2, 1, 3)
    dv = p.swapaxes(-1, -2) @ do
    dp = do @ v.swapaxes(-1, -2)
    ds = p * (dp - (dp * p).sum(-1, keepdims=True)) / np.sqrt(D)
    dq, dk = ds @ k, ds.swapaxes(-1, -2) @ q
    return np.stack([dq, dk, dv]).transpose(1, 3, 0, 2, 4).reshape(B, T, 3 * H * D)


class GPT:
    def __init__(self, vocab, block_size, C=16, heads=2, seed=1337):
        rng = np.random.default_rng(seed)
        n = lambda *s: 0.1 * rng.standard_normal(s)
        self.heads = heads
        self.p = {
            "wte": n(vocab, C),
            "wpe": n(block_size, C),
            "ln1_g": np.ones(C),
            "ln1_b": np.zeros(C),
            "qkv": n(C, 3 * C),
            "proj": n(C, C),
            "ln2_g": np.ones(C),
            "ln2_b": np.zeros(C),
            "fc": n(C, 4 * C),
            "fc_b": np.zeros(4 * C),
            "out": n(4 * C, C),
            "lnf_g": np.ones(C),
            "lnf_b": np.zeros(C),
        }

    def loss(self, idx, targets):
        """mean cross entropy; the output layer shares its weights with wte"""
        p = self.p
        B, T = idx.shape
        x0 = p["wte"][idx] + p["wpe"][:T]
        a, self.c1 = layernorm(x0, p["ln1_g"], p["ln1_b"])
        y, self.ca = attention(a @ p["qkv"], self.heads)
        x1 = x0 + y @ p["proj"]
        m, self.c2 = layernorm(x1, p["ln2_g"], p["ln2_b"])
        u = m @ p["fc"] + p["fc_b"]
        g = gelu(u)
        x2 = x1 + g @ p["out"]
        f, self.cf = layernorm(x2, p["lnf_g"], p["lnf_b"])
        logits = f @ p["wte"].T
        z = logits - logits.max(-1, keepdims=True)
        logp = z - np.log(np.exp(z).sum(-1, keepdims=True))
        self.saved = idx, targets, a, y, m, u, g, f, logp
        return -logp[np.arange(B)[:, None], np.arange(T), targets].mean()

    def backward(self):
        p, G = self.p, {}
        idx, targets, a, y, m, u, g, f, logp = self.saved
        B, T = idx.shape
        dlogits = np.exp(logp)
        dlogits[np.arange(B)[:, None], np.arange(T), targets] -= 1
        dlogits /= B * T
        G["wte"] = np.einsum("btv,btc->vc", dlogits, f)
        df = dlogits @ p["wte"]
        dx2, G["lnf_g"], G["lnf_b"] = layernorm_backward(df, self.cf)
        G["out"] = np.einsum("bth,btc->hc", g, dx2)
        du = gelu_backward(dx2 @ p["out"].T, u)
        G["fc"], G["fc_b"] = np.einsum("btc,bth->ch", m, du), du.sum((0, 1))
        dm, G["ln2_g"], G["ln2_b"] = layernorm_backward(du @ p["fc"].T, self.c2)
        dx1 = dx2 + dm
        G["proj"] = np.einsum("btc,btd->cd", y, dx1)
        dqkv = attention_backward(dx1 @ p["proj"].T, self.ca)
        G["qkv"] = np.einsum("btc,btd->cd", a, dqkv)
        da, G["ln1_g"], G["ln1_b"] = layernorm_backward(dqkv @ p["qkv"].T, self.c1)
        dx0 = dx1 + da
        np.add.at(G["wte"], idx, dx0)
        G["wpe"] = np.zeros_like(p["wpe"])
        G["wpe"][:T] = dx0.sum(0)
        return G
