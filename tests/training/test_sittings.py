"""Training from Python in several sittings: it goes on to the byte, keeps what it reached, and stops when it is told.

Budget: about 10 s.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import TINY, good, grey_bars

from vae_np import VAE, EarlyStopping, StopTraining, backends, checkpoint, data
from vae_np._types import Array
from vae_np.config import Config
from vae_np.data import bars, rings
from vae_np.errors import CheckpointError, InputError, NonFiniteError
from vae_np.step import TrainingState
from vae_np.training import device_loop, host_loop
from vae_np.training.listeners import Listeners
from vae_np.training.per_datapoint import LOCAL_STEPS
from vae_np.training.trainer import Trainer

BINARY = bars(4, 60, 0)[0]
GREY = np.where(BINARY == 1, 230, 25).astype(np.uint8)
POINTS = rings(60, 0)[0]
HOW: dict[str, Any] = {"batch_size": 20, "lr": 0.01}


def small(features: int = 16, **settings: Any) -> VAE:
    return VAE(features, **{"hidden": (8,), "latent": 2, "seed": 3, "backend": "numpy", **settings})


def state(vae: VAE) -> tuple[Any, ...]:
    """All that a training has reached, but for wall times."""
    lines = [{key: value for key, value in line.items() if key != "seconds"} for line in vae.history.lines]
    moments = {name: moment.tobytes() for name, moment in vae._state.moments().items()}
    local = vae._progress.local
    held = {} if local is None else {name: array.tobytes() for name, array in local.arrays().items()}
    running = dataclasses.astuple(vae._progress.running)
    return vae.parameters.flat.tobytes(), moments, held, vae._state.step, running, lines, vae.config


# Going on


@pytest.mark.parametrize("backend", backends.present())
@pytest.mark.parametrize(
    ("x", "model", "training"),
    [
        (GREY, {}, {}),
        (GREY, {}, {"validation": 10}),
        (GREY, {}, {"beta": 0.5, "beta_warmup": 12}),
        (GREY, {"dtype": "float64"}, {"objective": "iwae", "samples": 3}),
        (GREY, {}, {"optimizer": "adagrad", "binarize": "fixed"}),
        (GREY, {}, {"schedule": "burda2015", "seed": 9}),
        (BINARY, {"inference": "local"}, {}),
        (POINTS, {"likelihood": "normal"}, {"validation": POINTS[:7]}),
    ],
)
def test_thirty_epochs_one_at_a_time_are_thirty_epochs(
    x: Array, model: dict[str, Any], training: dict[str, Any], backend: str
) -> None:
    if model.get("inference") == "local" and backend != "numpy":
        pytest.skip("one backend is enough for λ, which NumPy moves on each")
    once, often = (small(x.shape[1], backend=backend, **model) for _ in range(2))
    once.fit(x, epochs=30, **HOW, **training)
    told = [line for _ in range(30) for line in often.fit(x, epochs=1, **HOW, **training).lines]
    assert state(often) == state(once)
    assert told == often.history.lines
    assert once.config.epochs == 30
    assert [line["epoch"] for line in once.history.split("train")] == list(range(1, 31))


def test_any_cut_of_the_epochs_gives_the_same(tmp_path: Path) -> None:
    """Also with the model saved and loaded in between, as a run is resumed."""
    once, often = small(), small()
    once.fit(GREY, epochs=10, **HOW)
    often.fit(GREY, epochs=3, **HOW)
    often.save(tmp_path)
    again = VAE.load(tmp_path, backend="numpy")
    for vae in (often, again):
        vae.fit(GREY, epochs=7, **HOW)
    assert state(often) == state(once)
    lines = [line["step"] for line in again.history.lines]
    assert lines == [line["step"] for line in once.history.lines[3:]]
    again.history = once.history
    assert state(again) == state(once)


def test_a_local_model_goes_on_from_its_file(tmp_path: Path) -> None:
    once, often = small(inference="local"), small(inference="local")
    once.fit(BINARY, epochs=4, **HOW)
    often.fit(BINARY, epochs=2, **HOW)
    often.save(tmp_path)
    again = VAE.load(tmp_path, backend="numpy")
    again.fit(BINARY, epochs=2, **HOW)
    again.history = once.history
    assert state(again) == state(once)


@pytest.mark.parametrize("extra", [(), ("--inference", "local")])
def test_python_goes_on_with_a_run_of_the_command_line_to_the_byte(
    extra: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = np.load(grey_bars(tmp_path / "bars.npy"))[:112]
    run = ("train", "--data", "bars.npy", "--backend", "numpy", *TINY, *extra, "--out")
    good(*run, "whole", "--epochs", 5)
    good(*run, "part", "--epochs", 3)
    vae = VAE.load("part", backend="numpy")
    history = vae.fit(rows, validation=11, epochs=2, **HOW)
    vae.save("on")
    states = [checkpoint.load_state(run) for run in ("on", "whole")]
    assert states[0].step == states[1].step
    for held in ("parameters", "moments"):
        for name, tensor in getattr(states[1], held).items():
            assert getattr(states[0], held)[name].tobytes() == tensor.tobytes(), name
    whole = [json.loads(line) for line in Path("whole/metrics.jsonl").read_text().splitlines()]
    for got, expected in zip(history.lines, whole[6:], strict=True):
        assert {**got, "seconds": 0} == {**expected, "seconds": 0}


def test_reset_is_a_fresh_start() -> None:
    first, again = small(), small()
    first.fit(GREY, epochs=2, seed=5, **HOW)
    reached = state(first)
    again.fit(GREY, epochs=3, seed=8, **HOW)
    again.reset()
    assert (again._state.step, again.history.lines) == (0, [])
    assert again.parameters.flat.tobytes() == small().parameters.flat.tobytes()
    again.fit(GREY, epochs=2, seed=5, **HOW)
    assert state(again) == reached
    before = again.parameters.flat.tobytes()
    again.reset(parameters=False)
    assert again.parameters.flat.tobytes() == before
    assert not any(moment.any() for moment in again._state.moments().values())


def test_weights_alone_begin_anew_from_their_parameters(tmp_path: Path) -> None:
    vae = small()
    vae.fit(GREY, epochs=2, **HOW)
    vae.save(tmp_path)
    alone = VAE.load(tmp_path / "checkpoint.safetensors", backend="numpy", seed=3)
    without = VAE.load(tmp_path, backend="numpy", moments=False)
    vae.reset(parameters=False)
    for model in (vae, alone, without):
        model.fit(GREY, epochs=2, **HOW)
    assert state(alone)[:-1] == state(without)[:-1] == state(vae)[:-1]


def test_the_parameters_stay_the_same_arrays() -> None:
    vae = small()
    bias = vae.parameters["decoder.out.bias"]
    vae.fit(GREY, epochs=1, **HOW)
    assert bias is vae.parameters["decoder.out.bias"]
    assert bias.any()


# Other data, another batch size, other settings


def test_other_data_or_another_batch_size_begin_a_new_epoch() -> None:
    """Steps, moments and the count of epochs go on; an epoch that was begun counts."""
    vae = small()
    vae.fit(GREY, epochs=2, **HOW)
    more = vae.fit(GREY[:45], epochs=2, batch_size=10, lr=0.01)
    assert [(line["step"], line["epoch"]) for line in more.lines] == [(10, 3), (14, 4)]

    def stop(line: dict[str, Any]) -> None:
        raise StopTraining

    monkey = small()
    monkey.fit(np.tile(GREY, (4, 1)), epochs=9, batch_size=1, on_metrics=stop)
    assert 0 < monkey._state.step < 240
    last = monkey.fit(GREY, epochs=1, **HOW)
    assert [(line["step"], line["epoch"]) for line in last.lines] == [(monkey._state.step, 2)]


def test_noise_and_adam_count_the_steps_of_all_data() -> None:
    """A second data set of the same size is trained on as if the steps before had been its own."""
    vae, again = small(), small()
    vae.fit(GREY, epochs=2, **HOW)
    again.fit(GREY, epochs=2, **HOW)
    # Another batch size and back: the very steps and epochs that follow.
    vae.fit(GREY, epochs=1, **{**HOW, "batch_size": 30})
    vae.fit(GREY, epochs=1, **HOW)
    assert vae.history.lines[-1]["step"] == 6 + 2 + 3
    assert vae.history.lines[-1]["epoch"] == 4
    again.fit(GREY[::-1], epochs=1, **HOW)
    assert again.history.lines[-1]["step"] == 9


def test_the_warmup_and_the_schedule_go_on_with_the_epochs() -> None:
    vae = small()
    betas = []
    for rows in (60, 60, 40, 40, 60):
        vae.fit(GREY[:rows], epochs=1, beta_warmup=4, beta=2.0, schedule="burda2015", **HOW)
        betas.append(vae.history.lines[-1]["beta"])
    # β of an epoch's last step: position / (4 epochs), in epochs of that call's length.
    assert betas == pytest.approx([2 * p for p in ((2 / 3) / 4, (5 / 3) / 4, (5 / 2) / 4, (7 / 2) / 4, 1)])


def test_lambda_of_other_rows_begins_at_the_prior() -> None:
    vae = small(inference="local")
    vae.fit(BINARY, epochs=3, **HOW)
    before = vae._progress.local
    assert before is not None
    vae.fit(BINARY[::-1], epochs=1, **HOW)
    assert vae._progress.local is not before
    assert vae._progress.local is not None
    assert (vae._progress.local.visits == LOCAL_STEPS).all()
    assert (before.visits == 3 * LOCAL_STEPS).all()


def test_settings_are_those_of_the_call() -> None:
    vae, other = small(), small()
    for model, lr in ((vae, 0.01), (other, 0.02)):
        model.fit(GREY, epochs=1, batch_size=20, lr=0.01)
        model.fit(GREY, epochs=1, batch_size=20, lr=lr, objective="iwae", samples=2)
    assert state(vae) != state(other)
    assert (vae.config.objective, vae.config.samples, vae.config.lr) == ("iwae", 2, 0.01)


def test_another_optimizer_is_refused_with_the_way_on() -> None:
    vae = small()
    vae.fit(GREY, epochs=1, **HOW)
    before = state(vae)
    with pytest.raises(InputError) as error:
        vae.fit(GREY, epochs=1, optimizer="adagrad", **HOW)
    assert str(error.value) == (
        "optimizer: got 'adagrad', expected 'adam', whose moments the model has; reset(parameters=False) forgets them"
    )
    assert state(vae) == before
    vae.reset(parameters=False)
    vae.fit(GREY, epochs=1, optimizer="adagrad", **HOW)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs: got 0"),
        ({"batch_size": 61}, "batch_size: got 61, expected at most the 60 training rows"),
        ({"validation": 60}, "validation"),
        ({"validation": -1}, "validation"),
        ({"z_samples": 0}, "z_samples: got 0"),
        ({"schedule": "cosine"}, "schedule: got 'cosine'"),
        ({"adam_beta1": 1.0}, "adam_beta1: got 1"),
        ({"epochs": 3280, "schedule": "burda2015"}, "epochs: got 3281, expected at most the 3280"),
    ],
)
def test_a_setting_that_cannot_be_changes_nothing(settings: dict[str, Any], message: str) -> None:
    vae = small()
    vae.fit(GREY, epochs=1, **HOW)
    before = state(vae)
    with pytest.raises(InputError, match=message):
        vae.fit(GREY, **{**HOW, **settings})
    assert state(vae) == before


def test_every_setting_is_an_argument_of_the_model_or_of_fit() -> None:
    """All but the names of files and the shape in which the command line draws."""
    arguments = {*inspect.signature(VAE).parameters, *inspect.signature(VAE.fit).parameters}
    fields = {field.name: field.default for field in dataclasses.fields(Config)}
    assert set(fields) - arguments == {"data", "test_data", "labels", "image_shape"}
    for signature in (inspect.signature(VAE), inspect.signature(VAE.fit)):
        for name, parameter in signature.parameters.items():
            if name in fields and name not in ("binarize", "validation", "seed"):
                assert parameter.default == fields[name], name


# What ends a training


def interrupted(name: str, owner: Any, call: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise in the middle of a function's `call`-th call: after its work, before its caller knows of it."""
    function, calls = getattr(owner, name), iter(range(1, 10**6))

    def counted(*arguments: Any, **keywords: Any) -> Any:
        result = function(*arguments, **keywords)
        if next(calls) == call:
            raise error
        return result

    monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        # Between Adam's update and the count of the step's terms: the step is torn.
        ("vae_np.step", "apply_gradients", 8),
        ("vae_np.step", "apply_gradients", 1),
        ("vae_np.training.trainer", "training_step", 10),
        (Trainer, "_prepare", 7),
    ],
)
def test_a_step_that_is_broken_off_leaves_the_state_of_the_last_line(
    owner: Any, name: str, call: int, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the model goes on to the bits of a training that nothing broke off."""
    whole, broken = small(), small()
    whole.fit(GREY, epochs=6, **HOW)
    with monkeypatch.context() as patch:
        if isinstance(owner, str):
            module = __import__(owner, fromlist=["x"])
            interrupted(name, module, call, error(), patch)
        else:
            interrupted(name, owner, call, error(), patch)
        with pytest.raises(error):
            broken.fit(GREY, epochs=6, **HOW)
    done = (call - 1) // 3
    assert broken._state.step == 3 * done
    assert [line["step"] for line in broken.history.lines] == [3 * epoch for epoch in range(1, done + 1)]
    broken.fit(GREY, epochs=6 - done, **HOW)
    assert state(broken) == state(whole)


@pytest.mark.parametrize("line", [1, 3])
@pytest.mark.parametrize(
    ("owner", "name"), [(Trainer, "step"), (Trainer, "line_is_due"), (Trainer, "train_line"), (Listeners, "step")]
)
def test_no_line_is_lost_between_a_step_and_its_line(
    owner: Any, name: str, line: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = small(), small()
    whole.fit(GREY, epochs=6, **HOW)
    call = {"step": 3 * line, "line_is_due": 6 * line, "train_line": line}[name]
    with monkeypatch.context() as patch:
        interrupted(name, owner, call, KeyboardInterrupt(), patch)
        with pytest.raises(KeyboardInterrupt):
            broken.fit(GREY, epochs=6, **HOW)
    assert broken._state.step == 3 * (line - 1)
    broken.fit(GREY, epochs=7 - line, **HOW)
    assert state(broken) == state(whole)


@pytest.mark.parametrize("backend", backends.present())
@pytest.mark.parametrize("line", [1, 3, 6])
def test_an_error_in_on_metrics_leaves_the_state_that_was_reached(line: int, backend: str) -> None:
    whole, broken = small(backend=backend), small(backend=backend)
    whole.fit(GREY, epochs=6, **HOW)
    heard: list[Any] = []

    def fail(told: Any) -> None:
        heard.append(told)
        if len(heard) == line:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken.fit(GREY, epochs=6, on_metrics=fail, **HOW)
    assert broken.history.lines == heard
    assert broken._state.step == 3 * line
    if line < 6:
        broken.fit(GREY, epochs=6 - line, **HOW)
    assert state(broken) == state(whole)


def test_a_value_that_is_not_finite_leaves_the_last_good_state() -> None:
    vae = small()
    vae.fit(GREY, epochs=2, **HOW)
    before = state(vae)
    with pytest.raises(NonFiniteError, match="step"):
        vae.fit(GREY, epochs=2, batch_size=20, lr=1e30)
    after = state(vae)
    assert after[:4] == before[:4]
    assert np.isfinite(vae.elbo(GREY).elbo).all()


def test_a_real_ctrl_c_keeps_what_was_learnt() -> None:
    """A signal, at whatever place it comes: the model has the state of a step, or of the last line."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        vae = small()
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            vae.fit(GREY, epochs=10**6, **HOW)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGINT, before)
    reached = vae._state.step
    assert reached > 0
    again = small()
    again.fit(GREY, epochs=math.ceil(reached / 3), **HOW)
    if reached % 3 == 0:
        assert state(vae)[:4] == state(again)[:4]
    vae.fit(GREY, epochs=1, **HOW)
    lines = [line["step"] for line in vae.history.lines]
    assert lines == [3 * (n + 1) for n in range(len(lines))]


