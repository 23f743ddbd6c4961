"""Write the tables of docs/speed.md and of the front page from what was measured: `python bench/speed_page.py`.

Each row is of a file bench/results/PROCESSOR/cpu-step-WORKLOAD.json, as `vae-np bench --json` wrote it. The front page
has a row for each workload of one stochastic layer, of the processor on which we come off worst.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from workloads import AFTER, DRAWN, STEP, WORKLOADS

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE, FRONT = ROOT / "bench" / "results", ROOT / "docs" / "speed.md", ROOT / "README.md"
TITLES = {"step": STEP, "after": AFTER, "drawn": DRAWN}
NAMES = {"intel-emerald-rapids": "Intel Emerald Rapids", "amd-epyc-zen5": "AMD Zen 5"}
_HEAD = (
    "workload", "first layer", "ours", "ours, dense", "JAX", "PyTorch: its fastest", "and flushed", "gemm only",
    "ours / fastest peer", "ours / gemm only",
)  # fmt: skip
_FRONT_HEAD = ("step", "processor", "ours", "first layer", "JAX", "PyTorch: its fastest", "ours / fastest peer")
_MODES = ("torch eager", "torch compiled", "torch whole graph")


def measured(processor: str, workload: str, title: str, threads: str = "") -> dict[str, dict[str, Any]] | None:
    """The rows of a title, by contestant; None where nothing was measured. The file's name ends in `threads`."""
    path = RESULTS / processor / f"cpu-step-{workload}{threads}.json"
    if not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    return {one["backend"]: one for one in content["results"] if one["what"] == title} or None


def _ms(rows: dict[str, dict[str, Any]], name: str) -> str:
    return f"{rows[name]['median_ms']:.3g}" if name in rows else "–"


def _torch(rows: dict[str, dict[str, Any]]) -> str:
    mode = min((mode for mode in _MODES if mode in rows), key=lambda mode: rows[mode]["median_ms"], default=None)
    return "–" if mode is None else f"{_ms(rows, mode)}, {mode.removeprefix('torch ')}"


def _ratio(value: float | None) -> str:
    if value is None:
        return "–"
    return f"**{value:.2f}**" if value > 1 else f"{value:.2f}"


def _layer(ours: dict[str, Any]) -> str:
    return "sparse" if ours["sparse"] else "dense"


def table(processor: str, title: str, threads: str = "") -> str:
    """One table of a processor."""
    lines = []
    for workload in WORKLOADS:
        rows = measured(processor, workload, title, threads)
        if rows is not None:
            ours = rows["numba"]
            lines.append((
                f"`{workload}`", _layer(ours), _ms(rows, "numba"),
                _ms(rows, "numba dense") if ours["sparse"] else _ms(rows, "numba"), _ms(rows, "jax"), _torch(rows),
                _ms(rows, "torch flushed"), _ms(rows, "gemm only"), _ratio(ours["ratio_to_fastest_peer"]),
                _ratio(ours["ratio_to_gemm_floor"]),
            ))  # fmt: skip
    return _markdown(_HEAD, lines)


def front() -> str:
    """The front page's table: each workload on the processor where its step comes off worst."""
    lines = []
    for workload in (name for name, one in WORKLOADS.items() if one.arch.top_latent is None):
        found = [
            (rows["numba"]["ratio_to_fastest_peer"], processor, rows)
            for processor in NAMES
            if (rows := measured(processor, workload, STEP)) is not None
        ]
        if found:
            ratio, processor, rows = max(found, key=lambda one: one[0])
            lines.append((
                f"`{workload}`", NAMES[processor], f"{_ms(rows, 'numba')} ms", _layer(rows["numba"]),
                f"{_ms(rows, 'jax')} ms", _torch(rows), _ratio(ratio),
            ))  # fmt: skip
    return _markdown(_FRONT_HEAD, lines)


def _markdown(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    rows = [f"| {' | '.join(cells)} |" for cells in (head, *lines)]
    rows.insert(1, "|---" * len(head) + "|")
    return "\n".join(rows) if lines else "Nothing was measured."


def filled(page: str) -> str:
    """A page with its tables as the files say, between marks `<!-- speed PROCESSOR TITLE: begin -->` and `end`."""

    def part(match: re.Match[str]) -> str:
        processor, title = match["processor"], match["title"]
        text = front() if processor == "front" else table(processor, TITLES[title])
        return f"{match['begin']}\n{text}\n{match['end']}"

    return re.sub(
        r"(?P<begin><!-- speed (?P<processor>\S+) (?P<title>\w+): begin -->)\n.*?(?P<end><!-- speed [^>]*: end -->)",
        part, page, flags=re.DOTALL,
    )  # fmt: skip


def main() -> None:
    """Put the tables into both pages."""
    for path in (PAGE, FRONT):
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
