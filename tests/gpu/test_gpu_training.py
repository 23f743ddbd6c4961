"""`--backend cupy` as users have it: the loop that queues steps ahead, the command line, and how failures end.

On a device, where there is one, and with the kernels compiled for the processor (tests/gpu/shimlib.py). Budget: about
35 s, a quarter of it g++.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shimlib
from commandline import TINY, good, grey_bars, metrics, vae_np

from vae_np import VAE, backends, data
from vae_np.config import Config
from vae_np.data import bars
from vae_np.errors import BackendError, DeviceError, NonFiniteError
from vae_np.kernels import gpu
from vae_np.kernels.check import compare
from vae_np.kernels.gpu import _device, fused
from vae_np.training import device_loop, loop
from vae_np.training.trainer import Trainer
from vae_np.verify import catalogue, runner

BITS = bars(4, 90, 0)[0]
GREY = np.where(BITS == 1, 230, 25).astype(np.uint8)
# An epoch of five steps: one graph, and two steps beside it.
FEW = GREY[:50]


@pytest.fixture
def shim(monkeypatch: pytest.MonkeyPatch) -> Iterator[shimlib.ShimDevice]:
    shimlib.require_compiler()
    monkeypatch.setattr(gpu, "problem", lambda: None)
    monkeypatch.setattr(gpu, "device_line", lambda: "the kernels compiled for the processor")
    device = shimlib.ShimDevice()
    with _device.use(device):
        yield device


@pytest.fixture(params=["shim", pytest.param("device", marks=pytest.mark.gpu)])
def door(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A door to the kernels, and graphs of three steps, so that an epoch has some and a few steps beside them."""
    monkeypatch.setattr(fused, "GRAPH_STEPS", 3)
    return request.getfixturevalue("shim") if request.param == "shim" else _device.device()


def new_trainer(backend: str, rows: Any = GREY, values: Any = data.BYTE, **settings: Any) -> Trainer:
    how = {"hidden": (8,), "latent": 2, "batch_size": 10, "epochs": 3, "lr": 0.01, "dtype": "float64", "seed": 4}
    return Trainer(Config(**{**how, **settings}), backends.choose(backend), rows, values)


