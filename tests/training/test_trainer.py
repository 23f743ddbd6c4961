"""Training: the same seed gives the same bits, resuming changes nothing, and what is not finite stops it by name.

Budget: about 3 s.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vae_np import backends, checkpoint, data, noise, runs
from vae_np.config import Config
from vae_np.data import bars, rings
from vae_np.elbo import Terms
from vae_np.errors import ConfigError, NonFiniteError
from vae_np.evaluation.held_out import Examples, validation
from vae_np.step import first_non_finite
from vae_np.training import loop
from vae_np.training import trainer as training
from vae_np.training.trainer import Metrics, Running, Trainer, validation_rows

ROWS, HELD_OUT, BATCH = 103, 20, 10
STEPS_PER_EPOCH = 10
SMALL: dict[str, Any] = {"hidden": (8,), "latent": 2, "batch_size": BATCH, "epochs": 3, "lr": 0.01, "seed": 5}
# One grey set in the defaults' manner, and one with every setting different that the state depends on.
SETTINGS = [
    pytest.param({}, id="defaults"),
    pytest.param(
        {"optimizer": "adagrad", "dtype": "float64", "binarize": "fixed", "beta_warmup": 2, "init": "glorot"},
        id="adagrad",
    ),
    pytest.param({"likelihood": "normal-diagonal", "activation": "tanh", "z_samples": 2}, id="normal"),
    pytest.param({"objective": "iwae", "samples": 3, "schedule": "burda2015"}, id="iwae"),
]


@pytest.fixture(autouse=True)
def _short_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A metrics line every 5 steps, so that an epoch has two and an interruption can fall between them."""
    monkeypatch.setattr(training, "METRICS_STEPS", 5)


def trainer(**settings: Any) -> Trainer:
    config = Config(**{**SMALL, **settings})
    images, _ = bars(4, ROWS + HELD_OUT, 3)
    grey = np.where(images == 1, 230, 25).astype(np.uint8)
    held_out = Examples(grey[ROWS:], data.BYTE, config.binarization, config.seed, first=ROWS)
    judged = validation(held_out, seed=config.seed, z_samples=config.z_samples)
    return Trainer(config, backends.choose("numpy"), grey[:ROWS], data.BYTE, judged)


def bits(trainer: Trainer) -> dict[str, bytes]:
    state = trainer.state
    buffers = {"parameters": state.parameters, "first": state.first_moment, "second": state.second_moment}
    return {name: buffer.flat.tobytes() for name, buffer in buffers.items()}


def run(trainer: Trainer, *, steps: int | None = None) -> list[Metrics]:
    """The metrics lines, without wall times, of training to the end or until so many steps are done."""
    lines: list[Metrics] = []
    finished = loop.run(
        trainer,
        on_metrics=lambda line: lines.append({key: value for key, value in line.items() if key != "seconds"}),
        should_stop=lambda: steps is not None and trainer.state.step >= steps,
    )
    assert finished == (steps is None)
    return lines


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_same_seed_gives_the_same_bits(settings: dict[str, Any]) -> None:
    first, second = trainer(**settings), trainer(**settings)
    assert run(first) == run(second)
    assert bits(first) == bits(second)


def test_another_seed_gives_other_parameters() -> None:
    first, second = trainer(), trainer(seed=6)
    run(first), run(second)
    assert bits(first)["parameters"] != bits(second)["parameters"]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("stop", [0, 1, 5, 8, 10, 17, 20, 29])
def test_resuming_equals_never_having_stopped(settings: dict[str, Any], stop: int, tmp_path: Path) -> None:
    """In mid-epoch, right after a metrics line and at an epoch's end: parameters, moments and lines, bit for bit."""
    whole, begun, resumed = trainer(**settings), trainer(**settings), trainer(**settings)
    lines = run(whole)
    before = run(begun, steps=stop)
    assert begun.state.step == stop
    runs.save(tmp_path, begun)
    runs.resume(tmp_path, resumed)
    assert bits(resumed) == bits(begun)
    assert before + run(resumed) == lines
    assert bits(resumed) == bits(whole)
    assert resumed.state.step == whole.state.step == 3 * STEPS_PER_EPOCH


