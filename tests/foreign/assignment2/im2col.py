import numpy as np


def get_im2col_indices(x_shape, field_height, field_width, padding=1, stride=1):
    # Row, column and channel of each value of each receptive field
    N, C, H, W = x_shape
    assert (H + 2 * padding - field_height) % stride == 0
    assert (W + 2 * padding - field_width) % stride == 0
    out_height = (H + 2 * padding - field_height) // stride + 1
    out_width = (W + 2 * padding - field_width) // stride + 1

    di, dj = np.meshgrid(np.arange(field_height), np.arange(field_width), indexing='ij')
    oi, oj = np.meshgrid(np.arange(out_height), np.arange(out_width), indexing='ij')
    i = np.tile(di.ravel(), C)[:, None] + stride * oi.ravel()[None, :]
    j = np.tile(dj.ravel(), C)[:, None] + stride * oj.ravel()[None, :]
    k = np.repeat(np.arange(C), field_height * field_width)[:, None]
    return k, i, j


def im2col_indices(x, field_height, field_width, padding=1, stride=1):
    """ (N, C, H, W) -> (C * field_height * field_width, out_height * out_width * N) """
    p = padding
    x_padded = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)), mode='constant')
    k, i, j = get_im2col_indices(x.shape, field_height, field_width, padding, stride)
    cols = x_padded[:, k, i, j]
    return cols.transpose(1, 2, 0).reshape(field_height * field_width * x.shape[1], -1)


def col2im_indices(cols, x_shape, field_height=3, field_width=3, padding=1, stride=1):
    """ the adjoint: values that were taken from one pixel are summed there """
    N, C, H, W = x_shape
    x_padded = np.zeros((N, C, H + 2 * padding, W + 2 * padding), dtype=cols.dtype)
    k, i, j = get_im2col_indices(x_shape, field_height, field_width, padding, stride)
    cols = cols.reshape(C * field_height * field_width, -1, N).transpose(2, 0, 1)
    np.add.at(x_padded, (slice(None), k, i, j), cols)
    if padding == 0:
        return x_padded
    return x_padded[:, :, padding:-padding, padding:-padding]
