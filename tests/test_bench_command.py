"""`vae-np bench` from a checkout: what it writes, and what it refuses; no time is asserted. Budget: about 10 s."""

from __future__ import annotations

from pathlib import Path

import pytest
from commandline import good, vae_np

from vae_np import backends, ops
from vae_np.commands import bench

FIELDS = {
    "what": str, "workload": str, "backend": str, "median_ms": float, "q25_ms": float, "q75_ms": float,
    "first_ms": float, "rounds": int, "threads": int, "sparse": bool,
}  # fmt: skip
RATIOS = ("ratio_to_fastest_peer", "ratio_to_gemm_floor")


def test_a_step_beside_its_floor() -> None:
    content = good("bench", "step", "--workload", "iwae", "--rounds", 1, "--json", "-").json
    assert content["schema"] == "vae-np/bench/1"
    assert {"cpu", "cores", "threads", "blas", "precision", "libraries"} <= set(content["environment"])
    for result in content["results"]:
        assert set(result) == {*FIELDS, *RATIOS}
        assert all(isinstance(result[name], kind) for name, kind in FIELDS.items())
        assert 0 < result["q25_ms"] <= result["median_ms"] <= result["q75_ms"]
        assert result["ratio_to_fastest_peer"] is None
    ours = backends.choose().name
    assert {(result["what"], result["backend"]) for result in content["results"]} >= {
        ("step", ours),
        ("step", "gemm only"),
    }
    floor = next(result for result in content["results"] if result["backend"] == "gemm only")
    assert floor["ratio_to_gemm_floor"] == 1


def test_every_operation_is_timed() -> None:
    content = good("bench", "ops", "--workload", "iwae", "--rounds", 1, "--json", "-").json
    assert {result["what"] for result in content["results"]} == set(ops.__all__)
    assert all(result[name] is None for result in content["results"] for name in RATIOS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["all"], "what: got 'all', expected one of ops, step, eval"),
        (["--workload", "big"], "workload: got 'big', expected one of pt, kingma, iwae, wide"),
        (["--peers", "tinygrad"], "peers: got 'tinygrad', expected one of torch, jax"),
        (["--rounds", "0"], "rounds: got '0', expected a whole number >= 1"),
    ],
)
def test_what_is_not_there_is_refused_by_name(arguments: list[str], message: str) -> None:
    result = vae_np("bench", *arguments)
    assert (result.code, result.err) == (2, f"vae-np: {message}\n")


@pytest.mark.skipif(backends.missing("numba") is not None, reason="the kernels are not here")
def test_more_threads_than_there_are_is_one_line() -> None:
    result = vae_np("bench", "--backend", "numba", "--threads", 4096)
    assert result.code == 2
    assert result.err.startswith("vae-np: threads: got 4096, expected a whole number from 1 to ")


def test_outside_a_checkout_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bench.vae_np, "__file__", str(tmp_path / "vae_np" / "__init__.py"))
    result = vae_np("bench")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert result.err.startswith("vae-np: bench: runs from a checkout only")
