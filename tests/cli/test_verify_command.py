"""`vae-np verify` on the package itself: its rows, its JSON, its exit codes, and that a mistake turns it red.

Budget: about 15 s, most of it one run of the checks on the reference with three models; tests/verify has all of them.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import validate

from vae_np import backends, cli, layers, ops
from vae_np.elbo import FORMS
from vae_np.objectives import OBJECTIVES
from vae_np.verify import against_autodiff, catalogue, runner
from vae_np.verify.runner import Row

# Of the models that the command checks.
MODELS = 3


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        content = json.loads(self.out)
        validate(content)
        return content


def command(*arguments: str) -> Result:
    """`vae-np` with these arguments, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["vae-np", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return Result(int(ended.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def verified() -> Result:
    """A real run on the reference with few models: tests/verify checks all of them, and the kernels."""
    models = catalogue.models
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "present", lambda: ["numpy"])
        patch.setattr(catalogue, "models", lambda *a, **k: itertools.islice(models(*a, **k), MODELS))
        patch.setattr(against_autodiff, "ARCHITECTURES", against_autodiff.ARCHITECTURES[:1])
        return command("verify", "--json", "-", "--against", "autograd")


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers, distributions, operations and closed forms only: the quick part."""
    monkeypatch.setattr(backends, "present", lambda: ["numpy"])
    monkeypatch.setattr(catalogue, "models", lambda *_, **__: iter(()))


@pytest.fixture
def few_pairs(no_models: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pairs of each kind, and no models."""
    for kind in ("layer", "distribution", "likelihood", "posterior", "layer_above", "prior", "operation"):
        pairs = getattr(catalogue, f"{kind}_pairs")

        def two(*where: Any, pairs: Any = pairs) -> Iterator[Any]:
            return itertools.islice(pairs(*where), 2)

        monkeypatch.setattr(catalogue, f"{kind}_pairs", two)


GOOD = Row("good", "numpy", "complex step", 1e-16, True)
BAD = Row("bad", "numpy", "closed form", float("nan"), False, "at (3,): 0.0, expected 1.0")


def stub_rows(monkeypatch: pytest.MonkeyPatch, *rows: Row) -> list[dict[str, Any]]:
    """Replace the checks by these rows; returns what the command asks for."""
    asked: list[dict[str, Any]] = []

    def stub(**arguments: Any) -> Iterator[Row]:
        asked.append(arguments)
        yield from rows

    monkeypatch.setattr(runner, "rows", stub)
    return asked


# --- A run that passes ------------------------------------------------------------------------------------------


def test_the_package_verifies(verified: Result) -> None:
    assert verified.code == 0, verified.err
    assert verified.json["failed"] == 0


def test_the_json_has_the_promised_fields(verified: Result) -> None:
    found = verified.json
    assert found["schema"] == "vae-np/verify/1"
    assert found["failed"] + found["passed"] == len(found["checks"]) > 100
    assert 0 < found["seconds"] < 600
    for check in found["checks"]:
        kinds = {"name": str, "backend": str, "method": str, "max_rel_error": float, "passed": bool, "detail": str}
        assert {key: type(value) for key, value in check.items()} == kinds
        assert check["backend"] == "numpy"
    names = [(check["name"], check["backend"], check["method"]) for check in found["checks"]]
    assert len(set(names)) == len(names)


def test_standard_output_is_json_alone_and_the_table_goes_beside_it(verified: Result) -> None:
    assert verified.out.startswith("{")
    assert "max rel error" in verified.err
    assert f"{verified.json['passed']} passed, 0 failed in" in verified.err


def test_every_kind_of_check_is_a_row(verified: Result) -> None:
    rows = verified.json["checks"]
    assert sum(check["name"].startswith("model") and check["method"] == "complex step" for check in rows) == MODELS
    pairs = [*catalogue.layer_pairs(0), *catalogue.distribution_pairs(0), *catalogue.operation_pairs(ops, 0)]
    assert {pair.name for pair in pairs} <= {check["name"] for check in rows}
    assert sum(check["method"] == "closed form" for check in rows) == len(runner.CLOSED_FORMS)


def test_against_adds_a_row_for_every_tensor(verified: Result) -> None:
    rows = [check for check in verified.json["checks"] if check["method"] == "autodiff (autograd)"]
    tensors = len(against_autodiff.ARCHITECTURES[0].shapes())
    # The ELBO in each of its forms, and every other objective.
    assert len(rows) == (len(FORMS) + len(OBJECTIVES) - 1) * tensors
    assert max(check["max_rel_error"] for check in rows) < 1e-10


# --- A run that fails -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_models")
def test_a_broken_backward_fails_by_name_with_exit_1(monkeypatch: pytest.MonkeyPatch) -> None:
    forward, backward = layers.ACTIVATIONS["tanh"]
    monkeypatch.setitem(layers.ACTIVATIONS, "tanh", (forward, lambda dy, cache: -backward(dy, cache)))
    result = command("verify", "--json", "-")
    assert result.code == 1
    failed = {check["name"] for check in result.json["checks"] if not check["passed"]}
    means = {"dreg has the mean of the bounds gradient", "the score function has the mean of the elbos gradient"}
    # The flow's network has hidden units of tanh, and so have the networks of a second stochastic layer.
    pairs = {"tanh", "mlp, tanh", "affine_act, tanh", "binary_affine_act, tanh", "draw of q, iaf"}
    pairs |= {"log p(z) by the layer above, tanh", "z by the layer above, tanh"}
    # A VampPrior's components are what an encoder with tanh makes of pseudo-inputs.
    pairs |= {"log p(z), vamp, bernoulli"}
    assert failed == pairs | means
    assert result.json["failed"] == len(failed)
    assert result.json["passed"] == len(result.json["checks"]) - len(failed)
    assert "sign" in next(check["detail"] for check in result.json["checks"] if check["name"] == "tanh")
    assert "affine_act, tanh (numpy):" in result.err


def test_a_small_mistake_in_a_smooth_function_fails_though_a_difference_would_pass_it() -> None:
    pair = next(pair for pair in catalogue.distribution_pairs(0) if pair.name == "normal_kl")
    off = replace(pair, backward=lambda dkl, cache: tuple(g * (1 + 5e-12) for g in pair.backward(dkl, cache)))
    assert runner._pair_row(pair, "numpy", 0).passed
    assert runner._pair_row(replace(off, smooth=False), "numpy", 0).passed
    row = runner._pair_row(off, "numpy", 0)
    assert not row.passed
    assert row.detail.startswith("smooth, so the error must be at most 1e-12")


@pytest.mark.usefixtures("few_pairs")
def test_a_check_that_raises_is_a_failed_row_and_the_others_still_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def adam_by_scalars(backend: Any, seed: int) -> Any:
        raise TypeError("no such kernel")

    others = tuple(form for form in runner.CLOSED_FORMS if form.__name__ != "adam_by_scalars")
    monkeypatch.setattr(runner, "CLOSED_FORMS", (adam_by_scalars, *others))
    result = command("verify", "--json", "-")
    assert result.code == 1
    (failed,) = (check for check in result.json["checks"] if not check["passed"])
    assert (failed["name"], failed["max_rel_error"]) == ("adam by scalars", None)
    assert failed["detail"] == "raised TypeError: no such kernel"
    assert sum(check["method"] == "closed form" for check in result.json["checks"]) == len(others) + 1


@pytest.mark.parametrize(
    ("value", "exact", "passed"),
    [
        (1.0 + 1e-13, 1.0, True),
        (1.0 + 1e-11, 1.0, False),
        (np.nan, 1.0, False),
        (1.0, np.nan, False),
        (np.inf, 1.0, False),
        ([0.0, 0.0], [0.0, 0.0], True),
        ([0.0, 1e-11], [0.0, 0.0], False),
        ([1e3, 1e-10], [1e3, 0.0], True),
        ([1.0, 1.0], 1.0, False),
        ([1.0, 1.0], [1.0, 1.0, 1.0], False),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_comparison_with_an_exact_value(value: Any, exact: Any, passed: bool) -> None:
    row = runner._compared("name", "numpy", "closed form", value, exact, 1e-12)
    assert row.passed is passed
    assert bool(row.detail) is not passed


# --- The command ------------------------------------------------------------------------------------------------


def test_exit_code_counts_and_text(monkeypatch: pytest.MonkeyPatch) -> None:
    stub_rows(monkeypatch, GOOD)
    good = command("verify")
    assert (good.code, "1 passed, 0 failed in" in good.out) == (0, True)
    stub_rows(monkeypatch, GOOD, BAD)
    bad = command("verify")
    assert (bad.code, "1 passed, 1 failed in" in bad.out) == (1, True)
    assert "bad (numpy): at (3,): 0.0, expected 1.0" in bad.out
    assert "FAIL" in bad.out


def test_an_error_that_is_not_a_number_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    stub_rows(monkeypatch, BAD)
    (check,) = command("verify", "--json", "-").json["checks"]
    assert check["max_rel_error"] is None
    assert check["passed"] is False


def test_json_to_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stub_rows(monkeypatch, GOOD, BAD)
    target = tmp_path / "new" / "verify.json"
    result = command("verify", "--json", str(target))
    assert result.code == 1
    assert "1 passed, 1 failed" in result.out
    content = json.loads(target.read_text(encoding="utf-8"))
    assert [check["name"] for check in content["checks"]] == ["good", "bad"]
    assert (content["passed"], content["failed"]) == (1, 1)


def test_options_reach_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = stub_rows(monkeypatch, GOOD)
    command("verify")
    command("verify", "--full", "--seed", "7", "--against", "jax")
    assert asked == [
        {"seed": 0, "full": False, "library": None},
        {"seed": 7, "full": True, "library": "jax"},
    ]


@pytest.mark.usefixtures("few_pairs")
def test_full_checks_every_pair_at_several_points_of_which_the_first_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CLOSED_FORMS", ())

    def rows(**arguments: Any) -> list[Row]:
        return list(runner.rows(**arguments))

    first, full = rows(seed=4), rows(seed=4, full=True)
    assert len(first) == 2 * 7
    assert len(full) == 3 * len(first)
    assert set(first) < set(full)


@pytest.mark.parametrize("arguments", [["--against", "tensorflow"], ["--against", ""], ["--against", "Torch"]])
def test_against_an_unknown_library_is_one_line_with_exit_2(arguments: list[str]) -> None:
    result = command("verify", "--json", "-", *arguments)
    assert (result.code, result.out) == (2, "")
    expected = f"vae-np: against: got {arguments[1]!r}, expected one of torch, jax, autograd"
    assert result.err.strip().splitlines() == [expected]


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_against_a_missing_library_is_one_line_with_exit_2(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    result = command("verify", "--against", library)
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.strip().splitlines()
    assert line.startswith(f"vae-np: against: {library} cannot be imported")
    assert line.endswith("pip install '.[bench]' brings it")


@pytest.mark.parametrize("seed", ["-1", "x", "18446744073709551616"])
def test_a_seed_that_is_none_is_one_line_with_exit_2(seed: str) -> None:
    result = command("verify", "--seed", seed)
    assert (result.code, result.out) == (2, "")
    (line,) = result.err.strip().splitlines()
    assert line.startswith("vae-np: seed: got")
