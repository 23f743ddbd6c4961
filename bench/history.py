"""What a step took at each commit: `python bench/history.py` adds the result files to the history, and draws it.

`bench/history.jsonl` has a line for each processor, workload and commit, with the ratios that a machine's mood touches
least. A file under `bench/results/` whose environment names its commit gives a line; a newer one replaces it. The
picture is `docs/pictures/history.png`: a panel for each processor and a line for each workload, over the commits in
git's order.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workloads import AFTER, EVAL, STEP

from vae_np import backends
from vae_np.choices import PRECISIONS
from vae_np.pictures import plots
from vae_np.pictures.drawing import INK, MUTED, blank_figure, head, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
HISTORY, RESULTS, PICTURE = HERE / "history.jsonl", HERE / "results", HERE.parent / "docs" / "pictures" / "history.png"
_KEY = ("processor", "what", "workload", "threads", "commit")


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of one result file.

    There are none where it does not name its processor and a commit that was clean, or where products were reduced.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    environment = content.get("environment", {})
    commit, processor = environment.get("commit"), environment.get("processor")
    reduced = environment.get("precision") in PRECISIONS[1:]
    if processor is None or commit is None or commit.endswith("+") or reduced:
        return []
    return [
        {
            "processor": processor,
            "what": one["what"],
            "workload": one["workload"],
            "threads": one["threads"],
            "commit": commit,
            "median_ms": round(one["median_ms"], 5),
            "ratio_to_fastest_peer": one["ratio_to_fastest_peer"],
            "ratio_to_gemm_floor": one["ratio_to_gemm_floor"],
        }
        for one in content["results"]
        if one.get("backend") in backends.NAMES[1:] and one["what"] in (STEP, AFTER, EVAL)
    ]


def merged(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The history with new lines in it; one of the same processor, workload and commit is replaced where it stands."""
    by_key = {tuple(line[key] for key in _KEY): line for line in old}
    by_key |= {tuple(line[key] for key in _KEY): line for line in new}
    return list(by_key.values())


def read(path: Path = HISTORY) -> list[dict[str, Any]]:
    """The history as it is kept."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def write(lines: list[dict[str, Any]], path: Path = HISTORY) -> None:
    """Keep a history."""
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def in_order(commits: list[str]) -> list[str]:
    """Commits from the oldest to the newest as git has them; what it does not know comes first, as it was found."""
    done = subprocess.run(["git", "-C", str(HERE), "rev-list", "--topo-order", "HEAD"], capture_output=True, text=True)
    known = {commit: place for place, commit in enumerate(reversed(done.stdout.split()))}
    return sorted(dict.fromkeys(commits), key=lambda commit: known.get(commit, -1))


def figure(lines: list[dict[str, Any]]) -> Figure:
    """Ours over the fastest peer at each commit: below one we are faster."""
    shown = [line for line in lines if line["ratio_to_fastest_peer"] is not None and line["what"] != AFTER]
    processors = list(dict.fromkeys(line["processor"] for line in shown)) or [""]
    drawn = blank_figure(620 * len(processors), 380)
    for ax, processor in zip(drawn.subplots(1, len(processors), squeeze=False).flat, processors, strict=True):
        mine = [line for line in shown if line["processor"] == processor]
        commits = in_order([line["commit"] for line in mine])
        head(ax, f"ours / fastest peer, {processor}")
        style(ax, "", "")
        for named in dict.fromkeys((line["what"], line["workload"], line["threads"]) for line in mine):
            points = sorted(
                (commits.index(line["commit"]), line["ratio_to_fastest_peer"])
                for line in mine
                if (line["what"], line["workload"], line["threads"]) == named
            )
            ax.plot(*zip(*points, strict=True), "o-", ms=4, lw=1.2)
            what, workload, threads = named
            label = f"{what} {workload}" + (", one thread" if threads == 1 else "")
            ax.annotate(label, points[-1], (6, -3), textcoords="offset points", fontsize=8, color=INK)
        ax.axhline(1, color=MUTED, lw=0.8)
        ax.set_xticks(range(len(commits)), [commit[:7] for commit in commits])
        ax.set_xlim(-0.5, len(commits) + 0.5)
        ax.set_ylim(bottom=0)
    return drawn


def main() -> None:
    """Add, keep and draw."""
    found = [line for path in sorted(RESULTS.glob("*/cpu-*.json")) for line in lines_of(path)]
    lines = merged(read(), found)
    write(lines)
    plots.save(figure(lines), PICTURE)
    print(f"{len(lines)} lines, {PICTURE.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
