"""What an interrupted evaluation keeps: for the same evaluation and no other, whole or not at all.

Budget: about 0.3 s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vae_np import runs, storage
from vae_np.config import Config
from vae_np.errors import WriteError
from vae_np.evaluation import partial_results
from vae_np.evaluation.annealing import BidirectionalEstimate
from vae_np.evaluation.importance import Estimate
from vae_np.evaluation.partial_results import PartialResults, digest

KEY = {"estimator": "is", "samples": 7, "seed": 3}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_results, "_SECONDS_BETWEEN", -1.0)


def estimate(n: int, kind: Any = Estimate, columns: int = 4) -> Any:
    return kind(*np.random.default_rng(n).normal(size=(columns, n)))


def test_what_is_added_is_found_again(tmp_path: Path) -> None:
    first = PartialResults(tmp_path, KEY, Estimate)
    assert (len(first), first.done, first.seconds) == (0, None, 0.0)
    for n in (4, 9):
        first.add(estimate(n))
    again = PartialResults(tmp_path, KEY, Estimate)
    assert len(again) == 9
    assert again.seconds > 0
    for name in ("log_likelihood", "stderr", "ess"):
        assert np.array_equal(getattr(again.done, name), getattr(estimate(9), name))
    again.remove()
    assert list(tmp_path.iterdir()) == []
    again.remove()


def test_every_kind_of_estimate_keeps_its_own_arrays(tmp_path: Path) -> None:
    PartialResults(tmp_path, KEY, BidirectionalEstimate).add(estimate(5, BidirectionalEstimate, 8))
    done = PartialResults(tmp_path, KEY, BidirectionalEstimate).done
    assert done is not None
    assert np.array_equal(done.upper_ess, estimate(5, BidirectionalEstimate, 8).upper_ess)


@pytest.mark.parametrize("change", [{"estimator": "ais"}, {"samples": 8}, {"seed": 4}, {"checkpoint": "another"}])
def test_another_evaluation_does_not_take_it(tmp_path: Path, change: dict[str, Any]) -> None:
    PartialResults(tmp_path, KEY, Estimate).add(estimate(4))
    other = PartialResults(tmp_path, {**KEY, **change}, Estimate)
    assert len(other) == 0
    other.add(estimate(6))
    assert len(PartialResults(tmp_path, KEY, Estimate)) == 4
    assert len(PartialResults(tmp_path, {**KEY, **change}, Estimate)) == 6


def test_a_file_of_that_name_with_another_key_is_not_taken(tmp_path: Path) -> None:
    mine = PartialResults(tmp_path, KEY, Estimate)
    other = PartialResults(tmp_path, {**KEY, "seed": 9}, Estimate)
    other.add(estimate(4))
    other.path.rename(mine.path)
    assert len(PartialResults(tmp_path, KEY, Estimate)) == 0


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive at all", None])
def test_a_damaged_file_is_told_of_and_not_used(tmp_path: Path, content: bytes | None) -> None:
    kept = PartialResults(tmp_path, KEY, Estimate)
    kept.add(estimate(4))
    kept.path.write_bytes(kept.path.read_bytes()[:-200] if content is None else content)
    again = PartialResults(tmp_path, KEY, Estimate)
    assert len(again) == 0
    assert again.problem is not None
    assert "damaged" in again.problem
    again.add(estimate(3))
    assert len(PartialResults(tmp_path, KEY, Estimate)) == 3


def test_writing_waits_a_second_but_an_end_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_results, "_SECONDS_BETWEEN", 1000.0)
    kept = PartialResults(tmp_path, KEY, Estimate)
    kept.add(estimate(4))
    assert list(tmp_path.iterdir()) == []
    kept.write()
    assert len(PartialResults(tmp_path, KEY, Estimate)) == 4


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise WriteError(f"{path}: cannot be written")

    monkeypatch.setattr(storage, "write_atomic", refuse)
    kept = PartialResults(tmp_path, KEY, Estimate)
    kept.add(estimate(4))
    assert len(kept) == 4
    assert kept.problem is not None
    assert kept.problem.endswith("cannot be written")


def test_a_new_run_in_the_folder_forgets_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    runs.start(folder, Config())
    PartialResults(folder, KEY, Estimate).add(estimate(4))
    with runs.claim(str(folder), overwrite=True):
        runs.start(folder, Config())
        assert not list(folder.glob(partial_results.PATTERN))


def test_a_digest_tells_bytes_apart() -> None:
    array = np.arange(12).reshape(3, 4)
    assert digest(array) == digest(array.copy()) == digest(np.asfortranarray(array))
    assert len({digest(array), digest(array + 1), digest(b"x"), digest(b"x", array)}) == 4
