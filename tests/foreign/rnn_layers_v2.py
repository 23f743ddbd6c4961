import numpy as np


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def word_embedding_forward(x, W):
    """words x (N, T) -> vectors (N, T, D)"""
    return W[x], (x, W)


def word_embedding_backward(dout, cache):
    x, W = cache
    dW = np.zeros_like(W)
    dW[x] += dout
    return dW


def rnn_step_forward(x, prev_h, Wx, Wh, b):
    z = x @ Wx + prev_h @ Wh + b
    next_h = np.tanh(z)
    return next_h, (x, prev_h, Wx, Wh, z)


def rnn_step_backward(dnext_h, cache):
    x, prev_h, Wx, Wh, z = cache
    dz = dnext_h * (1 - np.tanh(z) * np.tanh(z))
    return dz @ Wx.T, dz @ Wh.T, x.T @ dz, prev_h.T @ dz, dz.sum(0)


def rnn_forward(x, h0, Wx, Wh, b):
    caches, hs, h = [], [], h0
    for t in range(x.shape[1]):
        h, c = rnn_step_forward(x[:, t], h, Wx, Wh, b)
        hs.append(h)
        caches.append(c)
    return np.stack(hs, axis=1), caches


def rnn_backward(dh, cache):
    dxs = []
    dWx = dWh = db = 0
    for t in range(dh.shape[1])[::-1]:
        dx, dprev_h, gWx, gWh, gb = rnn_step_backward(dh[:, t], cache[t])
        dxs.insert(0, dx)
        dWx = dWx + gWx
        dWh = dWh + gWh
        db = db + gb
    return np.stack(dxs, axis=1), dprev_h, dWx, dWh, db


def lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b):
    N, H = prev_h.shape
    A = x @ Wx + prev_h @ Wh + b
    ai, af, ao, ag = np.split(A, 4, axis=1)
    i, f, o, g = sigmoid(ai), sigmoid(af), sigmoid(ao), np.tanh(ag)
    next_c = f * prev_c + i * g
    next_h = o * np.tanh(next_c)
    cache = x, prev_h, prev_c, Wx, Wh, i, f, o, g, next_c
    return next_h, next_c, cache


def lstm_step_backward(dnext_h, dnext_c, cache):
    x, prev_h, prev_c, Wx, Wh, i, f, o, g, next_c = cache

    th = np.tanh(next_c)
    do = dnext_h * th
    dc = dnext_c + dnext_h * o * (1 - th * th)
    df = dc * prev_c
    dprev_c = dc * f
    di = dc * g
    dg = dc * i

    dai = di * i * (1 - i)
    daf = df * f * (1 - f)
    dao = do * o * (1 - o)
    dag = dg * g * (1 - g)

    dA = np.concatenate([dai, daf, dao, dag], axis=1)
    return dA @ Wx.T, dA @ Wh.T, dprev_c, x.T @ dA, prev_h.T @ dA, dA.sum(0)
