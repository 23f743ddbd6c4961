import numpy as np


def skew(w):
    return np.array([[0, -w[2], w[1]], [w[2], 0, -w[0]], [-w[1], w[0], 0]])


def rotate(w, p):
    """Rotate the point p by the axis-angle vector w (Rodrigues)."""
    t = np.linalg.norm(w)
    if t < 1e-12:
        return p + np.cross(w, p)
    k = w / t
    return p * np.cos(t) + np.cross(k, p) * np.sin(t) + k * (k @ p) * (1 - np.cos(t))


def rotate_jacobian(w, p):
    """d rotate / d w, 3 x 3"""
    t = np.linalg.norm(w)
    if t < 1e-12:
        return -skew(p)
    R = np.cos(t) * np.eye(3) + np.sin(t) * skew(w / t) + (1 - np.cos(t)) * np.outer(w, w) / t**2
    # left Jacobian
    J = (np.sin(t) / t) * np.eye(3) + (1 - np.sin(t) / t) * np.outer(w, w) / t**2 + (1 - np.cos(t)) / t**2 * skew(w)
    return -skew(R @ p) @ J


def project(P, f, c):
    """Pinhole camera: P (N, 3) -> pixels (N, 2)"""
    return f * P[:, :2] / P[:, 2:] + c


def project_jacobian(P, f, c):
    """(N, 2, 3) Jacobians of the pixels for the points"""
    N = len(P)
    X, Y, Z = P.T
    J = np.zeros((N, 2, 3))
    J[:, 0, 0] = f / Z
    J[:, 1, 1] = f / Z
    J[:, 0, 2] = -f * X / Z**2
    J[:, 1, 2] = -f * Y / Z
    return J


def quat_normalize(q):
    return q / np.linalg.norm(q)


def quat_normalize_backward(dn, q):
    n = np.linalg.norm(q)
    u = q / n
    return (dn - u * (u @ dn)) / n


def quat_to_matrix(q):
    """q = (w, x, y, z), not necessarily of unit length; no normalization here"""
    w, x, y, z = q
    return np.array(
        [
            [w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z],
        ]
    )


def quat_to_matrix_backward(dR, q):
    w, x, y, z = q
    dw = np.array([[w, -z, y], [z, w, -x], [-y, x, w]])
    dx = np.array([[x, y, z], [y, -x, -w], [z, w, -x]])
    dy = np.array([[-y, x, w], [x, y, z], [-w, z, -y]])
    dz = np.array([[-z, -w, x], [w, -z, y], [x, y, z]])
    return 2 * np.array([np.sum(dR * d) for d in (dw, dx, dy, dz)])


def reprojection_error(params, points, observed):
    """
    Half the squared reprojection error and its gradient; params = (w, t, f)
    """
    w, t, f = params[:3], params[3:6], params[6]
    g = np.zeros(7)
    err = 0.0
    for p, uv in zip(points, observed):
        q = rotate(w, p) + t
        r = f * q[:2] / q[2] - uv
        err += 0.5 * r @ r
        dq = np.array([r[0] * f / q[2], r[1] * f / q[2], -f * (r @ q[:2]) / q[2] ** 2])
        g[:3] += rotate_jacobian(w, p).T @ dq
        g[3:6] += dq
        g[6] += r @ q[:2] / q[2]
    return err, g
