"""300 real kills (SIGKILL) of a small training at random moments; resumed, each ends in the bytes of one that was not
killed.

A child is forked for every sitting, so that its kill comes in the training and not in Python's imports. Budget: about
120 s, all of it slow.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from commandline import TINY, good, grey_bars, metrics

from vae_np import checkpoint, cli, storage

KILLS, PARTS, AFTER_A_CHECKPOINT = 300, 6, 200
EPOCHS = 60
RUN = ("--data", "bars.npy", "--epochs", EPOCHS, "--backend", "numpy", *TINY)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="a child is forked for each kill"),
]


def start(*arguments: object) -> int:
    """Run `vae-np` in a child; its process id."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        sys.argv = ["vae-np", *map(str, arguments)]
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def killed(child: int, seconds: float) -> bool:
    """Kill a child after so many seconds; False where it has ended before, well."""
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, Path("log.txt").read_text()
    return False


def assert_nothing_finished_is_lost(run: Path, before: int) -> int:
    """The checkpoint is whole, not older than it was, and every line up to it is there; its step, or 0 for none."""
    if not (run / checkpoint.STATE_FILE).exists():
        assert before == 0
        return 0
    step = checkpoint.load_state(run).step
    assert step >= before
    steps = []
    for line in (run / "metrics.jsonl").read_text().splitlines():
        try:
            steps.append(json.loads(line)["step"])
        except json.JSONDecodeError:
            assert line == (run / "metrics.jsonl").read_text().splitlines()[-1]
    assert set(range(5, step + 1, 5)) <= set(steps)
    return step


@pytest.mark.parametrize("part", range(PARTS))
def test_kills_at_random_moments_lose_nothing(part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    grey_bars(tmp_path / "bars.npy")
    began = time.perf_counter()
    good("train", *RUN, "--out", "whole")
    whole_takes = time.perf_counter() - began
    moments = random.Random(part)
    kills, late, runs, step = 0, 0, 0, 0
    run = Path("cut")
    while kills < KILLS // PARTS:
        if (run / checkpoint.STATE_FILE).exists():
            child = start("train", "--resume", run, "--no-plots")
        else:
            child = start("train", *RUN, "--out", run, "--overwrite")
        if killed(child, moments.uniform(0, 0.4 * whole_takes)):
            reached = assert_nothing_finished_is_lost(run, step) if run.exists() else 0
            kills, late, step = kills + 1, late + (reached > 0), reached
            continue
        runs, step = runs + 1, 0
        assert (run / checkpoint.WEIGHTS_FILE).read_bytes() == Path("whole", checkpoint.WEIGHTS_FILE).read_bytes()
        same, other = checkpoint.load_state(run), checkpoint.load_state("whole")
        assert {name: moment.tobytes() for name, moment in same.moments.items()} == {
            name: moment.tobytes() for name, moment in other.moments.items()
        }
        assert metrics(run) == metrics(Path("whole"))
        assert (run / "config.toml").read_bytes() == Path("whole/config.toml").read_bytes()
        expected = {"config.toml", "metrics.jsonl"}
        expected |= {checkpoint.WEIGHTS_FILE, checkpoint.STATE_FILE, checkpoint.TIME_FILE}
        assert set(os.listdir(run)) - {storage.LOCK} == expected
        run.rename(f"done{runs}")
    print(f"{kills} kills, {late} after the first checkpoint, {runs} runs to their end")
    assert late >= AFTER_A_CHECKPOINT // PARTS + 1
    assert runs >= 1
