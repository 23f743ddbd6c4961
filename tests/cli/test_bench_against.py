"""A revision against another: the procedure on made-up clocks, git's side, and the phases of a profile.

No time is asserted anywhere: the clocks here are random numbers of a fixed seed. Budget: about 6 s.
"""

from __future__ import annotations

import inspect
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import good, vae_np

from vae_np import backends
from vae_np.cli.bench import _load as load

NEEDS_KERNELS = pytest.mark.skipif(backends.missing("numba") is not None, reason="the kernels are not here")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def repository(folder: Path) -> None:
    """Two commits of one file."""
    git(folder, "init", "--quiet")
    for text in ("first", "second"):
        (folder / "file").write_text(text)
        git(folder, "add", "file")
        git(folder, "commit", "--quiet", "-m", text)


def clocks(rng: Any, slower: float, of_process: float, of_turn: float, calls: list[str] | None = None) -> Any:
    """What opens pairs of made-up processes: each has a speed of its own, each turn its noise, some are disturbed."""

    @contextmanager
    def pair(number: int) -> Iterator[Any]:
        speeds = np.exp(of_process * rng.standard_normal(2)) * (1, slower)

        def turn(which: int) -> Any:
            def run(steps: int) -> float:
                if calls is not None:
                    calls.append("base" if which == 0 else "head")
                disturbed = 3.0 if rng.random() < 0.1 else 1.0
                return float(speeds[which] * np.exp(of_turn * rng.standard_normal()) * disturbed)

            return run

        yield turn(0), turn(1)

    return pair


def verdicts(slower: float, of_process: float, of_turn: float, count: int) -> dict[str, int]:
    against, rng = load("against"), np.random.default_rng(7)
    said = [against.compare(clocks(rng, slower, of_process, of_turn), lambda line: None).verdict for _ in range(count)]
    return {word: said.count(word) for word in set(said)}


@pytest.mark.parametrize(("of_process", "of_turn"), [(0.005, 0.02), (0.03, 0.15)])
def test_the_same_code_is_hardly_ever_slower_or_faster(of_process: float, of_turn: float) -> None:
    found = verdicts(1.0, of_process, of_turn, 80)
    assert found.get("slower", 0) + found.get("faster", 0) <= 2


@pytest.mark.parametrize(("slower", "word"), [(1.03, "slower"), (1 / 1.03, "faster")])
@pytest.mark.parametrize(("of_process", "of_turn"), [(0.005, 0.02), (0.01, 0.05)])
def test_three_per_cent_are_found(of_process: float, of_turn: float, slower: float, word: str) -> None:
    assert verdicts(slower, of_process, of_turn, 40)[word] >= 38


def test_half_a_per_cent_is_no_difference_and_stays_none() -> None:
    found = verdicts(1.005, 0.003, 0.02, 40)
    assert found.get("slower", 0) + found.get("faster", 0) <= 1
    assert found.get("the same", 0) >= 20


def test_turns_alternate_and_a_block_is_repeated_until_there_is_a_verdict() -> None:
    against, calls = load("against"), []
    found = against.compare(clocks(np.random.default_rng(0), 2.0, 0.01, 0.01, calls), lambda line: None)
    assert (found.verdict, found.blocks) == ("slower", against.FEWEST_BLOCKS)
    # The first two of a block find out how many steps fill a turn.
    block = calls[: 2 + 2 * against.PAIRS]
    assert block[:10] == ["base", "base", *["base", "head", "head", "base"] * 2]
    assert len(calls) == found.blocks * len(block)
    assert len(found.base_ms) == len(found.head_ms) == found.blocks * against.PAIRS
    assert found.low < found.ratio < found.high
    noise = clocks(np.random.default_rng(0), 1.0, 0.5, 0.01)
    assert against.compare(noise, lambda line: None, most_blocks=8).verdict == "undecided"


def test_the_interval_covers_the_ratio_as_often_as_it_says() -> None:
    against, rng = load("against"), np.random.default_rng(3)
    covered = 0
    for _ in range(2000):
        low, high = against.interval(list(np.log(1.02) + 0.03 * rng.standard_normal(8)), 0.95)
        covered += low < 1.02 < high
    assert 0.935 < covered / 2000 < 0.965


def test_a_revision_that_git_does_not_know_is_one_line() -> None:
    result = vae_np("bench", "step", "--against", "no-such-revision")
    expected = "vae-np: against: got 'no-such-revision', expected a revision that git knows in this checkout\n"
    assert (result.code, result.err) == (2, expected)


def test_outside_a_repository_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    against = load("against")
    monkeypatch.setattr(against, "ROOT", tmp_path)
    expected = pytest.raises(against.BenchError, match="expected a revision that git knows in this checkout")
    with expected, against.other_revision("HEAD"):
        pass


