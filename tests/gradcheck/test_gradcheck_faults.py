"""Verdicts that once were wrong: each stands for its kind.

Budget: about 6 s.
"""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck_pairs import affine_backward, affine_forward, affine_inputs, normal, notes_of, row_of

from vae_np.errors import InputError
from vae_np.gradcheck import assert_grad, budget, check_grad, check_vjp, differences

# --- functions of no module -------------------------------------------------------------------------------------------


def test_a_function_that_was_executed_from_text_is_judged_and_diagnosed():
    names = {"np": np}  # no __name__: the function's module is then None
    exec("def forward(x): return np.tanh(x), x\ndef backward(d, x): return 0.5 * d * (1 - np.tanh(x) ** 2)", names)
    report = check_vjp(names["forward"], names["backward"], (normal(3, 2),))
    assert not report.passed
    assert "it is 1/2 times the numeric gradient" in report.causes[0]


# --- kinks that entries share -----------------------------------------------------------------------------------------

TIED = np.array([1.0, 1.0, 1.0, 0.0])


def test_tied_entries_may_not_each_take_the_whole_of_a_maximum():
    report = check_grad(lambda x: x.max(), lambda x: 1.0 * (x == x.max()), TIED)
    assert row_of(report, "x").verdict == "FAIL"
    assert "slopes 1 and 1, the gradient claims 3" in notes_of(report)
    for share in ([1.0, 0, 0, 0], [0, 0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3, 0]):
        assert check_grad(lambda x: x.max(), lambda x, s=share: np.array(s), TIED).passed
    # Each entry alone may be anything from 0 to 1, but one of them has to move the maximum.
    assert not check_grad(lambda x: x.max(), np.zeros_like, TIED).passed


def pool_forward(x):
    windows = x.reshape(2, 2, 2, 2).transpose(0, 2, 1, 3).reshape(2, 2, 4)
    return windows.max(axis=2), windows


def _unpool(d):
    return d.reshape(2, 2, 2, 2).transpose(0, 2, 1, 3).reshape(4, 4)


def pool_to_all_ties(dout, windows):
    return _unpool(dout[..., None] * (windows == windows.max(axis=2, keepdims=True)))


def pool_to_first(dout, windows):
    d = np.zeros(windows.shape)
    np.put_along_axis(d, windows.argmax(axis=2)[..., None], dout[..., None], axis=2)
    return _unpool(d)


def pool_shared(dout, windows):
    mask = windows == windows.max(axis=2, keepdims=True)
    return _unpool(dout[..., None] * mask / mask.sum(axis=2, keepdims=True))


def test_max_pools_with_ties():
    x = normal(4, 4)
    x[:2, 0] = 3.0
    x[2:, 2:] = 0.5
    for seed in range(3):
        assert not check_vjp(pool_forward, pool_to_all_ties, (x,), seed=seed).passed
        assert check_vjp(pool_forward, pool_to_first, (x,), seed=seed).passed
        assert check_vjp(pool_forward, pool_shared, (x,), seed=seed).passed


def test_ties_that_the_point_lacks_are_tried_and_a_warning():
    report = check_vjp(pool_forward, pool_to_all_ties, (normal(4, 4),))
    assert report.passed
    assert "where entries of x tie" in report.warnings[0]
    assert not check_vjp(pool_forward, pool_to_all_ties, (normal(4, 4),), strict=True).passed
    assert not check_vjp(pool_forward, pool_shared, (normal(4, 4),)).warnings


def test_corners_that_are_not_shared_are_judged_each_by_itself():
    x = np.array([0.0, 0.0, 0.0, 1.0])
    for at_zero in (0.0, 0.5, 1.0):
        for seed in range(5):
            backward = lambda d, x, v=at_zero: d * np.where(x > 0, 1.0, np.where(x < 0, 0.0, v))  # noqa: E731
            assert check_vjp(lambda x: (np.where(x > 0, x, 0.0), x), backward, (x,), seed=seed).passed
    assert check_grad(lambda x: np.abs(x).sum(), np.sign, x).passed


# --- points that cannot show a mistake --------------------------------------------------------------------------------


def rnn_forward(h, U):
    return np.tanh(h @ U), (h, U)


