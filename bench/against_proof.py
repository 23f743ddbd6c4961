"""How often `bench step --against` is wrong on this machine: `python bench/against_proof.py [--blocks 20]`.

Blocks of this checkout against itself are measured, half of them with one process made to do three steps more in every
hundred. From each half, runs of the real procedure are drawn again and again, so that two minutes of measuring tell the
rate of false alarms, and of slowdowns that are found.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import against
import numpy as np
import processor

PLANTED, STEPS, RUNS = 1.03, 67, 2000


def planted(pair: against.Pair, slower: float) -> against.Pair:
    """The same pairs, whose head does so many times the steps that it counts."""

    @contextmanager
    def opened(number: int) -> Iterator[tuple[against.Turn, against.Turn]]:
        with pair(number) as (base, head):

            def more(steps: int) -> float:
                done = round(slower * steps)
                return head(done) * done / steps

            yield base, more

    return opened


def block(pair: against.Pair, number: int) -> float:
    """The figure of one block."""
    with pair(number) as (base, head):
        base(1)
        head(1)
        return against.block(base, head, STEPS)[0]


def drawn(blocks: list[float], rng: Any) -> str:
    """The verdict of one run, whose blocks are drawn from those that were measured."""
    estimates: list[float] = []
    while len(estimates) < against.MOST_BLOCKS:
        estimates.append(float(rng.choice(blocks)))
        if len(estimates) >= against.FEWEST_BLOCKS and against.verdict(estimates) != "undecided":
            break
    return against.verdict(estimates)


def main() -> None:
    """Measure, draw, and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--workload", default="iwae")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    same = against.pairs(asked.workload, "numba", asked.threads, against.ROOT, lambda line: None)
    kinds = {"itself": same, "3% slower": planted(same, PLANTED)}
    blocks: dict[str, list[float]] = {name: [] for name in kinds}
    started, rng = time.perf_counter(), np.random.default_rng(0)
    for number in range(asked.blocks):
        for name, pair in kinds.items():
            blocks[name].append(block(pair, number))
    seconds = time.perf_counter() - started
    found = {}
    for name, mine in blocks.items():
        said = [drawn(mine, rng) for _ in range(RUNS)]
        found[name] = {word: said.count(word) / RUNS for word in sorted(set(said))}
        middle = math.exp(float(np.median(mine)))
        print(f"{name}: median of blocks {middle:.4f}, spread {np.std(mine, ddof=1):.4f}, {found[name]}")
    where = f"{processor.name()}, {asked.workload}, threads: {asked.threads}"
    print(f"{asked.blocks} blocks each in {seconds:.0f} s, {where}")
    if asked.json is not None:
        asked.json.write_text(json.dumps({"rates": found, "blocks": blocks, "processor": processor.name()}) + "\n")


if __name__ == "__main__":
    main()
