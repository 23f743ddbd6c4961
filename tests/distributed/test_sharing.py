"""Ranks that share steps and evaluations leave the bits that one alone leaves; here the ranks are threads.

Budget: about 10 s.
"""

from __future__ import annotations

import itertools
import operator
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_threads import results, together

from vae_np import VAE, backends, data, distributed, storage
from vae_np.architecture import Architecture
from vae_np.config import Config
from vae_np.distributed import ALONE, Communicator, Tree, cut, share
from vae_np.errors import ConfigError, InputError, NonFiniteError
from vae_np.evaluation import annealing, held_out
from vae_np.evaluation.annealing import Annealing
from vae_np.model import Model, initialise
from vae_np.objectives import OBJECTIVES
from vae_np.runs import folder
from vae_np.training import gradient_blocks, loop
from vae_np.training.trainer import Trainer

X = np.random.default_rng(3).integers(0, 256, (60, 16)).astype(np.uint8)
BYTES = data.Values.named("byte", None)


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models here are so small that a whole one would be a single part."""
    monkeypatch.setattr(gradient_blocks, "_PIECE", 16)


@pytest.mark.parametrize("count", [0, 1, 5, 8])
@pytest.mark.parametrize("size", [1, 3, 8])
def test_every_piece_is_in_one_share(count: int, size: int) -> None:
    shares = [share(count, rank, size) for rank in range(size)]
    assert list(itertools.chain(*shares)) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    parts = cut(1000 * count + 1, size, 64)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(1000 * count + 1))
    assert all(part.start % 64 == 0 or part.start == part.stop for part in parts)


@pytest.mark.parametrize("blocks", [1, 2, 3, 6, 7, 8, 13])
def test_the_tree_does_not_depend_on_who_holds_its_branches(blocks: int) -> None:
    """Against the definition, leaf by leaf; adding up in the order of the ranks gives other bits."""
    leaves = np.random.default_rng(blocks).standard_normal((blocks, 500)).astype(np.float32)
    tree = Tree(blocks)

    def plain(first: int, end: int) -> Any:
        if end - first == 1:
            return leaves[first]
        middle = first + max(p for p in (1, 2, 4, 8) if p < end - first)
        return plain(first, middle) + plain(middle, end)

    for size in range(1, blocks + 1):
        held = {}
        for rank in range(size):
            own = share(blocks, rank, size)
            branches = tree.branches(own)
            assert list(itertools.chain(*(range(*branch) for branch in branches))) == list(own)
            held |= {branch: plain(*branch).copy() for branch in branches}
        assert tree.sum(held, operator.iadd).tobytes() == plain(0, blocks).tobytes()
    if blocks > 3:
        assert sum(leaves).tobytes() != plain(0, blocks).tobytes()  # type: ignore[union-attr]


def settings(**changes: Any) -> Config:
    how = {"hidden": (12,), "latent": 3, "batch_size": 20, "gradient_blocks": 4, "epochs": 2, "lr": 0.01}
    return Config(**{**how, "values": "byte", "scale": 255.0, "backend": "numpy", **changes})


def trained(config: Config, communicator: Communicator = ALONE, x: Any = X) -> Trainer:
    examples = held_out.Examples(X[:7], BYTES, config.binarization, 0)
    judged = held_out.validation(examples, seed=0, communicator=communicator)
    trainer = Trainer(config, backends.choose(config.backend), x, BYTES, judged, communicator=communicator)
    loop.run(trainer, on_metrics=lambda line: None)
    return trainer


def bits(trainer: Trainer) -> tuple[Any, ...]:
    arrays = trainer.state.parameters.flat, *trainer.moments().values()
    return *(array.tobytes() for array in arrays), repr(trainer.running), trainer.state.step


def same_on_all(config: Config, sizes: tuple[int, ...]) -> None:
    expected = bits(trained(config))
    for size in sizes:
        for rank, found in enumerate(results(size, lambda communicator: bits(trained(config, communicator)))):
            assert found == expected, (size, rank)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_any_number_of_ranks_leaves_the_same_bits(objective: str, dtype: str) -> None:
    same_on_all(settings(objective=objective, samples=2, dtype=dtype), (2, 3, 4))


@pytest.mark.parametrize("changes", [
    {"objective": "elbo"}, {"objective": "iwae", "samples": 3, "dtype": "float64"}, {"likelihood": "normal"},
])  # fmt: skip
def test_fused_steps_do_too(changes: dict[str, Any]) -> None:
    pytest.importorskip("numba")
    same_on_all(settings(backend="numba", **changes), (2, 3))


@pytest.mark.parametrize("changes", [
    {"optimizer": "adagrad", "gradient_blocks": 10}, {"gradient_blocks": 5}, {"gradient_blocks": 20},
])  # fmt: skip
def test_so_do_adagrad_and_odd_numbers_of_blocks(changes: dict[str, Any]) -> None:
    same_on_all(settings(**changes), (3, 5))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_blocks_give_the_gradient_of_the_whole_batch(objective: str, backend: str) -> None:
    if backend == "numba":
        pytest.importorskip("numba")
    whole, cut_up = (
        trained(settings(objective=objective, samples=3, dtype="float64", backend=backend, gradient_blocks=blocks))
        for blocks in (1, 4)
    )
    assert whole.blocks is None
    expected = whole.state.parameters.flat
    assert np.abs(cut_up.state.parameters.flat - expected).max() < 1e-11 * np.abs(expected).max()


def test_blocks_that_are_added_in_another_order_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted: each rank's blocks first, and then the ranks' sums."""

    class ByRank(Tree):
        def sum(self, held: Any, add: Any) -> Any:
            return sum(held[branch] for branch in sorted(held))

    monkeypatch.setattr(gradient_blocks, "Tree", ByRank)
    config = settings(gradient_blocks=10)
    (of_five, *_), (of_three, *_) = (results(size, lambda c: bits(trained(config, c))) for size in (5, 3))
    assert of_five != of_three


