import numpy as np


def sigmoid(x):
    return 0.5 * (np.tanh(0.5 * x) + 1)


class LSTM:
    """
    A whole LSTM layer. inputs: (T, B, D) -> outputs: (T, B, H)
    gate order: input, forget, output, cell
    """

    def __init__(self, D, H, forget_bias=1.0):
        self.H = H
        self.W = np.random.randn(D + H, 4 * H) / np.sqrt(D + H)
        self.b = np.zeros(4 * H)
        self.b[H : 2 * H] = forget_bias
        self.params = [self.W, self.b]
        self.grads = [np.zeros_like(self.W), np.zeros_like(self.b)]

    def forward(self, X):
        T, B, D = X.shape
        H = self.H
        h, c = np.zeros((B, H)), np.zeros((B, H))
        self.tape = []
        out = np.zeros((T, B, H))
        for t in range(T):
            v = np.hstack([h, X[t]])
            a = v @ self.W + self.b
            i, f, o = (sigmoid(a[:, k * H : (k + 1) * H]) for k in range(3))
            g = np.tanh(a[:, 3 * H :])
            c_prev, c = c, f * c + i * g
            h = o * np.tanh(c)
            self.tape.append((v, i, f, o, g, c_prev, c))
            out[t] = h
        return out

    def backward(self, dout):
        T, B, H = dout.shape
        dW, db = np.zeros_like(self.W), np.zeros_like(self.b)
        dX = np.zeros((T, B, self.W.shape[0] - H))
        dh, dc = np.zeros((B, H)), np.zeros((B, H))
        for t in reversed(range(T)):
            v, i, f, o, g, c_prev, c = self.tape[t]
            tc = np.tanh(c)
            dh = dh + dout[t]
            dc = dc + dh * o * (1 - tc**2)
            da = np.hstack(
                [dc * g * i * (1 - i), dc * c_prev * f * (1 - f), dh * tc * o * (1 - o), dc * i * (1 - g**2)]
            )
            dW += v.T @ da
            db += da.sum(axis=0)
            dv = da @ self.W.T
            dh, dX[t] = dv[:, :H], dv[:, H:]
            dc = dc * f
        self.grads[0][...] = dW
        self.grads[1][...] = db
        return dX


class Bidirectional:
    def __init__(self, fwd, bwd):
        self.fwd, self.bwd = fwd, bwd
        self.params = fwd.params + bwd.params
        self.grads = fwd.grads + bwd.grads

    def forward(self, X):
        return np.concatenate([self.fwd.forward(X), self.bwd.forward(X[::-1])[::-1]], axis=2)

    def backward(self, dout):
        H = self.fwd.H
        return self.fwd.backward(dout[:, :, :H]) + self.bwd.backward(dout[::-1, :, H:])


class LastState:
    """only the last output of a sequence"""

    def forward(self, X):
        self.shape = X.shape
        return X[-1]

    def backward(self, dout):
        dX = np.zeros(self.shape)
        dX[-1] = dout
        return dX


class LeakyIntegrator:
    """h_t = (1 - a) h_{t-1} + a x_t with a = sigmoid(rate)"""

    def __init__(self, D):
        self.rate = np.zeros(D)
        self.params = [self.rate]
        self.grads = [np.zeros(D)]

    def forward(self, X):
        self.X = X
        a = sigmoid(self.rate)
        h = np.zeros_like(X[0])
        self.hs = [h]
        for x in X:
            h = (1 - a) * h + a * x
            self.hs.append(h)
        return np.stack(self.hs[1:])

    def backward(self, dout):
        a = sigmoid(self.rate)
        dX = np.zeros_like(self.X)
        da = np.zeros_like(a)
        dh = 0
        for t in range(len(dout) - 1, -1, -1):
            dh = dout[t] + dh
            da += (dh * (self.X[t] - self.hs[t + 1])).sum(axis=0)
            dX[t] = dh * a
            dh = dh * (1 - a)
        self.grads[0][...] = da * a * (1 - a)
        return dX
