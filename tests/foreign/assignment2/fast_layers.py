from __future__ import print_function
import numpy as np

from .im2col import im2col_indices, col2im_indices


def conv_forward_im2col(x, w, b, conv_param):
    """
    Convolution as one matrix product over im2col's columns.
    """
    N, C, H, W = x.shape
    num_filters, _, filter_height, filter_width = w.shape
    stride, pad = conv_param['stride'], conv_param['pad']

    assert (W + 2 * pad - filter_width) % stride == 0, 'width does not work'
    assert (H + 2 * pad - filter_height) % stride == 0, 'height does not work'

    out_height = (H + 2 * pad - filter_height) // stride + 1
    out_width = (W + 2 * pad - filter_width) // stride + 1

    x_cols = im2col_indices(x, filter_height, filter_width, pad, stride)
    res = w.reshape(num_filters, -1).dot(x_cols) + b.reshape(-1, 1)
    out = res.reshape(num_filters, out_height, out_width, N).transpose(3, 0, 1, 2)

    cache = (x, w, b, conv_param, x_cols)
    return out, cache


def conv_backward_im2col(dout, cache):
    x, w, b, conv_param, x_cols = cache
    stride, pad = conv_param['stride'], conv_param['pad']
    num_filters, _, filter_height, filter_width = w.shape

    db = np.sum(dout, axis=(0, 2, 3))

    dout_rows = dout.transpose(1, 2, 3, 0).reshape(num_filters, -1)
    dw = dout_rows.dot(x_cols.T).reshape(w.shape)

    dx_cols = w.reshape(num_filters, -1).T.dot(dout_rows)
    dx = col2im_indices(dx_cols, x.shape, filter_height, filter_width, pad, stride)
    return dx, dw, db


conv_forward_fast = conv_forward_im2col
conv_backward_fast = conv_backward_im2col


def max_pool_forward_fast(x, pool_param):
    """
    Works only for square pools that tile the image; stride == pool size.
    """
    N, C, H, W = x.shape
    ph, pw, stride = pool_param['pool_height'], pool_param['pool_width'], pool_param['stride']
    assert ph == pw == stride, 'Invalid pool params'
    assert H % ph == 0 and W % pw == 0
    x_reshaped = x.reshape(N, C, H // ph, ph, W // pw, pw)
    out = x_reshaped.max(axis=3).max(axis=4)
    cache = (x, x_reshaped, out)
    return out, cache


def max_pool_backward_fast(dout, cache):
    """
    If a window has several maxima, each of them gets an equal share.
    """
    x, x_reshaped, out = cache
    winners = x_reshaped == out[:, :, :, None, :, None]
    share = winners / np.sum(winners, axis=(3, 5), keepdims=True)
    return (share * dout[:, :, :, None, :, None]).reshape(x.shape)