def test_what_travels_is_what_is_said_to() -> None:
    def body(communicator: Any) -> tuple[int, int]:
        trainer = Trainer(settings(), backends.choose("numpy"), X, BYTES, communicator=communicator)
        trainer.step(np.arange(20), trainer.optimiser(0))
        return communicator.moved, trainer.blocks.bytes_per_step  # type: ignore[union-attr]

    for size in (2, 4):
        moved, said = np.array(results(size, body)).T
        assert moved.tolist() == said.tolist()
        # Every part of every gradient but the own ones, and every parameter but the own ones, go out and come in.
        entries = initialise(Architecture(16, 3, (12,)), seed=0).flat.size
        assert 2 * 2 * 4 * entries * (size - 1) <= said.sum() <= 2.5 * 2 * 4 * entries * (size - 1)


def test_more_ranks_than_blocks_is_a_mistake_on_all() -> None:
    for error in together(3, lambda communicator: trained(settings(gradient_blocks=2), communicator)):
        assert isinstance(error, ConfigError)
        assert "got 2 for 3 processes, expected at least one for each: --gradient-blocks 3" in str(error)


@pytest.mark.parametrize(("changes", "why"), [
    ({"gradient_blocks": 3}, "got 3, expected a divisor of the batch size 20"),
    ({"gradient_blocks": 4, "inference": "local"}, "with inference 'local', expected 1"),
])  # fmt: skip
def test_blocks_have_to_fit(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        settings(**changes)


def test_what_is_not_finite_has_the_same_name_on_all() -> None:
    errors = together(2, lambda communicator: trained(settings(lr=1e30, epochs=5), communicator))
    alone = together(1, lambda communicator: trained(settings(lr=1e30, epochs=5), communicator))
    assert all(isinstance(error, NonFiniteError) for error in errors)
    assert {str(error) for error in errors} == {str(alone[0])}


def test_one_that_is_asked_to_stop_stops_all() -> None:
    def body(communicator: Communicator) -> int:
        trainer = Trainer(settings(), backends.choose("numpy"), X, BYTES, communicator=communicator)
        done = loop.run(trainer, should_stop=lambda: communicator.rank == 1 and trainer.state.step == 2)
        assert not done
        return trainer.state.step

    assert results(2, body) == [2, 2]


def test_fit_shares_its_steps() -> None:
    def fitted(communicator: Communicator | None) -> Any:
        vae = VAE(16, hidden=(12,), latent=3, backend="numpy")
        vae.fit(X, epochs=2, batch_size=20, gradient_blocks=4, communicator=communicator, validation=10)
        vae.fit(X, epochs=1, batch_size=20, gradient_blocks=4, communicator=communicator, validation=10)
        lines = [{name: value for name, value in line.items() if name != "seconds"} for line in vae.history.lines]
        return [array.tobytes() for array in (vae.parameters.flat, *vae._state.moments().values())], lines

    expected = fitted(None)
    assert all(found == expected for found in results(3, fitted))


@pytest.mark.parametrize("differ", ["seed", "x", "lr"])
def test_ranks_that_were_not_given_the_same_are_found(differ: str) -> None:
    def body(communicator: Communicator) -> None:
        own = communicator.rank if communicator.rank == 2 else 0
        vae = VAE(16, hidden=(12,), latent=3, backend="numpy", seed=own if differ == "seed" else 0)
        rows = np.where(X > 200, own, X) if differ == "x" else X
        lr = 0.001 + own if differ == "lr" else 0.001
        vae.fit(rows, batch_size=20, gradient_blocks=4, lr=lr, seed=0, communicator=communicator)

    name = {"seed": "(configuration|model)", "x": "(configuration|data)", "lr": "configuration"}[differ]
    for error in together(3, body):
        assert isinstance(error, InputError)
        assert pytest.raises(InputError, match=f"{name}: rank 2 on .* has .*, but rank 0 has").matches(error)


def test_a_folder_that_one_does_not_see_is_a_mistake_on_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blind, see = set(), folder._holder
    monkeypatch.setattr(folder, "_UNSEEN_SECONDS", 0.1)
    monkeypatch.setattr(folder, "_holder", lambda place: "" if threading.get_ident() in blind else see(place))

    def body(communicator: Communicator) -> Path:
        if communicator.rank in unseeing:
            blind.add(threading.get_ident())
        return folder.shared(communicator, tmp_path if communicator.is_first else None)

    with storage.hold(tmp_path):
        unseeing: set[int] = set()
        assert together(3, body) == [tmp_path] * 3
        unseeing = {1}
        for error in together(3, body):
            assert isinstance(error, InputError)
            assert re.match(f"out: {tmp_path}: rank 1 on .* does not see this folder of rank 0; all ranks", str(error))


def test_another_version_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def body(communicator: Communicator) -> None:
        facts = {"version": "0.1"} if communicator.rank == 1 else {}
        distributed.check_agreement(communicator, facts)

    for error in together(2, body):
        assert "version: rank 1" in str(error)


def test_a_communicator_is_one_of_mpi4py() -> None:
    with pytest.raises(InputError, match="communicator: got 4, expected one of mpi4py"):
        distributed.of(4)
    assert distributed.of(None) is ALONE


MODEL = Model(backends.choose("numpy").ops, ARCH := Architecture(16, 3, (12,)), initialise(ARCH, seed=1))
EXAMPLES = held_out.Examples(X[:40], BYTES, "dynamic", 4)
HOW = Annealing(chains=2, temperatures=5, leapfrog=1)


@pytest.mark.parametrize("estimate", [
    pytest.param(lambda c, **how: held_out.elbo_terms(MODEL, EXAMPLES, seed=1, z_samples=2, communicator=c), id="elbo"),
    pytest.param(lambda c, **how: held_out.posterior_moments(MODEL, EXAMPLES, communicator=c), id="moments"),
    pytest.param(
        lambda c, **how: held_out.log_likelihood(MODEL, EXAMPLES, samples=9, seed=1, communicator=c, **how), id="is"
    ),
    pytest.param(
        lambda c, **how: held_out.annealed_log_likelihood(MODEL, EXAMPLES, HOW, seed=1, communicator=c, **how), id="ais"
    ),
    pytest.param(
        lambda c, **how: held_out.annealed_log_likelihood(
            MODEL, EXAMPLES, HOW, seed=1, posterior=np.zeros((40, 3), np.float32), communicator=c, **how
        ),
        id="bdmc",
    ),
])  # fmt: skip
def test_evaluation_is_shared(estimate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_BATCH", "_LIKELIHOOD_BATCH"):
        monkeypatch.setattr(held_out, name, 7)
    monkeypatch.setattr(Annealing, "batch", 7)
    monkeypatch.setattr(annealing, "_PILOT_TRANSITIONS", 5)

    def arrays(found: Any) -> list[bytes]:
        values = found if isinstance(found, tuple) else [v for v in vars(found).values() if v is not None]
        return [value.tobytes() for value in values]

    expected = arrays(estimate(ALONE))
    for size in (2, 7):
        assert all(arrays(found) == expected for found in results(size, estimate))


def test_a_shared_estimate_goes_on_where_it_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "_LIKELIHOOD_BATCH", 7)

    def estimate(communicator: Communicator, done: Any = None) -> list[Any]:
        kept: list[Any] = []
        how: dict[str, Any] = {"samples": 9, "seed": 1, "communicator": communicator}
        held_out.log_likelihood(MODEL, EXAMPLES, on_batch=kept.append, done=done, **how)
        return kept

    whole = estimate(ALONE)[-1]
    # After the first round of three ranks 21 examples are done.
    part = results(3, estimate)[0][0]
    assert len(part.ess) == 21
    for found in results(2, lambda communicator: estimate(communicator, part)[-1]):
        assert all(getattr(found, name).tobytes() == value.tobytes() for name, value in vars(whole).items())
