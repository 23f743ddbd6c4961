"""`vae-np bench` from a checkout: what it writes, what it refuses, what its checks catch; no time is asserted.

Budget: about 30 s.
"""

from __future__ import annotations

import importlib
import importlib.util
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

FIELDS = {
    "what": str, "workload": str, "backend": str, "median_ms": float, "q25_ms": float, "q75_ms": float,
    "rounds": int, "threads": int, "sparse": bool,
}  # fmt: skip
RATIOS = ("ratio_to_fastest_peer", "ratio_to_gemm_floor")
NEEDS_KERNELS = pytest.mark.skipif(backends.missing("numba") is not None, reason="the kernels are not here")
# In a process of their own the kernels may have to be compiled first.
BOTH = pytest.mark.parametrize("backend", ["numpy", pytest.param("numba", marks=[pytest.mark.slow, NEEDS_KERNELS])])


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns of a few milliseconds: no time is asserted."""
    interleaved = load("interleaved")
    monkeypatch.setattr(interleaved, "WARM_SECONDS", 0.002)
    monkeypatch.setattr(interleaved, "TURN_SECONDS", 0.002)


@BOTH
@pytest.mark.usefixtures("brief")
def test_a_step_beside_its_floors_and_as_a_picture(backend: str, tmp_path: Path) -> None:
    picture = tmp_path / "steps.png"
    how = ("--workload", "iwae", "--backend", backend, "--rounds", 1, "--after", 10)
    content = good("bench", "step", *how, "--chart", picture, "--json", "-").json
    assert content["schema"] == "vae-np/bench/1"
    environment = content["environment"]
    assert {"cpu", "processor", "commit", "cores", "threads", "blas", "precision", "libraries"} <= set(environment)
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
        assert names["step after training", "numba"]["sparse"]
        assert names["step with binarisation", "numba"]["sparse"]
        assert not names["step", "numba dense"]["sparse"]
    assert {title: set(heats) for title, heats in environment["heats"].items()} == {
        result["what"]: {"gemm only"} for result in content["results"]
    }
    assert all(value > 0 for value in environment["bandwidth_gb_s"].values())
    assert set(environment["first_calls_ms"]["step"]) >= {backend, "numpy"}
    assert picture.read_bytes().startswith(b"\x89PNG")


@BOTH
@pytest.mark.usefixtures("brief")
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
    how = ("--workload", workload, "--rounds", 1, "--after", 20, "--peers", peer)
    content = good("bench", "step", *how, "--json", "-").json
    for title in {result["what"] for result in content["results"]}:
        theirs = [one for one in content["results"] if (one["what"], one["backend"][: len(peer)]) == (title, peer)]
        assert min(one["ratio_to_fastest_peer"] for one in theirs) == 1
        assert not any(one["sparse"] for one in theirs)
        flushed = {one["backend"] for one in theirs} & {"torch flushed"}
        assert bool(flushed) == (peer == "torch" and title == "step after training")


@pytest.mark.slow
@pytest.mark.skipif((why := backends.choose().precision_problem("bf16")) is not None, reason=str(why))
def test_reduced_steps_stand_beside_each_other() -> None:
    peers = [name for name in ("torch", "jax") if importlib.util.find_spec(name) is not None]
    how = ("--workload", "iwae", "--rounds", 1, "--after", 20, "--precision", "bf16", "--peers", ",".join(peers))
    content = good("bench", "step", *how, "--json", "-").json
    assert content["environment"]["precision"] == "bf16"
    named = {result["backend"] for result in content["results"]}
    ours = {name for name in named if name.startswith("numba")}
    assert "numba" in ours
    assert len(ours) > 1
    for name in named - ours:
        assert name.endswith((", autocast", "bf16"))
    assert all(result["ratio_to_gemm_floor"] is None for result in content["results"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["all"], "what: got 'all', expected one of ops, step, eval, profile"),
        (["--after", "0"], "after: got 0, expected a whole number >= 1"),
        (["eval", "--against", "HEAD"], "against: got 'HEAD', but only steps on the processor are compared with a "
         "revision's"),
        (["--against", "HEAD", "--chart", "a.png"], "chart: got 'a.png', but a comparison of revisions draws none"),
        (["profile", "--backend", "numpy"], "backend: got 'numpy', but only the fused step of numba has phases to "
         "profile"),
        (
            ["--workload", "big"],
            "workload: got 'big', expected one of pt, kingma, iwae, iwae50, wide, pt-grey, kingma-grey, "
            "two-layers, two-layers-iwae5",
        ),
        (["--peers", "tinygrad"], "peers: got 'tinygrad', expected one of torch, jax"),
        (["--rounds", "0"], "rounds: got 0, expected a whole number >= 1"),
        (["eval", "--workload", "pt-grey"], "workload: got 'pt-grey', but evaluation is timed for a Bernoulli "
         "likelihood alone"),
        (["eval", "--precision", "bf16"], "precision: got 'bf16', but only steps are timed in it, beside those of full "
         "products"),
        (["--backend", "numpy", "--precision", "bf16"], "precision: got 'bf16', but backend numpy has only full "
         "products"),
        (["--precision", "half"], "precision: got 'half', expected one of full, bf16, bf16x3"),
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
    assert result.err.startswith("vae-np: peers: got 'jax', but peers are timed by step and eval alone")


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

    def part(*arguments: object, **options: object) -> None:
        raise interleaved.BenchError("step: loss of jax is 1, but of numba 2")

    monkeypatch.setattr(interleaved, "run", part)
    result = vae_np("bench")
    assert (result.code, result.err) == (1, "vae-np: step: loss of jax is 1, but of numba 2\n")


def entrant(name: str, value: float, error: float) -> Any:
    process = SimpleNamespace(ask=lambda *arguments: {"loss": [value, error]})
    return load("interleaved").Entrant(process, "step", name, 1, False, False, None, "iwae", None)


def test_figures_must_agree_within_both_errors() -> None:
    interleaved = load("interleaved")
    interleaved._agree("step", [entrant("a", 1.0, 0.1), entrant("b", 1.15, 0.1)], "check")
    with pytest.raises(interleaved.BenchError, match=r"^step: loss of b is 1.3, but of a 1$"):
        interleaved._agree("step", [entrant("a", 1.0, 0.1), entrant("b", 1.3, 0.1)], "check")
    with pytest.raises(interleaved.BenchError, match="loss of b is nan"):
        interleaved._agree("step", [entrant("a", 1.0, 0.1), entrant("b", float("nan"), 0.1)], "check")


def test_who_learns_nothing_or_another_loss_is_caught() -> None:
    contestants, workloads = load("contestants"), load("workloads")
    workload = workloads.WORKLOADS["iwae"]
    at = workloads.start(workload)
    idle = workloads.Training(lambda: None, 20, lambda state: None, lambda: at.parameters)
    for check in (contestants._learnt(workload, idle, None), contestants._still_learnt(workload, idle)):
        with pytest.raises(contestants.CheckError, match="the loss went from"):
            check()
    with pytest.raises(contestants.CheckError, match="its loss is 1"):
        contestants._learnt(workload, idle, lambda *arguments, **options: 1.0)()


def test_a_peak_of_the_loss_on_the_way_is_no_failure() -> None:
    """Adam's first steps on small batches have single steps whose loss is a seventh higher, at places of chance."""
    contestants, workloads = load("contestants"), load("workloads")
    workload = workloads.WORKLOADS["iwae"]
    ours = workloads.composed_step(ops, workload)
    losses, taken = iter([200.0, 186.0, 213.9, 185.0]), []
    contestants_loss = contestants.reference_loss
    training = workloads.Training(
        lambda: taken.append(1), 1, lambda state: taken.clear(), lambda: ours.state.parameters
    )
    try:
        contestants.reference_loss = lambda workload: lambda of: next(losses)
        found = contestants._learnt(workload, training, None)()
    finally:
        contestants.reference_loss = contestants_loss
    assert found["loss"][0] == 186.0
    assert len(taken) == max(contestants.CHECK_STEPS)