def rnn_backward(dout, cache):
    h, U = cache
    d = dout * (1 - np.tanh(h @ U) ** 2)
    return d @ U.T, h.T @ d


def test_a_zero_state_cannot_show_a_mistake_in_its_weight_and_another_point_can():
    forgotten = lambda d, c: (rnn_backward(d, c)[0], np.zeros_like(c[1]))  # noqa: E731
    inputs = (np.zeros((4, 3)), normal(3, 3))
    report = check_vjp(rnn_forward, forgotten, inputs)
    assert row_of(report, "U").verdict == "FAIL"
    assert "wrong at another point: h drawn at random" in notes_of(report, "U")
    right = check_vjp(rnn_forward, rnn_backward, inputs)
    assert right.passed
    assert "this point cannot show a mistake in U; right at another one" in notes_of(right, "U")


def test_a_tensor_that_no_point_can_judge_is_named():
    report = check_vjp(lambda x, w: (x + 0 * w, None), lambda d, _: (d, 0 * d), (normal(3), normal(3, seed=1)))
    assert report.passed
    assert "this point cannot show a mistake in w" in notes_of(report, "w")
    assert "gradient of w zero here, which shows little" in report.headline()


def test_a_batch_of_one_hides_a_missing_sum():
    inputs = affine_inputs(rows=1)
    first_row = lambda d, c: (*affine_backward(d, c)[:2], d[0])  # noqa: E731
    report = check_vjp(affine_forward, first_row, inputs)
    assert row_of(report, "b").verdict == "FAIL"
    assert "wrong at another point: a batch of 2 (x)" in notes_of(report, "b")
    assert any("only batch row 0" in cause for cause in report.causes)
    assert check_vjp(affine_forward, affine_backward, inputs).passed


def lookup_forward(table, index):
    return table[index], (table.shape, index)


def lookup_overwrites(dout, cache):
    shape, index = cache
    dtable = np.zeros(shape)
    dtable[index] = dout
    return dtable


def lookup_adds(dout, cache):
    shape, index = cache
    dtable = np.zeros(shape)
    np.add.at(dtable, index, dout)
    return dtable


def test_indices_that_do_not_repeat_hide_a_scatter_that_overwrites():
    inputs = (normal(5, 3), np.array([3, 0, 2]))
    report = check_vjp(lookup_forward, lookup_overwrites, inputs)
    assert row_of(report, "table").verdict == "FAIL"
    assert "repeated indices in index" in notes_of(report, "table")
    assert check_vjp(lookup_forward, lookup_adds, inputs).passed
    assert not check_vjp(lookup_forward, lookup_overwrites, inputs, further=False).causes


# --- ill-conditioned functions ----------------------------------------------------------------------------------------


def hilbert_like(size, condition, seed):
    rng = np.random.default_rng(seed)
    u, _ = np.linalg.qr(rng.standard_normal((size, size)))
    v, _ = np.linalg.qr(rng.standard_normal((size, size)))
    return u @ np.diag(np.logspace(0, -np.log10(condition), size)) @ v.T


def inverse_forward(a):
    inverse = np.linalg.inv(a)
    return inverse, inverse


def inverse_backward(dout, inverse):
    return -inverse.T @ dout @ inverse.T


@pytest.mark.parametrize("seed", range(8))
def test_an_exact_backward_of_an_ill_conditioned_inverse_does_not_fail(seed):
    report = check_vjp(inverse_forward, inverse_backward, (hilbert_like(5, 1e8, seed),), seed=seed)
    assert row_of(report, "a").verdict in ("ok", "unclear"), str(report)
    assert not report.causes
    wrong = lambda d, c: 1.01 * inverse_backward(d, c)  # noqa: E731
    assert not check_vjp(inverse_forward, wrong, (hilbert_like(5, 1e8, seed),), seed=seed).passed


# --- causes -----------------------------------------------------------------------------------------------------------


class Dense:
    def __init__(self):
        self.W, self.dW = normal(3, 2), np.zeros((3, 2))

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dout):
        self.dW += self.x.T @ dout
        return dout @ self.W.T


