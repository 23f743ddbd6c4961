"""Chapter 11: how bits spread, the normals' tails and the size of signals, and what the prose says of them.

Budget: about 2 s.
"""

from __future__ import annotations

import numpy as np

from study import notebook
from study.prose import readable, says
from vae_np import noise
from vae_np.study import Result
from vae_np.study import chapter11_noise as chapter

NAME = "11-noise"


def test_the_notes_and_the_figure_are_made() -> None:
    result = Result(figures=chapter.figures(0), notes=chapter.notes(0))
    readable(result)
    assert chapter.CLAIMS == {}
    assert len(result.notes) == 3
    assert set(result.figures) == {"11-noise"}


def test_the_rounds_written_once_more_are_the_packages() -> None:
    counter = np.random.default_rng(0).integers(0, 2**32, (50, 4), dtype=np.uint32)
    again = noise.philox(tuple(counter.T), (7, 11))  # type: ignore[arg-type]  # a tuple of any length
    np.testing.assert_array_equal(chapter.rounds(counter, (7, 11), noise.ROUNDS), np.stack(again, axis=1))
    # The published vector of counter and key zero.
    zero = chapter.rounds(np.zeros((1, 4), np.uint32), (0, 0), 10)
    assert [f"{word:08x}" for word in zero[0]] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


def test_a_flipped_bit_changes_half_of_all_bits_as_the_prose_says() -> None:
    mean = chapter.avalanche(0).mean(axis=1)
    assert mean[0] == 1
    # 64 ± 4.5 standard errors of a binomial's mean.
    assert abs(mean[10] - 64) < 4.5 * np.sqrt(32 / chapter.COUNTERS)
    says(11, f"{mean[1]:.1f} of the 128 bits after one round, {mean[3]:.1f} after three", f"{mean[5]:.1f} after five")


def test_tails_are_those_of_a_normal() -> None:
    for t in (1.0, 2.0, 3.0, 4.0):
        found, expected = chapter.beyond(0, t)
        assert abs(found - expected) < 4.5 * np.sqrt(expected / chapter.NORMALS)


def test_signals_keep_their_size_or_lose_it_as_the_prose_says() -> None:
    shares = {}
    for name, scheme, gain in (("one", "glorot", 1.0), ("two", "glorot", 2**0.5), ("four", "glorot", 2.0)):
        sizes = chapter.signal(0, scheme, gain)
        shares[name] = sizes[-1] / sizes[0]
    assert 0.2 < shares["two"] < 5
    assert shares["four"] > 500
    says(11, f"by a factor of {1 / shares['one']:,.0f} with $1/n$")


def test_its_notebook_runs_from_top_to_bottom() -> None:
    notebook.in_a_copy(NAME).check(NAME)