def lines_of(trainer: Trainer, **callbacks: Any) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    loop.run(trainer, on_metrics=lines.append, **callbacks)
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def assert_same_lines(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert [line.keys() for line in found] == [line.keys() for line in expected]
    for ours, theirs in zip(found, expected, strict=True):
        for key, value in theirs.items():
            assert ours[key] == (pytest.approx(value, rel=1e-9) if isinstance(value, float) else value)


@pytest.mark.parametrize(
    ("settings", "resident"),
    [
        ({}, True),
        ({"binarize": "fixed"}, True),
        ({"binarize": "threshold", "hidden": (7, 5), "activation": "softplus"}, True),
        ({"beta": 0.5, "beta_warmup": 2}, True),
        ({"objective": "iwae"}, True),
        ({"objective": "iwae", "samples": 5, "hidden": (7, 5), "beta": 0.5, "beta_warmup": 2}, True),
        ({"objective": "iwae", "samples": 20, "binarize": "fixed"}, True),
        ({"objective": "iwae", "samples": 3, "optimizer": "adagrad"}, False),
        ({"objective": "dreg", "samples": 3}, False),
        ({"samples": 2}, False),
        ({"optimizer": "adagrad"}, False),
        ({"hidden": ()}, False),
        ({"inference": "local"}, False),
        ({"likelihood": "normal", "binarize": "none"}, False),
    ],
    ids=lambda value: " ".join(value) or "default" if isinstance(value, dict) else "",
)
def test_training_gives_the_references_parameters_and_metrics(
    settings: dict[str, Any], resident: bool, door: Any
) -> None:
    ours, theirs = (new_trainer(backend, FEW, **settings) for backend in ("cupy", "numpy"))
    assert (device_loop.resident_steps(ours) is not None) == resident
    assert_same_lines(lines_of(ours), lines_of(theirs))
    compare(ours.state.parameters.flat, theirs.state.parameters.flat).check(1e-9, "parameters")
    assert ours.state.step == theirs.state.step


@pytest.mark.parametrize(("rows", "values"), [(BITS, data.BINARY), ((GREY / 255).astype(np.float32), data.UNIT)])
def test_other_kinds_of_data(rows: Any, values: Any, door: Any) -> None:
    ours, theirs = new_trainer("cupy", rows, values), new_trainer("numpy", rows, values)
    assert_same_lines(lines_of(ours), lines_of(theirs))
    compare(ours.state.parameters.flat, theirs.state.parameters.flat).check(1e-9, "parameters")


def test_a_schedule_reaches_the_device(door: Any) -> None:
    settings = {"schedule": "burda2015", "epochs": 5, "objective": "iwae", "samples": 5}
    ours, theirs = new_trainer("cupy", **settings), new_trainer("numpy", **settings)
    assert_same_lines(lines_of(ours), lines_of(theirs))
    compare(ours.state.parameters.flat, theirs.state.parameters.flat).check(1e-8, "parameters")


@pytest.mark.parametrize("settings", [{}, {"objective": "iwae", "samples": 3, "beta": 0.5}], ids=["elbo", "iwae"])
def test_metrics_come_at_every_line_of_an_epoch_and_parts_may_be_short(
    settings: dict[str, Any], door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vae_np.training import trainer

    monkeypatch.setattr(trainer, "METRICS_STEPS", 4)
    monkeypatch.setattr(device_loop, "_MOST_STEPS", 3)
    ours, theirs = new_trainer("cupy", **settings), new_trainer("numpy", **settings)
    found, expected = lines_of(ours), lines_of(theirs)
    assert [line["step"] for line in found] == [5, 9, 14, 18, 23, 27]
    assert_same_lines(found, expected)


def test_a_stop_ends_between_parts_and_the_state_is_that_of_the_step(door: Any) -> None:
    whole, broken = new_trainer("cupy"), new_trainer("cupy")
    lines_of(whole)
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 1

    assert loop.run(broken, should_stop=stop) is False
    assert broken.state.step == 9
    part = new_trainer("cupy", epochs=1)
    lines_of(part)
    assert np.array_equal(broken.state.parameters.flat, part.state.parameters.flat)
    assert loop.run(broken) is True
    assert np.array_equal(broken.state.parameters.flat, whole.state.parameters.flat)


def test_the_state_on_the_host_is_whole_at_the_end_of_each_epoch(door: Any) -> None:
    ours, theirs = new_trainer("cupy"), new_trainer("numpy")
    kept: list[list[Any]] = [[], []]
    for trainer, states in zip((ours, theirs), kept, strict=True):
        loop.run(trainer, on_epoch=lambda now, states=states: states.append(now.state.parameters.flat.copy()))
    assert len(kept[0]) == 3
    for mine, right in zip(*kept, strict=True):
        compare(mine, right).check(1e-9)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("settings", [{}, {"objective": "iwae", "samples": 3}], ids=["elbo", "iwae"])
def test_what_is_not_finite_is_named_with_its_step(settings: dict[str, Any], door: Any) -> None:
    with pytest.raises(NonFiniteError, match=r"^step \d+: .*\S is not finite; a smaller lr often helps$"):
        loop.run(new_trainer("cupy", lr=1e30, dtype="float32", **settings))


# The command line


@pytest.mark.parametrize("objective", [(), ("--objective", "iwae", "--samples", 5)], ids=["elbo", "iwae"])
def test_train_resume_and_eval_agree_with_the_reference_and_leave_the_same_files(
    objective: tuple[object, ...], door: Any, tmp_path: Path
) -> None:
    file = grey_bars(tmp_path / "bars.npy")
    common = ("train", "--data", file, *TINY, "--dtype", "float64", *objective)
    said = good(*common, "--epochs", 3, "--backend", "cupy", "--out", tmp_path / "ours")
    assert "backend  cupy (asked for), float64, fused steps" in said.out
    good(*common, "--epochs", 3, "--backend", "numpy", "--out", tmp_path / "theirs")
    assert_same_lines(metrics(tmp_path / "ours"), metrics(tmp_path / "theirs"))
    names = [sorted(path.name for path in (tmp_path / run).iterdir()) for run in ("ours", "theirs")]
    assert names[0] == names[1]
    good(*common, "--epochs", 1, "--backend", "cupy", "--out", tmp_path / "parts")
    good("train", "--resume", tmp_path / "parts", "--epochs", 3, "--no-plots")
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "ours")
    weights = [(tmp_path / run / "checkpoint.safetensors").read_bytes() for run in ("ours", "parts")]
    assert len(weights[0]) == len(weights[1])
    found, expected = (
        good("eval", tmp_path / "ours", "--backend", name, "--samples", 20, "--no-plots", "--json", "-").json["test"]
        for name in ("cupy", "numpy")
    )
    for key in ("elbo", "reconstruction", "kl", "log_likelihood"):
        assert found[key]["mean"] == pytest.approx(expected[key]["mean"], rel=1e-9)
    # A run of the GPU's can be used where there is none.
    ours, theirs = (VAE.load(tmp_path / "ours", backend=name) for name in ("cupy", "numpy"))
    np.testing.assert_allclose(ours.reconstruct(GREY[:5]), theirs.reconstruct(GREY[:5]), rtol=1e-9)


def test_info_names_the_device(shim: shimlib.ShimDevice) -> None:
    said = good("info", "--json", "-")
    rows = [row for row in said.json["matrix"] if row["backend"] == "cupy"]
    matrix = {(row["objective"], row["likelihood"]): row["how"] for row in rows}
    assert [matrix[objective, "bernoulli"] for objective in ("elbo", "iwae", "dreg")] == ["fused", "fused", "composed"]
    assert matrix["elbo", "normal"] == matrix["iwae", "normal"] == "composed"
    assert "the kernels compiled for the processor" in said.err


@pytest.mark.slow
def test_the_verifier_accepts_the_kernels_gradients(shim: shimlib.ShimDevice) -> None:
    rows = [runner._pair_row(pair, "cupy", 0) for pair in catalogue.operation_pairs(gpu, 0)]
    rows += runner._parity_rows(gpu, "cupy", 0)
    rows.append(runner._scalar_row(next(catalogue.models(gpu, 0, full=False)), "cupy", 0))
    assert len(rows) > 20
    assert [row.name for row in rows if not row.passed] == []


@pytest.mark.gpu
def test_verify_proves_every_gradient_on_a_device() -> None:
    said = good("verify", "--json", "-").json
    assert any(check["backend"] == "cupy" for check in said["checks"])


# What goes wrong


@pytest.mark.parametrize("command", ["train", "eval", "bench"])
def test_a_missing_device_is_one_line_and_exit_2(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "problem", lambda: "no NVIDIA driver was found; the GPU kernels need one")
    file, run = grey_bars(tmp_path / "bars.npy"), tmp_path / "run"
    good("train", "--data", file, *TINY, "--epochs", 1, "--backend", "numpy", "--out", run)
    arguments = {"train": ("--data", file, *TINY, "--out", tmp_path / "new"), "eval": (run,), "bench": ("step",)}
    said = vae_np(command, *arguments[command], "--backend", "cupy")
    assert said.code == 2
    line = "vae-np: backend: got 'cupy', but no NVIDIA driver was found; the GPU kernels need one; expected one of auto"
    assert said.err.startswith(line)
    assert said.err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_a_device_that_fails_ends_the_training_with_the_checkpoint_kept(
    shim: shimlib.ShimDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = grey_bars(tmp_path / "bars.npy"), tmp_path / "run"
    steps = gpu.FusedRun.steps

    def failing(self: Any, count: int) -> Any:
        if self.state.step >= 10:
            raise DeviceError("the device failed at a graph's launch: cudaErrorLaunchFailure: unspecified")
        return steps(self, count)

    monkeypatch.setattr(gpu.FusedRun, "steps", failing)
    said = vae_np("train", "--data", file, *TINY, "--epochs", 5, "--backend", "cupy", "--out", out)
    assert said.code == 1
    assert "failed at a graph's launch: cudaErrorLaunchFailure: unspecified; the checkpoint of step" in said.err
    assert "is kept; go on with: vae-np train --resume" in said.err
    monkeypatch.undo()
    assert len(metrics(out)) >= 2


def test_the_door_is_not_opened_where_something_is_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from vae_np.kernels.gpu import problems

    monkeypatch.setattr(_device, "_CURRENT", [])
    monkeypatch.setattr(problems, "problem", lambda: "the driver shows no CUDA device; nvidia-smi lists what it has")
    with pytest.raises(BackendError, match=r"^backend: got 'cupy', but the driver shows no CUDA device; nvidia-smi"):
        gpu.log_mean_exp_weights(np.zeros((2, 2)))