def test_gradients_that_accumulate_on_an_object_used_again_are_no_noise():
    layer = Dense()
    W = layer.W

    def forward(x, W):
        layer.W = W
        return layer.forward(x), None

    def backward(dout, cache):
        dx = layer.backward(dout)
        return dx, layer.dW

    report = check_vjp(forward, backward, (normal(4, 3), W))
    assert report.passed, str(report)
    assert "gradients accumulate" in report.warnings[0]
    assert not check_vjp(forward, backward, (normal(4, 3), W), strict=True).passed
    wrong = lambda d, c: (backward(d, c)[0], 1.01 * layer.dW)  # noqa: E731
    report = check_vjp(forward, wrong, (normal(4, 3), W))
    assert row_of(report, "W").verdict == "FAIL"
    assert not any("noise" in cause for cause in report.causes)


@pytest.mark.parametrize(("eps", "digits"), [(1e-8, 7), (1e-6, 5), (1e-4, 3)])
def test_an_epsilon_in_one_direction_only_is_judged_by_its_size(eps, digits):
    p = np.random.default_rng(0).uniform(0.3, 0.9, (4, 3))
    for f, grad in (
        (lambda p: np.log(p + eps).sum(), lambda p: 1 / p),
        (lambda p: np.log(p + eps).sum(axis=1) @ np.ones(4), lambda p: 1 / p),
    ):
        report = check_grad(f, grad, p)
        (cause,) = report.causes
        assert f"agrees to {digits} digits" in cause
        assert "an added epsilon" in cause
    # An embedding of one factor: it rounds to one, and is not printed.
    report = check_grad(lambda x: (1 + eps) * (x**2).sum(), lambda x: 2 * x, p)
    assert "1 times" not in str(report.causes)


def test_an_entry_that_is_nearly_right_is_no_epsilon():
    def wrong(dout, x):
        dx = 2 * x * dout
        dx[0, 0] *= 1.01
        return dx

    x = normal(4, 3)
    x[0, 0] = 1e-2
    report = check_vjp(lambda x: (x**2, x), wrong, (x,))
    assert "wrong only at some entries: index [0, 0]" in report.causes[0]


def test_arguments_in_the_other_order_are_tried_and_named():
    forward = lambda x: (x**3, x)  # noqa: E731

    def exchanged(x, dout):
        return 3 * x**2 * dout

    report = check_vjp(forward, exchanged, (normal(4, 3),))
    assert report.passed
    assert "backward(x, dout)" in report.reading

    def misnamed(dout, x):
        return 3 * dout**2 * x

    report = check_vjp(forward, misnamed, (normal(4, 3),))
    assert not report.passed
    assert any("arguments are exchanged" in cause for cause in report.causes), report.causes


@pytest.mark.parametrize("limit", [5.0, 1.0])
def test_a_clipped_gradient_is_named(limit):
    report = check_grad(lambda x: (x**2).sum(), lambda x: np.clip(2 * x, -limit, limit), 4 * normal(4, 3))
    assert f"every wrong entry is ±{limit:g}: clipped" in report.causes[0]
    by_norm = lambda x: 2 * x * limit / np.linalg.norm(2 * x)  # noqa: E731
    report = check_grad(lambda x: (x**2).sum(), by_norm, 4 * normal(4, 3))
    assert f"its norm is {limit:g}: clipped by norm" in report.causes[0]


def test_counts_that_are_too_small_are_no_clipping():
    """The hinge loss with -1 for the right class, where minus the number of violated margins is due."""
    x = 0.3 * np.random.default_rng(3).standard_normal((5, 4))
    rows, classes = np.arange(5), np.array([0, 3, 1, 2, 2])

    def margins(x):
        found = np.maximum(0, x - x[rows, classes][:, None] + 1.0)
        found[rows, classes] = 0
        return found

    def gradient(x):
        dx = (margins(x) > 0).astype(float)
        dx[rows, classes] -= 1
        return dx / 5

    report = check_grad(lambda x: margins(x).sum() / 5, gradient, x)
    assert report.rows[0].verdict == "FAIL"
    assert report.causes
    assert not any("clipped" in cause for cause in report.causes), report.causes


