import numpy as np
# Homework: convolution and pooling. pad/stride passed as dicts like in class.


def conv_forward_naive(x, w, b, conv_param):
    pad = conv_param["pad"]
    stride = conv_param["stride"]
    N, C, H, W = x.shape
    F, C, HH, WW = w.shape
    x_pad = np.pad(x, ((0,), (0,), (pad,), (pad,)), "constant")
    H_out = int(1 + (H + 2 * pad - HH) / stride)
    W_out = int(1 + (W + 2 * pad - WW) / stride)
    out = np.zeros((N, F, H_out, W_out))
    for i in range(H_out):
        for j in range(W_out):
            patch = x_pad[:, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
            for k in range(F):
                out[:, k, i, j] = np.sum(patch * w[k, :, :, :], axis=(1, 2, 3))
    out = out + b[None, :, None, None]
    return out, (x, w, b, conv_param)


def conv_backward_naive(dout, cache):
    x, w, b, conv_param = cache
    pad = conv_param["pad"]
    stride = conv_param["stride"]
    N, C, H, W = x.shape
    F, C, HH, WW = w.shape
    N, F, H_out, W_out = dout.shape

    x_pad = np.pad(x, ((0,), (0,), (pad,), (pad,)), "constant")
    dx_pad = np.zeros_like(x_pad)
    dw = np.zeros_like(w)
    db = np.sum(dout, axis=(0, 2, 3))
    for i in range(H_out):
        for j in range(W_out):
            patch = x_pad[:, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
            for k in range(F):
                dw[k] += np.sum(patch * dout[:, k, i, j][:, None, None, None], axis=0)
            for n in range(N):
                dx_pad[n, :, i * stride : i * stride + HH, j * stride : j * stride + WW] = np.sum(
                    w * dout[n, :, i, j][:, None, None, None], axis=0
                )
    dx = dx_pad[:, :, pad : pad + H, pad : pad + W]
    return dx, dw, db


def max_pool_forward_naive(x, pool_param):
    HP, WP, stride = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    N, C, H, W = x.shape
    H_out = int((H - HP) / stride) + 1
    W_out = int((W - WP) / stride) + 1
    out = np.zeros((N, C, H_out, W_out))
    for i in range(H_out):
        for j in range(W_out):
            out[:, :, i, j] = np.max(x[:, :, i * stride : i * stride + HP, j * stride : j * stride + WP], axis=(2, 3))
    return out, (x, pool_param)


def max_pool_backward_naive(dout, cache):
    x, pool_param = cache
    HP, WP, stride = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    dx = np.zeros_like(x)
    N, C, H_out, W_out = dout.shape
    for i in range(H_out):
        for j in range(W_out):
            window = x[:, :, i * stride : i * stride + HP, j * stride : j * stride + WP]
            biggest = np.max(window, axis=(2, 3))
            mask = window == biggest[:, :, None, None]
            dx[:, :, i * stride : i * stride + HP, j * stride : j * stride + WP] += (
                mask * dout[:, :, i, j][:, :, None, None]
            )
    return dx


def avg_pool_forward_naive(x, pool_param):
    HP, WP, stride = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    N, C, H, W = x.shape
    H_out = int((H - HP) / stride) + 1
    W_out = int((W - WP) / stride) + 1
    out = np.zeros((N, C, H_out, W_out))
    for i in range(H_out):
        for j in range(W_out):
            out[:, :, i, j] = np.mean(x[:, :, i * stride : i * stride + HP, j * stride : j * stride + WP], axis=(2, 3))
    return out, (x, pool_param)


def avg_pool_backward_naive(dout, cache):
    x, pool_param = cache
    HP, WP, stride = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    dx = np.zeros_like(x)
    N, C, H_out, W_out = dout.shape
    for i in range(H_out):
        for j in range(W_out):
            dx[:, :, i * stride : i * stride + HP, j * stride : j * stride + WP] += dout[:, :, i, j][:, :, None, None]
    return dx
