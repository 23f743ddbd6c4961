"""Whole programs, from start to end: `vae-np train --no-plots` beside a JAX script, and its memory beside PyTorch's.

Run with: python bench/whole_training.py [--rounds 3] [--epochs 10] [--threads N] [--peers torch,jax] [--busy]
                                         [--json FILE]

Each program runs once to fill its cache of compiled code, then they take turns. The time is the process's, from its
start to its end; the memory its largest resident set. Test ELBOs have to agree within 0.5 nats. With --busy another
process keeps one of the processors busy all the time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

# Nothing large is imported here: a process starts with its parent's largest resident set on its account.
HERE = Path(__file__).parent
_NATS = 0.5


def commands(folder: Path, peers: list[str], epochs: int) -> dict[str, list[str]]:
    """What to run, by name; `folder` is for what is written."""
    python = [sys.executable]
    ours = [*python, "-m", "vae_np", "train", "--no-plots", "--epochs", str(epochs), "--json", "-"]
    found = {"vae-np train": [*ours, "--out", str(folder / "run"), "--overwrite"]}
    if "jax" in peers:
        found["jax"] = [*python, str(HERE / "peers" / "jax_training.py"), str(epochs), str(folder / "jax-cache")]
    if "torch" in peers:
        found["torch"] = [*python, str(HERE / "peers" / "torch_training.py"), str(epochs)]
    return found


def run(command: list[str], threads: int, cwd: Path) -> dict[str, float]:
    """One run on so many processors: `seconds`, `peak_mb` and the `test_elbo` that it prints."""
    processors = sorted(os.sched_getaffinity(0))[-threads:]
    # The limits of a library that counts threads by a variable alone; affinity holds all others.
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    before = os.sched_getaffinity(0)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        os.sched_setaffinity(0, processors)
        try:
            process = subprocess.Popen(command, stdout=out, stderr=said, cwd=cwd, env={**os.environ, **limits})
        finally:
            os.sched_setaffinity(0, before)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit {process.returncode}\n{said.read().decode()}")
        out.seek(0)
        printed = json.load(out)
    elbo = printed["test_elbo"] if "test_elbo" in printed else printed["test"]["elbo"]["mean"]
    return {"seconds": seconds, "peak_mb": used.ru_maxrss / 1024, "test_elbo": elbo}


@contextmanager
def busy_processor(threads: int) -> Iterator[subprocess.Popen[bytes]]:
    """One of the processors that everyone runs on is kept busy by a process of its own."""
    one = sorted(os.sched_getaffinity(0))[-threads]
    spin = f"import os\nos.sched_setaffinity(0, {{{one}}})\nwhile True: pass"
    process = subprocess.Popen([sys.executable, "-c", spin])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Run everything in turns, print the table, and fail where the test ELBOs part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--peers", default="torch,jax")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, busy_processor(asked.threads) if asked.busy else nullcontext():
        folder = Path(name)
        programs = commands(folder, asked.peers.split(","), asked.epochs)
        cold = {who: run(command, asked.threads, folder) for who, command in programs.items()}
        runs: dict[str, list[dict[str, float]]] = {who: [] for who in programs}
        for _ in range(asked.rounds):
            for who, command in programs.items():
                runs[who].append(run(command, asked.threads, folder))
    results = [_summary(who, mine, cold[who], asked) for who, mine in runs.items()]
    peer = min((one["median_s"] for one in results[1:]), default=None)
    for one in results:
        one["ratio_to_fastest_peer"] = None if peer is None else one["median_s"] / peer
        ratio = "" if peer is None else f"   {one['ratio_to_fastest_peer']:.2f} of the fastest peer"
        print(
            f"{one['program']:<14}{one['median_s']:7.2f} s (first {one['first_s']:.2f} s)   "
            f"{one['peak_mb']:6.0f} MB   test ELBO {one['test_elbo']:.2f}{ratio}"
        )
    if asked.json is not None:
        # Imported only here, when nothing is started any more.
        import processor

        environment = {"processor": processor.name(), "commit": processor.commit(), "busy": asked.busy}
        content = {"results": results, "environment": environment}
        asked.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    elbos = [one["test_elbo"] for one in results]
    if max(elbos) - min(elbos) > _NATS:
        raise SystemExit(f"test ELBOs from {min(elbos):.2f} to {max(elbos):.2f} nats: they do not do the same")


def _summary(who: str, mine: list[dict[str, float]], first: dict[str, float], asked: Any) -> dict[str, Any]:
    return {
        "program": who,
        "median_s": statistics.median(one["seconds"] for one in mine),
        "all_s": [one["seconds"] for one in mine],
        "first_s": first["seconds"],
        "peak_mb": max(one["peak_mb"] for one in mine),
        "test_elbo": mine[-1]["test_elbo"],
        "rounds": len(mine),
        "threads": asked.threads,
    }


if __name__ == "__main__":
    main()