# The start


@pytest.mark.parametrize("init", ["uniform", "glorot"])
def test_the_first_fit_starts_where_the_command_line_does(init: str, tmp_path: Path) -> None:
    """Burda et al.'s start has the data's mean in it, which the model sees only here."""
    path, run = grey_bars(tmp_path / "bars.npy"), tmp_path / "run"
    good("train", "--data", path, "--init", init, "--epochs", 2, *TINY, "--out", run, "--backend", "numpy")
    vae = VAE(16, hidden=(8,), latent=2, init=init, backend="numpy")
    vae.fit(np.load(path)[:112], validation=11, epochs=2, batch_size=20, lr=0.01)
    assert vae.parameters.flat.tobytes() == VAE.load(run).parameters.flat.tobytes()


def test_a_bias_that_was_set_is_left_alone() -> None:
    vae = small(init="glorot")
    vae.parameters["decoder.out.bias"][...] = 0.5
    vae.fit(GREY, epochs=1, batch_size=20, lr=1e-9)
    np.testing.assert_allclose(vae.parameters["decoder.out.bias"], 0.5, atol=1e-6)
    vae.reset()
    vae.fit(GREY, epochs=1, batch_size=20, lr=1e-9)
    pixels = GREY.mean(axis=0) / 255
    np.testing.assert_allclose(vae.parameters["decoder.out.bias"], np.log(pixels / (1 - pixels)), atol=1e-5)


