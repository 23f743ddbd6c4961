"""What all parity tests share: the number of threads is afterwards what it was before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vae_np import backends


@pytest.fixture(autouse=True)
def _threads_restored() -> Iterator[None]:
    if backends.missing("numba") is not None:
        yield
        return
    from vae_np.kernels import cpu

    before = cpu.threads()
    yield
    cpu.set_threads(before)