@pytest.mark.parametrize("name", ["iwae", "pt-grey"])
@pytest.mark.parametrize("role", ["blas", pytest.param("ours", marks=NEEDS_KERNELS)])
def test_training_comes_as_far_on_every_path(role: str, name: str) -> None:
    contests = load("contestants").build(role, "step", name, "numba", 2)
    everyone = {id(one): one for contest in contests.values() for one in contest.values() if one.check is not None}
    losses = [one.check()["loss"] for one in everyone.values()]
    # As often as it is asked, whatever was timed before: it begins at the start.
    assert [one.check()["loss"] for one in everyone.values()] == losses
    assert max(losses)[0] - min(losses)[0] < 2 * max(losses)[1]


def test_batches_are_different_ones_of_the_training_rows_and_binary() -> None:
    workloads = load("workloads")
    x, rows = workloads.given_batches(workloads.WORKLOADS["iwae"])
    assert x.shape == (workloads.MOST_BATCHES, 20, 784)
    assert set(np.unique(x)) == {0, 1}
    assert np.unique(rows).size == rows.size
    grey, same = workloads.grey_batches(workloads.WORKLOADS["iwae"])
    assert (same == rows).all()
    # A pixel that is white is one, a black one zero; others are drawn.
    assert x[grey == 255].all()
    assert not x[grey == 0].any()
    assert abs(x.mean() - grey.mean() / 255) < 0.002