def test_resuming_for_more_epochs_equals_asking_for_them_at_once(tmp_path: Path) -> None:
    whole, begun, resumed = trainer(epochs=5, beta_warmup=4), trainer(beta_warmup=4), trainer(epochs=5, beta_warmup=4)
    lines = run(whole)
    before = run(begun)
    runs.save(tmp_path, begun)
    runs.resume(tmp_path, resumed)
    assert before + run(resumed) == lines
    assert bits(resumed) == bits(whole)


def test_seconds_add_up_over_sittings(tmp_path: Path) -> None:
    begun, resumed = trainer(), trainer()
    run(begun, steps=13)
    runs.save(tmp_path, begun)
    runs.resume(tmp_path, resumed)
    assert resumed.seconds == begun.seconds > 0
    run(resumed)
    assert resumed.seconds > begun.seconds


def test_equal_runs_leave_a_checkpoint_of_equal_bytes(tmp_path: Path) -> None:
    """The wall time, in which they differ, is in a file beside it."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        own = trainer()
        run(own, steps=13)
        runs.save(tmp_path / name, own)
    for file in (checkpoint.WEIGHTS_FILE, checkpoint.STATE_FILE):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
    assert json.loads((tmp_path / "other" / checkpoint.TIME_FILE).read_text()) == {"seconds": own.seconds}


@pytest.mark.parametrize(("beside", "in_state", "expected"), [
    ('{"seconds": 3}', {}, 3.0), (None, {"seconds": 2.5}, 2.5), (None, {}, 0.0), ("{", {}, 0.0), ("[]", {}, 0.0),
    ('{"seconds": "3"}', {}, 0.0), ('{"seconds": NaN}', {}, 0.0), ('{"seconds": -1}', {"seconds": 2.5}, 0.0),
])  # fmt: skip
def test_a_run_goes_on_whatever_is_known_of_its_wall_time(
    beside: str | None, in_state: dict[str, float], expected: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier version kept it in the state; nothing else depends on it."""
    begun, resumed = trainer(), trainer()
    run(begun, steps=13)
    kept = {**begun.progress(), **in_state}
    monkeypatch.setattr(begun, "progress", lambda: kept)
    runs.save(tmp_path, begun)
    file = tmp_path / checkpoint.TIME_FILE
    file.unlink() if beside is None else file.write_text(beside)
    runs.resume(tmp_path, resumed)
    assert (resumed.seconds, bits(resumed)) == (expected, bits(begun))


def test_the_callbacks_come_in_order() -> None:
    heard: list[str] = []
    small = trainer(epochs=1)
    loop.run(
        small,
        on_step=lambda current: heard.append(f"step {current.state.step}"),
        on_metrics=lambda line: heard.append(f"{line['split']} at {line['step']}"),
        on_epoch=lambda current: heard.append("epoch"),
    )
    steps = [f"step {n}" for n in range(1, 11)]
    assert heard == [*steps[:5], "train at 5", *steps[5:], "train at 10", "validation at 10", "epoch"]


def test_metrics_lines_are_means_over_the_steps_since_the_last() -> None:
    """The line's ELBO is unweighted, whatever beta; `beta` is that of its last step."""
    small = trainer(epochs=2, beta=0.5, beta_warmup=1)
    terms: list[tuple[float, float, float]] = []
    summed = Running.add

    def add(self: Running, *means: float) -> None:
        terms.append(means)
        summed(self, *means)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Running, "add", add)
        lines = [line for line in run(small) if line["split"] == "train"]
    assert [(line["step"], line["epoch"]) for line in lines] == [(5, 1), (10, 1), (15, 2), (20, 2)]
    assert [line["beta"] for line in lines] == pytest.approx([0.2, 0.45, 0.5, 0.5])
    for index, line in enumerate(lines):
        reconstruction, kl, objective = np.mean(terms[5 * index : 5 * index + 5], axis=0)
        assert line["reconstruction"] == pytest.approx(reconstruction, rel=1e-12)
        assert line["kl"] == pytest.approx(kl, rel=1e-12)
        assert line["objective"] == pytest.approx(objective, rel=1e-12)
        weighted = [r - min(0.5, 0.05 * (5 * index + i)) * k for i, (r, k, _) in enumerate(terms[5 * index :][:5])]
        assert line["objective"] == pytest.approx(np.mean(weighted), rel=1e-12)
        assert line["elbo"] == line["reconstruction"] - line["kl"]


