"""The report and the diagnosis: each kind of mistake is named for what it is.

Budget: about 1 s.
"""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gradcheck_pairs import (
    X,
    affine_backward,
    affine_forward,
    affine_inputs,
    normal,
    row_of,
    softmax_forward,
    tanh_backward,
    tanh_forward,
)

from vae_np.gradcheck import check_grad, check_vjp

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


# --- the report -------------------------------------------------------------------------------------------------------


def failing_report():
    def wrong(dout, cache):
        dx, dW, _ = affine_backward(dout, cache)
        return dx, 2 * dW, dout

    return check_vjp(affine_forward, wrong, affine_inputs(), seed=7)


def test_the_table_is_aligned_and_complete():
    lines = str(failing_report()).splitlines()
    assert lines[0] == "affine: FAILED (W, b; seed 7)"
    header, rule, *rows = lines[1:6]
    assert header.split() == ["tensor", "shape", "method", "max", "error", "index", "analytic", "numeric", "verdict"]
    assert set(rule) == {"-", " "}
    verdict = header.index("verdict")
    assert [row[verdict:] for row in rows] == ["ok", "FAIL", "FAIL"]
    text = "\n".join(lines)
    assert "tolerance: rtol 1.0e-10, atol 0.0e+00, scale x" in text
    assert "likely cause: W: it is 2 times the numeric gradient everywhere" in text
    assert "likely cause: b: the sum over the batch (axis 0) is missing" in text
    assert "reproduce (seed 7):" in text
    assert "print(check_vjp(affine_forward, wrong, inputs, seed=7))" in text


def test_the_same_seed_gives_the_same_report_and_another_another():
    first, again = str(failing_report()), str(failing_report())
    assert first == again
    other = check_vjp(affine_forward, affine_backward, affine_inputs(), seed=8)
    assert (
        row_of(other, "W").numeric != row_of(check_vjp(affine_forward, affine_backward, affine_inputs()), "W").numeric
    )


def test_the_snippet_repeats_the_options_that_were_asked_for():
    report = check_vjp(
        affine_forward, affine_backward, affine_inputs(), wrt=["W"], methods="central", rtol=1e-6, seed=3
    )
    *imports, call = report.snippet.splitlines()
    assert imports == [
        "from vae_np.gradcheck import check_vjp",
        "from gradcheck_pairs import affine_forward, affine_backward",
    ]
    assert (
        call
        == "print(check_vjp(affine_forward, affine_backward, inputs, methods='central', rtol=1e-06, wrt=['W'], seed=3))"
    )


def test_json_holds_the_numbers_and_null_for_what_is_not_finite():
    data = json.loads(failing_report().to_json())
    assert data["schema"] == "vae_np.gradcheck"
    assert data["version"] == 1
    assert not data["passed"]
    assert data["rows"][1]["max_rel_error"] == pytest.approx(0.5)
    assert data["rows"][1]["verdict"] == "FAIL"
    assert data["rows"][2]["max_rel_error"] is None
    assert data["seed"] == 7
    nan = check_vjp(tanh_forward, lambda d, o: d * np.nan, (X,))
    assert json.loads(nan.to_json())["rows"][0]["analytic"] is None


def test_html_escapes_what_it_shows():
    report = check_vjp(tanh_forward, lambda d, o: d, (X,), names=["<x>"], name="a<b")
    page = report._repr_html_()
    assert "<table>" in page
    assert "&lt;x&gt;" in page
    assert "<x>" not in page
    assert "a&lt;b" in page


# --- the diagnosis ----------------------------------------------------------------------------------------------------