def test_a_work_tree_of_a_revision_is_made_and_taken_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    against = load("against")

    repository(tmp_path)
    monkeypatch.setattr(against, "ROOT", tmp_path)
    with against.other_revision("HEAD~1") as (folder, commit):
        assert (folder / "file").read_text() == "first"
        assert commit == git(tmp_path, "rev-parse", "HEAD~1").strip()
    assert not folder.exists()
    assert git(tmp_path, "worktree", "list").count("\n") == 1


@NEEDS_KERNELS
def test_each_process_has_the_package_of_its_own_revision(tmp_path: Path) -> None:
    against = load("against")
    other = tmp_path / "base"
    other.mkdir()
    (other / "vae_np").symlink_to(against.ROOT / "vae_np")
    wrong = pytest.raises(against.BenchError, match="expected the one in")
    with against.Process("alone", 1, print, tmp_path) as process, wrong:
        against._turn(process, tmp_path, "iwae", "numba")


@NEEDS_KERNELS
@pytest.mark.slow
def test_this_checkout_against_itself_ends_with_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    against = load("against")
    monkeypatch.setattr(against, "MOST_BLOCKS", 6)
    monkeypatch.setattr(against, "TURN_SECONDS", 0.01)
    run = against.run
    monkeypatch.setattr(against, "run", lambda *given: run(*given, 6))
    content = good("bench", "step", "--workload", "iwae", "--against", "HEAD", "--threads", 1, "--json", "-").json
    found = content["comparison"]
    assert found["verdict"] in ("slower", "faster", "the same", "undecided")
    assert len(found["base"]) == 40
    assert found["low"] <= found["ratio"] <= found["high"]


@NEEDS_KERNELS
@pytest.mark.slow
def test_a_step_with_clocks_in_it_is_the_step_and_every_phase_is_clocked() -> None:
    """It compiles the step anew, which takes most of a minute."""
    profile, workloads = load("profile_step"), load("workloads")
    workload, backend = workloads.WORKLOADS["iwae"], backends.choose("numba")
    plain, (clocked, clocks) = workloads.fused_step(backend, workload), profile.clocked_step(workload, backend)
    for training in (plain, clocked):
        training.begin(workloads.start(workload))
        for _ in range(3):
            training.run()
    for mine, its in zip(workloads._flat(clocked.state), workloads._flat(plain.state), strict=True):
        assert mine.tobytes() == its.tobytes()
    found = profile.by_phase(clocks, 3, 2, 1e9)
    assert set(found) == set(profile.PHASES)
    assert all(ms > 0 for ms in found.values())


@NEEDS_KERNELS
def test_clocked_functions_take_what_the_steps_own_functions_take() -> None:
    """Without compiling either: what is put in a function's place is called as that function is."""
    profile = load("profile_step")
    own = profile.fused.update_unit
    replaced = profile._update_by_layer(own, profile.Clocks())
    assert list(inspect.signature(replaced.py_func).parameters) == list(inspect.signature(own.py_func).parameters)


def test_a_phase_is_what_its_own_calls_leave() -> None:
    profile = load("profile_step")
    counted = {
        "forward_rows": 90, "forward_rows/affine_rows": 40, "forward_rows/bernoulli_step_row": 20,
        "update_unit 0": 50, "update_unit 0/adam_range": 30, "update_unit": 70, "update_unit/call_gemm": 45,
        "update_unit/adam_range": 15, "/complete": 8,
    }  # fmt: skip

    class Clocks:
        names = staticmethod(lambda: list(counted))
        spent = staticmethod(counted.__getitem__)

    found = profile.by_phase(Clocks, 1, 2, 1e-3)
    in_ns = {phase: round(2e6 * ms) for phase, ms in found.items()}
    assert in_ns == {
        "first layer": 50, "products": 95, "likelihood": 20, "Adam": 45, "noise and latents": 0,
        "waiting": 8, "between steps": 2000 - 218,
    }  # fmt: skip


def test_what_a_phase_has_to_do_is_counted_from_the_shapes() -> None:
    profile, workloads = load("profile_step"), load("workloads")
    found = profile.work(workloads.WORKLOADS["pt"])
    # 784-400-20 at batch 128: heads (3 products), decoder's two layers (3 each), of 2 m n k each.
    assert found["products"][0] == 2 * 128 * 3 * (400 * 40 + 20 * 400 + 400 * 784)
    assert found["Adam"][1] == 24 * (784 * 400 + 400 + 2 * (400 * 20 + 20) + 20 * 400 + 400 + 400 * 784 + 784)
    # On dense x the first layer has two products more, and no rows to sum.
    dense = profile.work(workloads.WORKLOADS["pt-grey"])
    assert dense["products"][0] - found["products"][0] == 2 * 2 * 128 * 784 * 400
    assert "first layer" in found
    assert "first layer" not in dense
    assert profile.bound((2e6, 1e6, 100), 100, {"64 KiB": 50}) == (0.02, "triad of 64 KiB")
    assert profile.bound((9e6, 1e6, 100), 100, {"64 KiB": 50}) == (0.09, "multiply-adds")