def test_a_step_takes_the_next_batch_and_begin_goes_back_to_a_state() -> None:
    workloads = load("workloads")
    seen: list[Any] = []
    state = workloads.start(workloads.WORKLOADS["iwae"])
    x = np.arange(3)[:, None]
    training = workloads._training(lambda state, x, rows: seen.append(x[0]), state, x, x)
    for _ in range(4):
        training.run()
    state.parameters.flat[...] = 1.0
    state.step = 4
    training.begin(workloads.start(workloads.WORKLOADS["iwae"]))
    training.run()
    assert seen == [0, 1, 2, 0, 0]
    assert state.step == 0
    assert (state.parameters.flat == workloads.start(workloads.WORKLOADS["iwae"]).parameters.flat).all()


def test_a_saved_state_is_the_same_in_another_process(tmp_path: Path) -> None:
    workloads, contestants = load("workloads"), load("contestants")
    state = contestants.trained("iwae", "numpy", 3)
    workloads.save(state, tmp_path / "state.npz")
    again = workloads.load(workloads.WORKLOADS["iwae"], tmp_path / "state.npz")
    assert again.step == 3
    for mine, its in zip(workloads._flat(again), workloads._flat(state), strict=True):
        assert (mine == its).all()
        assert mine.any()


def test_of_a_heat_the_fastest_takes_part_under_its_name() -> None:
    interleaved = load("interleaved")
    taken = {"slow": 3.0, "fast": 1.0, "alone": 2.0}

    class Still(interleaved.Entrant):
        def turn(self, lasting: float) -> float:
            return taken[self.name]

    everyone = [Still(None, "step", name, 1, False, False, heat, "iwae", None)
                for name, heat in (("slow", "gemm only"), ("alone", None), ("fast", "gemm only"))]  # fmt: skip
    found = interleaved.Found()
    assert [one.name for one in interleaved._winners("step", everyone, found)] == ["alone", "fast"]
    assert found.heats == {"step": {"gemm only": "fast"}}


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
@pytest.mark.parametrize("name", ["iwae", "iwae50", "pt-grey"])
def test_a_peer_has_the_reference_s_loss(peer: str, name: str) -> None:
    pytest.importorskip(peer)
    contestants, workloads = load("contestants"), load("workloads")
    workload = workloads.WORKLOADS[name]
    at, (x, eps) = workloads.start(workload).parameters, contestants._held_out(workload)
    module = importlib.import_module(f"peers.{peer}_peer")
    theirs = module.loss(workload.arch, at, x, eps, samples=workload.samples)
    assert abs(theirs / contestants.reference_loss(workload)(at) - 1) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("is_reduced", [False, True])
