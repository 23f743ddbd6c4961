import numpy as np

DTYPE = np.float32


def bilinear_resize2(img):
    """float32 (H, W) -> (2H - 1, 2W - 1), the new pixels are means of their neighbours"""
    img = img.astype(DTYPE)
    H, W = img.shape
    out = np.zeros((2 * H - 1, 2 * W - 1), dtype=DTYPE)
    out[::2, ::2] = img
    out[1::2, ::2] = DTYPE(0.5) * (img[:-1] + img[1:])
    out[:, 1::2] = DTYPE(0.5) * (out[:, :-1:2] + out[:, 2::2])
    return out


def bilinear_resize2_backward(dout):
    d = np.array(dout, dtype=DTYPE)
    d[:, :-1:2] += DTYPE(0.5) * d[:, 1::2]
    d[:, 2::2] += DTYPE(0.5) * d[:, 1::2]
    d = d[:, ::2]
    dimg = d[::2].copy()
    dimg[:-1] += DTYPE(0.5) * d[1::2]
    dimg[1:] += DTYPE(0.5) * d[1::2]
    return dimg


def gamma_correct(img, gamma):
    """img in (0, 1]; gamma a float"""
    return np.power(img, DTYPE(gamma), dtype=DTYPE)


def gamma_correct_backward(dout, img, gamma):
    dimg = dout * DTYPE(gamma) * np.power(img, DTYPE(gamma - 1))
    dgamma = np.sum(dout * np.power(img, DTYPE(gamma)) * np.log(img))
    return dimg, dgamma


def contrast(img, k):
    mean = img.mean(dtype=DTYPE)
    return mean + DTYPE(k) * (img - mean)


def contrast_backward(dout, img, k):
    mean = img.mean(dtype=DTYPE)
    return DTYPE(k) * dout, np.sum(dout * (img - mean))


def laplacian_energy(img):
    """sum of squared second differences; returns energy and gradient"""
    img = np.asarray(img, dtype=DTYPE)
    L = img[2:, 1:-1] + img[:-2, 1:-1] + img[1:-1, 2:] + img[1:-1, :-2] - 4 * img[1:-1, 1:-1]
    g = np.zeros_like(img)
    g[2:, 1:-1] += 2 * L
    g[:-2, 1:-1] += 2 * L
    g[1:-1, 2:] += 2 * L
    g[1:-1, :-2] += 2 * L
    g[1:-1, 1:-1] -= 8 * L
    return np.sum(L * L), g
