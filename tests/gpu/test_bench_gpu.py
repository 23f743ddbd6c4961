"""The GPU's benchmark, as far as it goes without a device: everyone is timed in turns, and checked. Budget: about 32 s.

The kernels are those compiled for the processor; PyTorch's graphs need a device and are left out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import shimlib

from vae_np.architecture import Architecture
from vae_np.kernels import gpu
from vae_np.kernels.gpu import _device, fused

BENCH = Path(__file__).resolve().parents[2] / "bench"
KEYS = {
    "what", "workload", "backend", "median_ms", "q25_ms", "q75_ms", "rounds", "threads", "sparse",
    "ratio_to_fastest_peer", "ratio_to_gemm_floor",
}  # fmt: skip


@pytest.fixture
def interleaved(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The benchmark with two small workloads, few steps and few samples."""
    shimlib.require_compiler()
    monkeypatch.setattr(gpu, "problem", lambda: None)
    monkeypatch.setattr(gpu, "device_line", lambda: "the kernels compiled for the processor")
    monkeypatch.setattr(fused, "GRAPH_STEPS", 3)
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    import interleaved_gpu

    arch = Architecture(784, 2, (8,), "tanh")
    small = {"small": interleaved_gpu.Workload(arch, 4), "small3": interleaved_gpu.Workload(arch, 4, samples=3)}
    monkeypatch.setattr(interleaved_gpu, "WORKLOADS", small)
    monkeypatch.setattr(interleaved_gpu, "MOST_STEPS", 40)
    monkeypatch.setattr(interleaved_gpu, "_SCAN", 20)
    monkeypatch.setattr(interleaved_gpu, "HOST_STEPS", 2)
    # A turn of a few steps: no time is asserted.
    monkeypatch.setattr(interleaved_gpu, "TURN_SECONDS", 0.002)
    monkeypatch.setattr(interleaved_gpu, "SAMPLES", 10)
    monkeypatch.setattr(interleaved_gpu, "IMAGES", 3)
    # By 10 samples of 3 images two estimates lie further apart; JAX draws others where a test has switched to 64 bits.
    monkeypatch.setattr(interleaved_gpu, "_EVAL_TOLERANCE", 8.0)
    with _device.use(shimlib.ShimDevice()):
        yield interleaved_gpu


def run(interleaved: Any, what: str, peers: list[str], workload: str = "small") -> Any:
    return interleaved.run(what, workload, "cupy", peers, 1, 2, lambda line: None)


@pytest.mark.parametrize("workload", ["small", "small3"])
def test_steps_are_timed_with_and_without_binarisation_and_the_host_apart(workload: str, interleaved: Any) -> None:
    found = run(interleaved, "step", [], workload)
    assert [result["what"] for result in found.results] == ["step", "step with binarisation", interleaved.HOST]
    for result in found.results:
        assert set(result) == KEYS
        assert 0 < result["q25_ms"] <= result["median_ms"] <= result["q75_ms"]
        assert result["ratio_to_fastest_peer"] is None


@pytest.mark.parametrize(("what", "workload"), [("step", "small"), ("step", "small3"), ("eval", "small")])
def test_jax_is_checked_and_gives_the_ratio(what: str, workload: str, interleaved: Any) -> None:
    pytest.importorskip("jax")
    found = {(one["what"], one["backend"]): one for one in run(interleaved, what, ["jax"], workload).results}
    ours, theirs = found[what, "cupy"], found[what, "jax"]
    assert ours["ratio_to_fastest_peer"] == pytest.approx(ours["median_ms"] / theirs["median_ms"])
    assert theirs["ratio_to_fastest_peer"] == 1


def test_a_contestant_that_computes_something_else_stops_the_benchmark(
    interleaved: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ours does not train any more: the loss after the timing shows it.
    monkeypatch.setattr(gpu.FusedRun, "pull", lambda self: None)
    with pytest.raises(interleaved.BenchError, match="step: cupy ended with a loss of"):
        run(interleaved, "step", [])
    pytest.importorskip("jax")
    from peers import jax_peer

    monkeypatch.setattr(jax_peer, "loss", lambda *given, **how: 1.0)
    with pytest.raises(interleaved.BenchError, match="jax: its loss is 1, ours"):
        run(interleaved, "step", ["jax"])


def test_the_script_writes_raw_results_and_prints_the_table_last(
    interleaved: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import on_gpu

    monkeypatch.setattr(on_gpu, "ORDER", (("eval", "small"), ("step", "no such")))
    monkeypatch.setattr(sys, "argv", ["on_gpu.py", "--results", str(tmp_path), "--peers", "", "--rounds", "2"])
    # One that fails is told and counted, and costs the others nothing.
    assert on_gpu.main() == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "step no such: KeyError: 'no such'"
    assert said[-2].split()[:3] == ["eval", "small", "cupy"]
    found = json.loads((tmp_path / "gpu-eval-small.json").read_text())
    assert set(found["results"][0]) == KEYS
    assert found["environment"]["device"] == "the kernels compiled for the processor"
    assert found["environment"]["precision"] == "float32, TF32 off"


def test_what_there_is_no_time_for_is_named(
    interleaved: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import on_gpu

    monkeypatch.setattr(sys, "argv", ["on_gpu.py", "--results", str(tmp_path), "--seconds", "-1"])
    assert on_gpu.main() == 0
    assert "step pt: no time left" in capsys.readouterr().out.splitlines()
    assert not list(tmp_path.iterdir())


def test_a_profile_has_every_kernel_of_the_step_in_order(
    interleaved: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import profile_gpu

    monkeypatch.setattr(profile_gpu, "_REPEATS", 2)
    monkeypatch.setattr(profile_gpu, "_WARM_SECONDS", 0)
    monkeypatch.setattr(profile_gpu, "WORKLOADS", interleaved.WORKLOADS)
    monkeypatch.setattr(sys, "argv", ["profile_gpu.py", "small", "small3", "--results", str(tmp_path)])
    assert profile_gpu.main() == 0
    profiles = json.loads((tmp_path / "gpu-profile.json").read_text())["profiles"]
    elbo, bound = ([one["kernel"] for one in profiles[name]] for name in ("small", "small3"))
    assert elbo == [
        "step_begin", "binary_forward", "latent_forward_32", "affine_forward_32", "bernoulli_output_32",
        "affine_input_gradient_32", "latent_backward_32", "step_weights_32", "all kernels", "the step",
    ]  # fmt: skip
    assert {"bound_sample", "bound_weights", "scale_rows", "bound_backward_32"} <= set(bound)
    for profile in profiles.values():
        assert all(one["microseconds"] > 0 for one in profile)
        assert profile[-2]["microseconds"] == pytest.approx(sum(one["microseconds"] for one in profile[:-2]))
    assert "small: kernel" in capsys.readouterr().out
