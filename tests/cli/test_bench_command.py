"""`vae-np bench` from a checkout: what it writes, what it refuses, what its checks catch; no time is asserted.

Budget: about 20 s.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from commandline import good, vae_np

from vae_np import backends, ops
from vae_np.cli import bench
from vae_np.cli.bench import _load as load
from vae_np.model import initialise

FIELDS = {
    "what": str, "workload": str, "backend": str, "median_ms": float, "q25_ms": float, "q75_ms": float,
    "rounds": int, "threads": int, "sparse": bool,
}  # fmt: skip
RATIOS = ("ratio_to_fastest_peer", "ratio_to_gemm_floor")
NEEDS_KERNELS = pytest.mark.skipif(backends.missing("numba") is not None, reason="the kernels are not here")
# In a process of their own the kernels may have to be compiled first.
BOTH = pytest.mark.parametrize("backend", ["numpy", pytest.param("numba", marks=[pytest.mark.slow, NEEDS_KERNELS])])


@BOTH
def test_a_step_beside_its_floors_and_as_a_picture(backend: str, tmp_path: Path) -> None:
    picture = tmp_path / "steps.png"
    how = ("--workload", "iwae", "--backend", backend, "--rounds", 1)
    content = good("bench", "step", *how, "--chart", picture, "--json", "-").json
    assert content["schema"] == "vae-np/bench/1"
    environment = content["environment"]
    assert {"cpu", "cores", "threads", "blas", "precision", "libraries"} <= set(environment)
    for result in content["results"]:
        assert set(result) == {*FIELDS, *RATIOS}
        assert all(isinstance(result[name], kind) for name, kind in FIELDS.items())
        assert 0 < result["q25_ms"] <= result["median_ms"] <= result["q75_ms"]
        assert (result["threads"], result["ratio_to_fastest_peer"]) == (environment["cores"], None)
    names = {(result["what"], result["backend"]): result for result in content["results"]}
    assert set(names) >= {("step", backend), ("step", "numpy"), ("step", "gemm only"), ("step", "triad")}
    assert names["step", "gemm only"]["ratio_to_gemm_floor"] == 1
    if backend == "numba":
        assert names["step", "numba"]["sparse"]
        assert names["step with binarisation", "numba"]["sparse"]
        assert not names["step", "numba dense"]["sparse"]
    assert set(environment["gemm_only"]) == {result["what"] for result in content["results"]}
    assert all(value > 0 for value in environment["bandwidth_gb_s"].values())
    assert set(environment["first_calls_ms"]["step"]) >= {backend, "numpy"}
    assert picture.read_bytes().startswith(b"\x89PNG")


@BOTH
def test_every_operation_is_timed(backend: str) -> None:
    how = ("--workload", "iwae", "--backend", backend, "--rounds", 1)
    content = good("bench", "ops", *how, "--json", "-").json
    assert {result["what"] for result in content["results"]} == set(ops.__all__)
    assert all(result[name] is None for result in content["results"] for name in RATIOS)


@pytest.mark.slow
def test_evaluation_is_timed_by_the_image() -> None:
    content = good("bench", "eval", "--workload", "iwae", "--rounds", 1, "--json", "-").json
    assert {result["backend"] for result in content["results"]} == {backends.choose().name, "numpy", "gemm only"}


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["pt-grey", "iwae"])
@pytest.mark.parametrize("peer", ["torch", "jax"])
def test_a_peer_takes_part(peer: str, workload: str) -> None:
    pytest.importorskip(peer)
    content = good("bench", "step", "--workload", workload, "--rounds", 1, "--peers", peer, "--json", "-").json
    ratios = [result["ratio_to_fastest_peer"] for result in content["results"] if result["backend"].startswith(peer)]
    assert min(ratios) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["all"], "what: got 'all', expected one of ops, step, eval"),
        (
            ["--workload", "big"],
            "workload: got 'big', expected one of pt, kingma, iwae, iwae50, wide, pt-grey, kingma-grey",
        ),
        (["--peers", "tinygrad"], "peers: got 'tinygrad', expected one of torch, jax"),
        (["--rounds", "0"], "rounds: got 0, expected a whole number >= 1"),
        (["eval", "--workload", "pt-grey"], "workload: got 'pt-grey', but evaluation is timed for a Bernoulli "
         "likelihood alone"),
        (["--chart", "steps.pdf"], "chart: got 'steps.pdf', expected the name of a .png file in a folder that is "
         "there"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_refused_by_name(arguments: list[str], message: str) -> None:
    result = vae_np("bench", *arguments)
    assert (result.code, result.err) == (2, f"vae-np: {message}\n")


def test_operations_have_no_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: "there")
    result = vae_np("bench", "ops", "--peers", "jax")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert result.err.startswith("vae-np: peers: got 'jax', but single operations")


def test_more_threads_than_there_are_is_one_line() -> None:
    result = vae_np("bench", "--threads", 4096)
    assert result.code == 2
    assert result.err.startswith("vae-np: threads: got 4096, expected a whole number from 1 to ")


def test_outside_a_checkout_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench.vae_np, "__file__", str(tmp_path / "vae_np" / "__init__.py"))
    result = vae_np("bench")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert result.err.startswith("vae-np: bench: runs from a checkout only")


def test_contestants_that_differ_are_exit_1(monkeypatch: pytest.MonkeyPatch) -> None:
    interleaved = load("interleaved")

    def part(*arguments: object) -> None:
        raise interleaved.BenchError("step: loss of jax is 1, but of numba 2")

    monkeypatch.setattr(interleaved, "run", part)
    result = vae_np("bench")
    assert (result.code, result.err) == (1, "vae-np: step: loss of jax is 1, but of numba 2\n")


def entrant(name: str, value: float, error: float) -> Any:
    process = SimpleNamespace(ask=lambda *arguments: {"loss": [value, error]})
    return load("interleaved").Entrant(process, "step", name, 1, False, False, False)


def test_figures_must_agree_within_both_errors() -> None:
    interleaved = load("interleaved")
    interleaved._agree("step", [entrant("a", 1.0, 0.1), entrant("b", 1.15, 0.1)])
    with pytest.raises(interleaved.BenchError, match=r"^step: loss of b is 1.3, but of a 1$"):
        interleaved._agree("step", [entrant("a", 1.0, 0.1), entrant("b", 1.3, 0.1)])
    with pytest.raises(interleaved.BenchError, match="loss of b is nan"):
        interleaved._agree("step", [entrant("a", 1.0, 0.1), entrant("b", float("nan"), 0.1)])


def test_who_learns_nothing_or_another_loss_is_caught() -> None:
    contestants, workloads = load("contestants"), load("workloads")
    workload = workloads.WORKLOADS["iwae"]
    start = initialise(workload.arch, seed=workloads.SEED)
    with pytest.raises(contestants.CheckError, match="the loss went from"):
        contestants._learnt(workload, lambda: start)()
    with pytest.raises(contestants.CheckError, match="its loss is 1"):
        contestants._learnt(workload, lambda: start, lambda *arguments, **options: 1.0)()


@pytest.mark.parametrize("name", ["iwae", "pt-grey"])
@pytest.mark.parametrize("role", ["blas", pytest.param("ours", marks=NEEDS_KERNELS)])
def test_training_comes_as_far_on_every_path(role: str, name: str) -> None:
    contests = load("contestants").build(role, "step", name, "numba", 2)
    losses = []
    for one in (one for everyone in contests.values() for one in everyone.values() if one.check is not None):
        for _ in range(load("interleaved").CHECK_STEPS // one.steps):
            one.call()
        losses.append(one.check()["loss"])
    assert losses
    assert max(losses)[0] - min(losses)[0] < 2 * max(losses)[1]


def test_evaluations_agree_within_their_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    contestants = load("contestants")
    monkeypatch.setattr(contestants, "EVAL_SAMPLES", 200)
    found = {}
    for role in ("blas", "ours"):
        for name, one in contestants.build(role, "eval", "iwae", backends.choose().name, 1)["eval"].items():
            if one.check is not None:
                found[name] = one.check()["log p(x)"]
    (reference, error), (ours, its_error) = found["numpy"], found[backends.choose().name]
    assert abs(reference - ours) < error + its_error < 1


@pytest.mark.parametrize("peer", ["torch", "jax"])
@pytest.mark.parametrize("name", ["iwae", "pt-grey"])
def test_a_peer_has_the_reference_s_loss(peer: str, name: str) -> None:
    pytest.importorskip(peer)
    contests = load("contestants").build(peer, "step", name, "numba", 2)
    for one in (one for everyone in contests.values() for one in everyone.values()):
        with pytest.raises(load("contestants").CheckError, match="the loss went from"):
            one.check()


@pytest.mark.parametrize("by", ["rows", "columns"])
@pytest.mark.parametrize("name", ["iwae", "pt"])
def test_slabs_together_are_the_whole_product(name: str, by: str) -> None:
    workloads = load("workloads")
    products = workloads.step_products(workloads.WORKLOADS[name])
    workloads.gemm_in_slabs(products, 3, by, 1)()
    for a, b, out in products:
        assert np.abs(out - a @ b).max() < 1e-3 * np.abs(out).max()


def test_a_triad_is_one() -> None:
    a, b, c = (np.full(5, value, np.float32) for value in (0, 1, 2))
    load("triad")._triad(a, b, c, np.float32(0.5))
    assert a.tolist() == [2.0] * 5


def test_a_worker_is_held_to_its_threads_and_tells_what_fails() -> None:
    interleaved = load("interleaved")
    with interleaved.Process("blas", 1, print) as process:
        with pytest.raises(interleaved.BenchError, match=r"^blas ops big: KeyError: 'big'$"):
            process.ask("build", "ops", "big", "numpy")
        assert len(os.sched_getaffinity(process._process.pid)) == 1
        process._process.kill()
        with pytest.raises(interleaved.BenchError, match="the process of blas ended before its time"):
            process.ask("build", "ops", "pt", "numpy")


def test_a_chart_has_a_panel_for_each_thing_timed() -> None:
    row = {name: kind() for name, kind in FIELDS.items()} | dict.fromkeys(RATIOS)
    row |= {"median_ms": 2.0, "q25_ms": 1.5, "q75_ms": 3.0, "threads": 2, "workload": "pt"}
    rows = [{**row, "what": what, "backend": who} for what in ("step", "eval", "x") for who in ("numba", "jax")]
    panels = load("chart").figure(rows).axes
    assert [ax.get_title("left") for ax in panels if ax.axison] == ["step, pt", "eval, pt", "x, pt"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["numba", "jax"]


def test_a_whole_program_is_measured(tmp_path: Path) -> None:
    whole = load("whole_training")
    body = "x = bytearray(200_000_000)\nimport json\nprint(json.dumps({'test_elbo': -1.5}))"
    # From a process of its own: what is started inherits the peak of whoever starts it, here that of the whole suite.
    caller = (
        "import json, sys, whole_training\nfrom pathlib import Path\n"
        f"print(json.dumps(whole_training.run([sys.executable, '-c', {body!r}], 1, Path({str(tmp_path)!r}))))"
    )
    bench = Path(whole.__file__).parent
    said = subprocess.run([sys.executable, "-c", caller], cwd=bench, capture_output=True, text=True, check=True)
    found = json.loads(said.stdout)
    assert (found["test_elbo"], found["seconds"] > 0) == (-1.5, True)
    assert 190 < found["peak_mb"] < 400
    with pytest.raises(SystemExit, match="exit 3"):
        whole.run([sys.executable, "-c", "raise SystemExit(3)"], 1, tmp_path)


def test_programs_that_part_are_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = load("whole_training")
    elbos = {"vae-np train": -102.0, "jax": -102.4}
    monkeypatch.setattr(whole, "commands", lambda *given: {name: [name] for name in elbos})
    monkeypatch.setattr(
        whole,
        "run",
        lambda command, threads, cwd: {"seconds": 2.0, "peak_mb": 9.0, "test_elbo": elbos[command[0]]},
    )
    monkeypatch.setattr(sys, "argv", ["whole_training.py", "--rounds", "2", "--json", str(tmp_path / "w.json")])
    whole.main()
    assert capsys.readouterr().out.count("test ELBO") == 2
    assert json.loads((tmp_path / "w.json").read_text())["results"][0]["ratio_to_fastest_peer"] == 1
    elbos["jax"] = -102.6
    with pytest.raises(SystemExit, match="they do not do the same"):
        whole.main()