def test_a_roofline_has_a_point_for_each_phase_that_computes() -> None:
    row = {"ms": 0.5, "flop": 1e8, "bytes": 1e6, "bound": "multiply-adds", "percent": 80.0}
    profile = {
        "workload": "pt", "threads": 2, "peaks": {"fma_gflops": 300.0, "triad_gb_s": {"4 MiB": 60.0}},
        "phases": [{**row, "phase": "products"}, {**row, "phase": "waiting", "flop": 0.0, "bytes": 0.0}],
    }  # fmt: skip
    (ax,) = load("roofline").figure(profile).axes
    said = [text.get_text() for text in ax.texts]
    assert "products, 80%" in said
    assert not any("waiting" in text for text in said)
    (point,) = [line for line in ax.lines if line.get_marker() == "o"]
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (100.0, 400.0)


def test_a_peak_is_reached_in_registers() -> None:
    """Its result is the fixed point of x ← x/2 + 1 on every lane: the loop has run."""
    peaks = load("peaks")
    assert peaks._register_loop(200) == 2.0 * peaks._SUMS
    assert peaks.FLOP_PER_ROUND % (2 * peaks._SUMS) == 0


@pytest.mark.parametrize(
    ("maker", "brand", "model", "name"),
    [
        ("GenuineIntel", "Intel(R) Xeon(R) Processor", "emeraldrapids", "intel-emerald-rapids"),
        ("GenuineIntel", "Intel(R) Xeon(R)", "skylake-avx512", "intel-skylake-avx512"),
        ("AuthenticAMD", "AMD EPYC", "znver5", "amd-epyc-zen5"),
        ("aarch64", "", "neoverse-v2", "aarch64-neoverse-v2"),
    ],
)
def test_processors_are_spelt_as_their_folders(maker: str, brand: str, model: str, name: str) -> None:
    assert load("processor").spelt(maker, brand, model) == name


def test_the_history_has_a_line_for_each_processor_workload_and_commit(tmp_path: Path) -> None:
    history = load("history")
    row = {"what": "step", "workload": "pt", "backend": "numba", "median_ms": 2.0, "threads": 2,
           "ratio_to_fastest_peer": 0.6, "ratio_to_gemm_floor": 0.9}  # fmt: skip
    rows = [row, {**row, "backend": "jax"}, {**row, "what": "step with binarisation"}]

    def lines(commit: str | None, processor: str = "amd-epyc-zen5") -> list[dict[str, Any]]:
        path = tmp_path / "cpu-step-pt.json"
        path.write_text(json.dumps({"results": rows, "environment": {"commit": commit, "processor": processor}}))
        return history.lines_of(path)

    first = lines("a" * 40)
    assert [(line["what"], line["workload"], line["median_ms"]) for line in first] == [("step", "pt", 2.0)]
    # Files that differ from their commit, and those of older versions, say nothing of a commit.
    assert lines("a" * 40 + "+") == lines(None) == []
    rows[0] = {**row, "median_ms": 1.5}
    both = history.merged(first, lines("a" * 40) + lines("b" * 40) + lines("b" * 40, "intel-emerald-rapids"))
    assert [(line["processor"][:3], line["commit"][0], line["median_ms"]) for line in both] == [
        ("amd", "a", 1.5), ("amd", "b", 1.5), ("int", "b", 1.5)
    ]  # fmt: skip
    history.write(both, tmp_path / "history.jsonl")
    assert history.read(tmp_path / "history.jsonl") == both
    assert history.read(tmp_path / "none.jsonl") == []
    panels = history.figure(both).axes
    assert [ax.get_title("left") for ax in panels] == [
        "ours / fastest peer, amd-epyc-zen5", "ours / fastest peer, intel-emerald-rapids"
    ]  # fmt: skip
    assert [list(line.get_ydata()) for line in panels[0].lines if line.get_marker() == "o"] == [[0.6, 0.6]]


def test_commits_stand_in_git_s_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    history = load("history")
    repository(tmp_path)
    monkeypatch.setattr(history, "HERE", tmp_path)
    older, newer = (git(tmp_path, "rev-parse", revision).strip() for revision in ("HEAD~1", "HEAD"))
    assert history.in_order([newer, older, "unknown", older]) == ["unknown", older, newer]