# Stopping


@pytest.mark.parametrize("backend", backends.present())
def test_on_metrics_may_stop_the_training(backend: str) -> None:
    def stop(line: dict[str, Any]) -> None:
        if line["epoch"] == 3:
            raise StopTraining

    vae, other = small(backend=backend), small(backend=backend)
    history = vae.fit(GREY, validation=10, epochs=100, on_metrics=stop, **HOW)
    other.fit(GREY, validation=10, epochs=3, **HOW)
    # The epoch that ends with the line has its validation still.
    assert [(line["epoch"], line["split"]) for line in history.lines[-2:]] == [(3, "train"), (3, "validation")]
    assert state(vae)[:-1] == state(other)[:-1]


def line(elbo: float, split: str = "validation") -> dict[str, Any]:
    return {"split": split, "elbo": elbo}


def test_early_stopping_waits_for_its_patience() -> None:
    heard = EarlyStopping(patience=2)
    for elbo in (-5.0, -4.0, -4.5, -3.9, -3.95):
        heard(line(elbo))
        heard(line(-100.0, "train"))
    with pytest.raises(StopTraining):
        heard(line(-3.9))
    assert heard.best == line(-3.9)
    picky = EarlyStopping(patience=1, least=0.5)
    picky(line(-5.0))
    with pytest.raises(StopTraining):
        picky(line(-4.6))