def diagnose_affine(change, **sizes):
    report = check_vjp(affine_forward, lambda d, c: change(*affine_backward(d, c)), affine_inputs(**sizes))
    assert not report.passed
    return report.causes


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda dx, dW, db: (dx, -dW, db), "W: the sign is wrong everywhere"),
        (lambda dx, dW, db: (dx, dW / 2, db), "W: it is 1/2 times the numeric gradient everywhere: a constant factor"),
        (
            lambda dx, dW, db: (dx, -3 * dW, db),
            "W: it is 3 times the numeric gradient everywhere: a constant factor, and the sign",
        ),
        (lambda dx, dW, db: (dx, dW * 5, db), "5 is the batch size: a sum where the mean is due"),
        (lambda dx, dW, db: (dx, dW / 5, db), "5 is the batch size: a mean where the sum is due"),
        (lambda dx, dW, db: (dx, dW / 15, db), "15 is the number of outputs"),
        (lambda dx, dW, db: (dx, dW * np.log(2), db), "ln 2"),
        (lambda dx, dW, db: (dx, dW * 0, db), "W: the gradient is zero everywhere"),
        (lambda dx, dW, db: (dx, dW.T, db), "W: the gradient is transposed"),
        (lambda dx, dW, db: (dx, dW.ravel(), db), "reshape to (4, 3)"),
        (lambda dx, dW, db: (dx, dW.T.reshape(4, 3), db), "reshaped where it should be transposed"),
        (lambda dx, dW, db: (dx, np.abs(dW), db), "an absolute value"),
        (lambda dx, dW, db: (dx, dW + 0.25, db), "a constant, 1/4, is added to every entry"),
        (lambda dx, dW, db: (dx, dW * (1 + 1e-8), db), "W: it agrees to 8 digits"),
        (lambda dx, dW, db: (dx, dW * np.arange(1, 4), db), "W: it is wrong only at some entries"),
        (lambda dx, dW, db: (dx, dW * np.arange(2, 5), db), "one factor per column"),
        (lambda dx, dW, db: (dx, dW * np.tri(4, 3), db), "above the diagonal"),
        (lambda dx, dW, db: (dx, dW.sum(axis=0), db), "a sum runs over an axis that the tensor keeps"),
        (lambda dx, dW, db: (dx, db, dW), "W: this is the gradient of b; the order"),
    ],
)
def test_the_cause_is_named(change, cause):
    assert any(cause in line for line in diagnose_affine(change)), diagnose_affine(change)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (np.s_[0, :], "the first row (0)"),
        (np.s_[-1, :], "the last row (3)"),
        (np.s_[:, 1], "column (1)"),
        (np.s_[:, 1:], "the last 2 columns"),
        (np.s_[2, 0], "index [2, 0]"),
        (np.s_[-1, -1], "index [3, 2] (the last)"),
    ],
)
def test_the_place_of_wrong_entries_is_named(part, text):
    def change(dx, dW, db):
        dW = dW.copy()
        dW[part] *= 1.5
        return dx, dW, db

    assert any(text in line for line in diagnose_affine(change)), diagnose_affine(change)


@pytest.mark.parametrize(
    ("backward", "cause"),
    [
        (lambda d, c: d[0], "only batch row 0 (the first) contributes"),
        (lambda d, c: d[2], "only batch row 2 contributes"),
        (lambda d, c: d[1:].sum(axis=0), "the contribution of batch row 0 (the first) is missing"),
        (lambda d, c: d[:-1].sum(axis=0), "the contribution of batch row 4 (the last) is missing"),
        (lambda d, c: d.sum(), "a sum runs over an axis"),
        (lambda d, c: d[:, None, :], "the sum over axes 0, 1 is missing"),
    ],
)
def test_a_missing_sum_over_the_batch_is_named(backward, cause):
    x = normal(5, 3)
    report = check_vjp(lambda b: (x + b, None), backward, (normal(3, seed=2),))
    assert any(cause in line for line in report.causes), report.causes


def test_missing_terms_are_named():
    kl = lambda mu: (0.5 * (mu**2).sum() + np.sin(mu).sum(), mu)  # noqa: E731
    report = check_vjp(kl, lambda d, mu: d * (2 * mu + np.cos(mu)), (normal(4, 3),))
    assert "times mu is too much" in report.causes[0]
    report = check_vjp(softmax_forward, lambda d, p: d * p, (normal(4, 3),))
    assert "constant along axis 1" in report.causes[0]
    residual = check_vjp(lambda x: (x + np.tanh(x), np.tanh(x)), tanh_backward, (normal(4, 3),))
    assert residual.causes == ["x: a term 1 times the upstream gradient is missing"]