def softmax_forward(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    return p, p


def test_the_diagonal_in_place_of_a_whole_jacobian_is_named():
    report = check_vjp(softmax_forward, lambda d, p: d * p * (1 - p), (normal(4, 3),))
    assert "only the diagonal of the Jacobian" in report.causes[0]


def test_the_forgotten_gradient_of_one_output_is_named():
    def forward(x, W):
        return (np.tanh(x @ W), x @ W), (x, W)

    def backward(dout, cache, second=1.0):
        x, W = cache
        d = dout[0] * (1 - np.tanh(x @ W) ** 2) + second * dout[1]
        return d @ W.T, x.T @ d

    inputs = (normal(4, 3), normal(3, 2))
    assert check_vjp(forward, backward, inputs).passed
    report = check_vjp(forward, lambda d, c: backward(d, c, 0.0), inputs)
    assert report.causes == ["x, W: the gradient through output 1 is missing"]


@pytest.mark.parametrize("axes", [(0, 2, 3, 1), (1, 0, 2, 3), (0, 1, 3, 2)])
def test_right_values_at_other_places_are_named(axes):
    shape = (2, 3, 4, 5)

    def wrong(dout, x):
        return np.ascontiguousarray((2 * x * dout).transpose(axes)).reshape(shape)

    report = check_vjp(lambda x: (x**2, x), wrong, (normal(*shape),))
    assert "the values are right and at other places: a reshape where a transpose is due" in report.causes[0]


def norm_forward(x, eps=1e-5):
    mu, var = x.mean(axis=0), x.var(axis=0)
    xhat = (x - mu) / np.sqrt(var + eps)
    return xhat, (x, mu, var)


def norm_backward(dout, cache, eps=1e-5):
    x, mu, var = cache
    xhat = (x - mu) / np.sqrt(var + eps)
    return (dout - dout.mean(axis=0) - xhat * (dout * xhat).mean(axis=0)) / np.sqrt(var + eps)


def test_a_missing_term_in_x_minus_its_mean_is_named():
    x = 3 + 2 * normal(6, 3)
    assert check_vjp(norm_forward, norm_backward, (x,)).passed

    def without_variance(dout, cache):
        _, _, var = cache
        return (dout - dout.mean(axis=0)) / np.sqrt(var + 1e-5)

    report = check_vjp(norm_forward, without_variance, (x,))
    assert "times x - mean" in report.causes[0]
    assert "missing or wrong" in report.causes[0]


def test_another_epsilon_in_backward_is_named():
    def other(dout, cache, eps=1e-2):
        return norm_backward(dout, cache, eps)

    report = check_vjp(norm_forward, other, (normal(6, 3),))
    assert report.causes == ["x: right with 1e-05 in place of 0.01 (eps): backward has another constant than forward"]

    def leaky_forward(x):
        return np.where(x > 0, x, 0.01 * x), x

    def leaky_backward(dout, x):
        return np.where(x > 0, dout, 0.1 * dout)

    report = check_vjp(leaky_forward, leaky_backward, (normal(4, 3),))
    assert "right with 0.01 in place of 0.1" in report.causes[0]


def gates_forward(x, W):
    a = x @ W
    i, f, g = np.split(a, 3, axis=1)
    s = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    return s(i) * np.tanh(g) + s(f), (x, W, i, f, g)


def gates_backward(dout, cache, wrong=False):
    x, W, i, f, g = cache
    s = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    di = dout * np.tanh(g) * s(i) * (1 - s(i))
    df = dout * s(f) * (1 - s(f)) * (0.5 if wrong else 1.0)
    dg = dout * s(i) * (1 - np.tanh(g) ** 2)
    da = np.concatenate([di, df, dg], axis=1)
    return da @ W.T, x.T @ da


def test_a_wrong_gate_is_named_and_explains_what_follows_from_it():
    inputs = (normal(4, 3), normal(3, 6))
    assert check_vjp(gates_forward, gates_backward, inputs).passed
    report = check_vjp(gates_forward, lambda d, c: gates_backward(d, c, wrong=True), inputs)
    assert len(report.causes) == 1, report.causes
    assert "block 2 of 3 (columns 2 to 3)" in report.causes[0]


def scan_forward(x, U):
    h, states = np.zeros(U.shape[0]), []
    for row in x:
        h = np.tanh(row + h @ U)
        states.append(h)
    return np.array(states), (x, U, np.array(states))


def scan_backward(dout, cache, first=0):
    x, U, states = cache
    dx, dU, dh = np.zeros_like(x), np.zeros_like(U), np.zeros(len(U))
    for t in reversed(range(len(x))):
        da = (dout[t] * (t >= first) + dh) * (1 - states[t] ** 2)
        dx[t] = da
        if t:
            dU += np.outer(states[t - 1], da)
        dh = da @ U.T
    return dx, dU


def test_a_forgotten_time_step_is_named():
    inputs = (normal(5, 3), 0.5 * normal(3, 3))
    assert check_vjp(scan_forward, scan_backward, inputs).passed
    report = check_vjp(scan_forward, lambda d, c: scan_backward(d, c, first=1), inputs)
    assert report.causes == ["x: it is wrong only at some entries: the first row (0), 3 of 15 looked at"]
    whole = lambda x, U: (scan_forward(x, U)[0], (x, U, scan_forward(x, U)[0]))  # noqa: E731
    last = lambda d, c: scan_backward(d * np.array([1, 1, 1, 1, 0])[:, None], c)  # noqa: E731
    report = check_vjp(whole, last, inputs, wrt="U")
    assert report.causes == ["U: the contribution of batch row 4 (the last) is missing"]


# --- what is differentiated -------------------------------------------------------------------------------------------


def batchnorm_forward(x, gamma, beta, settings):
    mu, var = x.mean(axis=0), x.var(axis=0)
    settings["running_mean"] = 0.9 * settings["running_mean"] + 0.1 * mu
    xhat = (x - mu) / np.sqrt(var + settings["eps"])
    return gamma * xhat + beta, (xhat, gamma, var + settings["eps"])


def batchnorm_backward(dout, cache):
    xhat, gamma, var = cache
    d = dout * gamma
    dx = (d - d.mean(axis=0) - xhat * (d * xhat).mean(axis=0)) / np.sqrt(var)
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)