@pytest.mark.parametrize("patience", [0, -1, 2.5, True, "3"])
def test_a_patience_that_is_none(patience: Any) -> None:
    with pytest.raises(InputError, match=r"^patience: got .*, expected a whole number >= 1$"):
        EarlyStopping(patience)


def test_early_stopping_ends_a_training_that_no_longer_rises() -> None:
    vae, stopping = small(), EarlyStopping(patience=3)
    history = vae.fit(BINARY, validation=20, epochs=2000, batch_size=20, lr=0.05, on_metrics=stopping)
    elbos = [told["elbo"] for told in history.split("validation")]
    assert len(elbos) < 2000
    assert stopping.best is not None
    assert stopping.best["elbo"] == max(elbos) == elbos[-4]


def test_the_example_prints_what_the_documentation_says() -> None:
    docs = Path(__file__).resolve().parents[2] / "docs"
    printed = subprocess.run(
        [sys.executable, docs / "examples" / "sittings.py"], capture_output=True, text=True, check=True
    )
    assert f"```\n{printed.stdout}```" in (docs / "training.md").read_text(encoding="utf-8")


# The loop on a device, which runs ahead


def test_a_device_loop_pulls_what_it_has_done_when_it_is_broken_off() -> None:
    """Planted: a device whose buffers are its own until they are pulled."""
    pulled: list[bool] = []

    class Steps:
        def order(self, epoch: int, order: Array) -> None:
            raise KeyboardInterrupt

        def pull(self) -> None:
            pulled.append(True)

    trainer = Trainer(Config(batch_size=20, hidden=(8,), latent=2), backends.choose("numpy"), GREY, data.BYTE)
    with pytest.raises(KeyboardInterrupt):
        device_loop.run(trainer, Steps(), Listeners())
    assert pulled == [True]
    assert trainer.settled


def test_a_damaged_or_foreign_state_is_refused_by_name(tmp_path: Path) -> None:
    vae, other = small(), small(hidden=(9,))
    vae.save(tmp_path / "one")
    other.save(tmp_path / "two")
    (tmp_path / "one" / "state.safetensors").write_bytes((tmp_path / "two" / "state.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"state\.safetensors: belongs to another architecture than checkpoint"):
        VAE.load(tmp_path / "one")
    VAE.load(tmp_path / "one", moments=False)


def test_a_trainer_is_handed_a_state_and_changes_it_in_place() -> None:
    vae = small()
    held = TrainingState(vae.parameters)
    config = Config(batch_size=20, hidden=(8,), latent=2, epochs=1)
    trainer = Trainer(config, vae.backend, GREY, data.BYTE, from_state=held)
    assert host_loop.run(trainer, Listeners())
    assert held.step == 3
    assert trainer.state is held
