"""What does not fit into memory is refused before it is allocated, with what it would need. Budget: about 1 s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vae_np import VAE, memory
from vae_np.config import Config
from vae_np.data import bars
from vae_np.errors import InputError
from vae_np.evaluation.annealing import Annealing

X = bars(4, 40, 0)[0]


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 1 GB."""
    monkeypatch.setattr(memory, "limit", lambda: 10**9)


def small_vae() -> VAE:
    return VAE(16, hidden=(8,), latent=2, backend="numpy")


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: VAE(16, hidden=(8,), latent=10**9), "latent: got 1000000000, .* it needs at least 416 GB, .* 1 GB"),
        (lambda: VAE(16, hidden=(8, 10**9), latent=2), "hidden: got 8,1000000000, .* it needs at least 384 GB"),
        (lambda: VAE(16, hidden=(8, 10**30), latent=2), "hidden: got 8,10+, .* it needs at least "),
        (lambda: small_vae().sample(10**9), "n: got 1000000000, .* it needs at least 360 GB"),
        (lambda: small_vae().prior(10**9), "n: got 1000000000, .* it needs at least 360 GB"),
        (lambda: small_vae().bidirectional(10**9), "n: got 1000000000, .* it needs at least 360 GB"),
        (lambda: small_vae().elbo(X, z_samples=10**7), "z_samples: got 10000000, .* it needs at least 25.6 GB"),
        (
            lambda: VAE(784, hidden=(8,), latent=2, backend="numpy").annealed_log_likelihood(
                np.zeros((3, 784)), Annealing(chains=10**6)
            ),
            "chains: got 1000000, .* it needs at least 3.14 GB",
        ),
        (
            lambda: small_vae().fit(X, objective="iwae", samples=10**7, batch_size=20),
            "samples: got 10000000, .* it needs at least 20.8 GB",
        ),
        (
            lambda: VAE(16, hidden=(8,), latent=2, backend="numpy", refine_steps=10**8).fit(X, batch_size=20),
            "refine_steps: got 100000000, .* it needs at least 64 GB",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_need(work: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        work()


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: small_vae().sample(10**12), "n: got 1000000000000, expected a whole number >= 1 and < 2**31"),
        (
            lambda: small_vae().log_likelihood(X, 10**9),
            "samples: got 1000000000, expected a whole number >= 1 and < 2**24",
        ),
        (lambda: small_vae().elbo(X, z_samples=10**30), "z_samples: got 1" + 30 * "0"),
        (lambda: Annealing(chains=10**9), "chains: got 1000000000, expected a whole number >= 1 and < 2**22"),
        (lambda: Annealing(temperatures=10**30), "temperatures: got 1" + 30 * "0"),
        (lambda: Config(latent=10**12), "latent: got 1000000000000, expected a whole number >= 1 and < 2**31"),
    ],
)
def test_what_no_machine_could_count_is_refused(work: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        work()
    assert str(caught.value).startswith(message)


def test_the_limit_is_the_containers_where_it_is_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = memory.limit()
    assert whole > 2**28
    (tmp_path / "limit").write_text("123456789\n")
    (tmp_path / "none").write_text("max\n")
    monkeypatch.setattr(memory, "_CONTAINER", (tmp_path / "absent", tmp_path / "none"))
    machine = memory.limit()
    assert machine >= whole
    monkeypatch.setattr(memory, "_CONTAINER", (tmp_path / "none", tmp_path / "limit"))
    assert memory.limit() == 123_456_789


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (25_300_000_000, "25.3 GB"), (10**24, "1e+06 EB")],
)
def test_sizes_are_read_easily(count: int, text: str) -> None:
    assert memory.size(count) == text