@pytest.mark.parametrize("objective", ["iwae", "stl", "dreg"])
def test_a_bound_of_several_samples_is_not_called_an_elbo(objective: str) -> None:
    """The bound stands in a column of its own, above the ELBO; a validation line has an ELBO and nothing else."""
    lines = run(trainer(objective=objective, samples=20, epochs=1))
    assert all(line["elbo"] == line["reconstruction"] - line["kl"] for line in lines)
    train_lines = [line for line in lines if line["split"] == "train"]
    assert all(line["elbo"] < line["objective"] < 0 for line in train_lines)
    assert [line["objective"] for line in lines if line["split"] == "validation"] == [None]


@pytest.mark.parametrize("objective", ["elbo", "score"])
def test_the_objective_of_an_elbo_is_the_elbo(objective: str) -> None:
    lines = [line for line in run(trainer(objective=objective, samples=2)) if line["split"] == "train"]
    assert [line["objective"] for line in lines] == pytest.approx([line["elbo"] for line in lines], rel=1e-12)


def test_the_learning_rate_follows_its_schedule() -> None:
    """Seen at Adam's door: epochs 0, 1 to 3 and 4 are in stages 1, 2 and 3."""
    rates: list[float] = []
    small = trainer(schedule="burda2015", epochs=5, lr=0.01)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "training_step", lambda *_, optimiser, **__: _note(rates, small, optimiser))
        run(small)
    assert rates == pytest.approx([0.01] * 10 + [0.0072] * 30 + [0.0052] * 10)


def _note(rates: list[float], small: Trainer, optimiser: Any) -> Terms:
    rates.append(optimiser.lr)
    small.state.step += 1
    return Terms(np.zeros(BATCH), np.zeros(BATCH))


def test_a_long_run_has_one_line_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_LONG", 2)
    steps = [line["step"] for line in run(trainer(epochs=4)) if line["split"] == "train"]
    assert steps == [5, 10, 15, 20, 30, 40]


def test_a_checkpoint_without_an_objective_can_be_resumed() -> None:
    """As older versions wrote it: what they climbed was the ELBO."""
    whole, begun, resumed = trainer(), trainer(), trainer()
    lines = run(whole)
    before = run(begun, steps=8)
    progress = {name: value for name, value in begun.progress().items() if name != "objective"}
    resumed.restore(begun.state.parameters, begun.moments(), begun.state.step, progress, begun.seconds)
    after = run(resumed)
    assert [line["objective"] for line in before + after] == pytest.approx([line["objective"] for line in lines])


@pytest.mark.parametrize(
    ("batch_size", "lines"), [(103, [1]), (25, [4]), (10, [5, 10]), (9, [6, 11]), (7, [5, 10, 14]), (6, [6, 12, 17])]
)
def test_an_epoch_has_even_parts_and_its_last_step_a_line(batch_size: int, lines: list[int]) -> None:
    small = trainer(epochs=1, batch_size=batch_size)
    assert small.steps_per_epoch == lines[-1]
    assert [line["step"] for line in run(small) if line["split"] == "train"] == lines


def test_an_epoch_visits_each_row_at_most_once_in_the_order_of_the_noise() -> None:
    """Seen through the rows that are asked for: 10 full batches, and the incomplete last one is dropped."""

    class Watched(np.ndarray[Any, Any]):
        pass

    asked: list[list[int]] = []
    small = trainer(epochs=2)
    take = Watched.__getitem__

    def watch(self: Watched, index: Any) -> Any:
        if isinstance(index, np.ndarray):
            asked.append(index.tolist())
        return take(self, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Watched, "__getitem__", watch)
        small.rows = small.rows.view(Watched)
        run(small)
    for epoch in range(2):
        batches = asked[epoch * STEPS_PER_EPOCH : (epoch + 1) * STEPS_PER_EPOCH]
        order = noise.order(ROWS, seed=5, epoch=epoch)
        assert [len(batch) for batch in batches] == [BATCH] * STEPS_PER_EPOCH
        assert [row for batch in batches for row in batch] == order[: STEPS_PER_EPOCH * BATCH].tolist()