def test_a_clamp_on_one_side_is_named():
    forward = lambda x: (np.where(x > 0.5, 0.5, x), x)  # noqa: E731
    report = check_vjp(forward, lambda d, x: d, (normal(4, 3),))
    assert "forward masks or clamps what backward lets through" in report.causes[0]
    report = check_vjp(tanh_forward, lambda d, o: tanh_backward(d, o) * (o > 0), (normal(4, 3),))
    assert "where the input is negative" in report.causes[0]
    assert "backward masks or clamps what forward lets through" in report.causes[0]


def test_without_a_pattern_the_two_are_compared_as_vectors():
    wrong = lambda d, o: tanh_backward(d, o) + 0.2 * np.cos(np.arange(12.0)).reshape(4, 3) * d  # noqa: E731
    report = check_vjp(tanh_forward, wrong, (normal(4, 3),))
    assert "cosine with the numeric gradient 0." in report.causes[0]


def test_a_single_number_off_by_any_factor_gets_no_invented_cause():
    report = check_grad(np.exp, lambda x: 1.234567 * np.exp(x), 0.3)
    assert not report.passed
    assert report.causes == []


PLANTED = {
    "sign": "logits: the sign is wrong everywhere",
    "quarter_for_half": "logvar: it is 1/2 times the numeric gradient everywhere: a constant factor (like -1/4",
    "no_batch_sum": "b: the sum over the batch (axis 0) is missing",
    "last_row_only": "b: only batch row 4 (the last) contributes; the sum over the batch is missing",
    "mean_for_sum": "W: it is 1/5 times the numeric gradient everywhere: a constant factor (5 is the batch size",
    "transposed": "W: the gradient is transposed",
    "fresh_noise": "logvar: backward draws fresh noise",
    "ignores_upstream": "x: backward ignores its upstream gradient",
    "never_computed": "W: the gradient is zero everywhere",
    "last_column": "W: it is wrong only at some entries: the last column (2)",
    "clamp": "x: it is wrong only at some entries: where the input is above",
    "swapped": "mu: this is the gradient of logvar; the order of the returned gradients is wrong",
    "softmax_term": "x: it is off by a term that is constant along axis 1",
    "not_finite": "x: not finite",
    "forgotten_path": "x: a term 1 times the upstream gradient is missing",
}


WARNED = {
    "in_place": "backward changes its input x in place",
    "wrong_dtype": "the gradient of x has dtype float32, expected float64",
}


@pytest.mark.parametrize("seed", [0, 1])
def test_each_planted_mistake_is_diagnosed(seed):
    module = runpy.run_path(str(EXAMPLES / "planted_mistakes.py"))
    names = [key.removesuffix("_forward") for key in module if key.endswith("_forward")]
    assert set(names) == {*PLANTED, *WARNED}
    for name in names:
        forward, backward, example = (module[name + ending] for ending in ("_forward", "_backward", "_example"))
        inputs = example(np.random.default_rng(seed))
        report = check_vjp(forward, backward, inputs, wrt=module.get(name + "_wrt"), seed=seed)
        if name in WARNED:
            assert WARNED[name] in report.warnings[0]
            assert not check_vjp(forward, backward, inputs, strict=True).passed
            continue
        assert not report.passed, name
        assert report.causes[0].startswith(PLANTED[name]), (name, report.causes)
        assert all(cause.split(":")[0] in PLANTED[name] or name == "swapped" for cause in report.causes), report.causes


def test_each_pair_of_the_homework_passes():
    module = runpy.run_path(str(EXAMPLES / "homework.py"))
    for name in (key.removesuffix("_forward") for key in module if key.endswith("_forward")):
        forward, backward, example = (module[name + ending] for ending in ("_forward", "_backward", "_example"))
        report = check_vjp(forward, backward, example(np.random.default_rng(1)), wrt=module.get(name + "_wrt"))
        assert report.passed, str(report)
        assert report.max_error < 1e-12


def test_the_checker_imports_numpy_and_nothing_heavier():
    code = (
        "import sys, vae_np.gradcheck; "
        "heavy = {'scipy', 'numba', 'cupy', 'matplotlib', 'typer', 'torch'}; "
        "print(*sorted({m.split('.')[0] for m in sys.modules} & heavy))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