@pytest.mark.parametrize("peer", ["torch", "jax"])
@pytest.mark.parametrize("name", ["iwae", "pt-grey"])
def test_a_peer_comes_as_far(peer: str, name: str, is_reduced: bool) -> None:
    pytest.importorskip(peer)
    contestants, workloads = load("contestants"), load("workloads")
    reference, _ = contestants._learnt(
        workloads.WORKLOADS[name], workloads.composed_step(ops, workloads.WORKLOADS[name]), None
    )()["loss"]
    # What is compiled takes half a minute each: the benchmark itself checks it.
    module = importlib.import_module(f"peers.{peer}_peer")
    mode = module.REDUCED_MODES["bf16"][0] if is_reduced else module.MODES[0]
    x, _ = workloads.given_batches(workloads.WORKLOADS[name])
    training = workloads.Training(*module.training(mode, workloads.WORKLOADS[name].arch, x, count=20))
    value, error = contestants._learnt(workloads.WORKLOADS[name], training, module.loss)()["loss"]
    assert abs(value - reference) < 2 * error


@pytest.mark.slow
def test_pytorch_s_whole_graph_is_adam() -> None:
    """On one batch and without noise, which no likelihood weighs here: the same parameters as the eager steps'."""
    pytest.importorskip("torch")
    workloads = load("workloads")
    peer = importlib.import_module("peers.torch_peer")
    workload = workloads.WORKLOADS["iwae"]
    x, _ = workloads.given_batches(workload)
    found = []
    for mode in (peer.MODES[0], peer.WHOLE):
        noiseless = peer.torch.randn
        try:
            peer.torch.randn = peer.torch.zeros
            training = workloads.Training(*peer.training(mode, workload.arch, x, count=1))
            training.begin(workloads.start(workload))
            for _ in range(5):
                training.run()
            found.append(training.parameters())
        finally:
            peer.torch.randn = noiseless
    start = workloads.start(workload).parameters
    for name, value in found[0].items():
        # In the mean: where a gradient is all rounding, Adam still moves a whole step.
        moved = np.abs(value - start[name]).mean()
        assert moved > 0
        assert np.abs(found[1][name] - value).mean() < 0.02 * moved


@pytest.mark.slow
def test_denormal_numbers_are_flushed_in_every_thread_of_that_process_alone() -> None:
    pytest.importorskip("torch")
    code = (
        "import sys; sys.path.insert(0, 'bench'); import torch, contestants\n"
        "torch.set_num_threads(2)\n"
        "if sys.argv[1] == 'flushed': contestants._flushed('eval', None)\n"
        "x = torch.full((1 << 22,), 2e-38)\n"
        "print(int((x * 0.3).count_nonzero()))"
    )
    root = Path(load("interleaved").__file__).parents[1]
    counted = [
        subprocess.run([sys.executable, "-c", code, how], cwd=root, capture_output=True, text=True, check=True).stdout
        for how in ("flushed", "kept")
    ]
    assert [int(one) for one in counted] == [0, 1 << 22]


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
    load("triad")._triads(a, b, c, np.float32(0.5), 3)
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


def test_one_processor_is_kept_busy_and_left_again() -> None:
    whole = load("whole_training")
    with whole.busy_processor(1) as process:
        assert process.poll() is None
    assert process.poll() is not None


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