def test_training_raises_the_elbo() -> None:
    lines = [line["elbo"] for line in run(trainer(epochs=30, binarize="threshold")) if line["split"] == "validation"]
    assert lines[-1] > lines[0] + 0.5


def test_a_memory_mapped_file_trains_to_the_same_bits(tmp_path: Path) -> None:
    in_memory = trainer()
    np.save(tmp_path / "rows.npy", in_memory.rows)
    mapped = replace(trainer(), rows=np.load(tmp_path / "rows.npy", mmap_mode="r"))
    assert isinstance(mapped.rows, np.memmap)
    assert run(in_memory) == run(mapped)
    assert bits(in_memory) == bits(mapped)


def test_real_values_train_as_they_are() -> None:
    points, _ = rings(200, 0)
    config = Config(hidden=(16,), latent=2, likelihood="normal", epochs=20, batch_size=20, lr=0.02)
    small = Trainer(config, backends.choose("numpy"), points, data.REAL)
    lines = run(small)
    assert {line["split"] for line in lines} == {"train"}
    assert lines[-1]["elbo"] > lines[0]["elbo"]
    assert small.state.parameters["likelihood.logvar"] != 0


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"batch_size: got 104, expected at most the 103 training rows"):
        trainer(batch_size=104)
    assert trainer(batch_size=103).steps_per_epoch == 1


@pytest.mark.parametrize(("rows", "expected"), [(60000, 5000), (50000, 5000), (49999, 4999), (120, 12), (9, 0)])
def test_validation_is_5000_rows_or_a_tenth_of_a_small_set(rows: int, expected: int) -> None:
    assert validation_rows(Config(), rows) == expected
    assert validation_rows(Config(validation=7), rows) == 7


def test_a_huge_step_stops_the_run_with_the_step_and_the_name(recwarn: pytest.WarningsRecorder) -> None:
    small = trainer(lr=1e30)
    with pytest.raises(NonFiniteError, match=r"^step 2: reconstruction is not finite; a smaller lr often helps$"):
        run(small)
    assert small.state.step == 2
    assert not recwarn.list


def test_a_validation_that_is_not_finite_stops_the_run() -> None:
    small = trainer(lr=1e30, batch_size=ROWS)
    with pytest.raises(NonFiniteError, match=r"^step 1: validation \w+ is not finite; a smaller lr often helps$"):
        run(small)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_the_first_bad_tensor_is_named(bad: float) -> None:
    small = trainer()
    terms = Terms(np.array([-1.0, -2.0]), np.array([0.5, 0.5]))
    assert first_non_finite(small.state, terms) is None
    assert first_non_finite(small.state, replace(terms, kl=np.array([0.5, bad]))) == "kl"
    small.state.second_moment["decoder.out.bias"][1] = bad
    small.state.parameters["decoder.out.bias"][1] = bad
    assert first_non_finite(small.state, terms) == "decoder.out.bias"
    small.state.gradients["encoder.mu.weight"][1, 1] = bad
    assert first_non_finite(small.state, terms) == "gradient of encoder.mu.weight"


def test_a_gradient_whose_square_overflows_is_found_in_the_moment() -> None:
    """Else that parameter would never move again, and no value that is looked at would ever tell."""
    small = trainer()
    terms = Terms(np.array([-1.0]), np.array([0.5]))
    small.state.gradients["encoder.mu.bias"][0] = 1e20
    with np.errstate(over="ignore"):
        assert first_non_finite(small.state, terms) is None
        small.state.second_moment["encoder.mu.bias"][0] = np.float32(1e20) ** 2
        assert first_non_finite(small.state, terms) == "second moment of encoder.mu.bias"