def test_running_statistics_in_a_dictionary_of_settings_are_not_differentiated():
    settings = {"mode": "train", "eps": 1e-5, "running_mean": np.zeros(3)}
    report = check_vjp(batchnorm_forward, batchnorm_backward, (normal(6, 3), normal(3), normal(3, seed=1), settings))
    assert report.passed, str(report)
    assert [row.tensor for row in report.rows if row.verdict == "ok"] == ["x", "gamma", "beta"]


def test_none_for_an_input_that_does_not_matter_is_right_and_wrt_is_mentioned():
    def forward(x, w, running):
        return x * w, (x, w)

    def backward(dout, cache):
        x, w = cache
        return dout * w, dout * x

    inputs = (normal(3), normal(3, seed=1), normal(3, seed=2))
    assert check_vjp(forward, lambda d, c: (*backward(d, c), None), inputs).passed
    assert check_vjp(forward, backward, inputs).passed
    report = check_vjp(lambda x, w, b: (x * w + b, (x, w)), backward, inputs)
    assert not report.passed
    assert "wrt=('x', 'w')" in str(report)


# --- calls that were meant differently --------------------------------------------------------------------------------


def test_methods_of_a_layer_get_the_call_to_use():
    layer = Dense()
    with pytest.raises(InputError, match=r"^forward: got two methods of one Dense, .*; call assert_layer\(layer, x\)"):
        assert_grad(layer.forward, layer.backward, (normal(4, 3),))
    with pytest.raises(InputError, match="assert_layer"):
        check_vjp(layer.forward, layer.backward, (normal(4, 3),))


def test_integers_by_accident_get_a_line_that_says_what_to_pass():
    with pytest.raises(InputError, match=r"x: got int64, which has no derivative, expected floating-point numbers"):
        check_grad(lambda x: (x**2).sum(), lambda x: 2 * x, np.array([1, 2, 3]))
    with pytest.raises(InputError, match="x: got int, which has no derivative"):
        check_grad(lambda x: x**2, lambda x: 2 * x, 3)
    with pytest.raises(InputError, match="x: got int64, which has no derivative"):
        check_vjp(lambda x: (x * 2.0, None), lambda d, _: 2 * d, (np.array([1, 2, 3]),))


# --- time and headlines -----------------------------------------------------------------------------------------------


def convolution(x, w):
    """Return the valid convolution of images (N, C, H, W) with filters (F, C, 3, 3), and what backward needs."""
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    return np.einsum("nchwij,fcij->nfhw", windows, w, optimize=True), (x, w, windows)


def convolution_backward(dout, cache):
    _, w, windows = cache
    dw = np.einsum("nfhw,nchwij->fcij", dout, windows, optimize=True)
    padded = np.pad(dout, ((0, 0), (0, 0), (2, 2), (2, 2)))
    wide = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], axis=(2, 3))
    return np.einsum("nfhwij,fcij->nchw", wide, w[:, :, ::-1, ::-1], optimize=True), dw


class Clock:
    """A clock that only calls move: as many seconds for each as they take at full size.

    A complex call takes four times as long; `extra` is what the work on the results of two calls takes.
    """

    def __init__(self, monkeypatch, forward: float) -> None:
        self.time, self.calls, self.price, self.extra = 0.0, 0, forward, 0.0
        monkeypatch.setattr(budget, "now", lambda: self.time)
        slopes = differences.Line.slopes

        def slow_slopes(line, h):
            self.time += self.extra
            return slopes(line, h)

        monkeypatch.setattr(differences.Line, "slopes", slow_slopes)

    def pair(self, forward, backward):
        def slow_forward(x, w):
            self.calls += 1
            self.time += self.price * (4 if np.iscomplexobj(x) or np.iscomplexobj(w) else 1)
            return forward(x, w)

        def slow_backward(dout, cache):
            self.time += 3 * self.price
            return backward(dout, cache)

        return slow_forward, slow_backward


# A convolution (64, 32, 28, 28) with (64, 32, 3, 3) takes 0.2 s to 0.6 s forward, and three times that backward.
@pytest.mark.parametrize("extra", [0.0, 1.0])
@pytest.mark.parametrize("forward_seconds", [0.02, 0.05, 0.2, 0.6])
def test_the_time_limit_holds_for_slow_functions(monkeypatch, forward_seconds, extra):
    clock = Clock(monkeypatch, forward_seconds)
    clock.extra = extra * forward_seconds
    inputs = (normal(8, 4, 8, 8), normal(6, 4, 3, 3, seed=1))
    report = check_vjp(*clock.pair(convolution, convolution_backward), inputs, seconds=10)
    one_derivative = 4 * forward_seconds * (1 + extra / 2)
    assert report.passed, str(report)
    assert clock.time <= 10 + one_derivative
    assert clock.calls <= 10 / forward_seconds
    assert "sampled to end within 10 s" in notes_of(report)
    assert "a mistake in few entries" in notes_of(report)

    def wrong(dout, cache):
        dx, dw = convolution_backward(dout, cache)
        return 1.01 * dx, dw

    clock.time = 0.0
    report = check_vjp(*clock.pair(convolution, wrong), inputs, seconds=10)
    assert clock.time <= 10 + one_derivative
    assert row_of(report, "x").verdict == "FAIL"
    assert row_of(report, "w").verdict == "ok"


def test_without_time_a_curvature_of_zero_is_not_taken_for_precision(monkeypatch):
    """At zero the one-sided slopes of x + x^3 agree at any step, and both are wrong by the square of the step."""
    clock = Clock(monkeypatch, 0.9)
    forward, backward = clock.pair(lambda x, w: (w * (x + x**3), (x, w)), lambda d, c: (d * c[1], 0 * d))
    report = check_vjp(forward, backward, (np.zeros(3), np.ones(3)), seconds=10, wrt="x")
    assert row_of(report, "x").verdict != "FAIL", str(report)


def test_gradients_of_zero_get_an_honest_headline():
    p = lambda x: softmax_forward(x)[0].sum(axis=1)  # noqa: E731
    noise = lambda d, x: 1e-17 * np.ones((4, 3))  # noqa: E731
    report = check_vjp(lambda x: (p(x), x), noise, (normal(4, 3),), methods="central")
    assert report.passed
    assert report.max_error < 1e-6
    zero = check_vjp(lambda x: (0 * x, None), lambda d, _: 0 * d, (normal(3),))
    assert zero.headline() == "<lambda>: passed (gradient of x zero here, which shows little, seed 0)"
