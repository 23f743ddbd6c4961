"""Write the table of docs/results.md from what was run: `python bench/results_page.py`, from a checkout.

Each row is a file bench/results/likelihood-CONFIG*.json, as `vae-np eval RUN --samples 5000 --json FILE` wrote it;
CONFIG is the shipped configuration that was trained. Nothing is in the table but what such a file says, and the paper's
value.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE, RESULTS = ROOT / "docs" / "results.md", ROOT / "bench" / "results"
# −log p(x) in nats on MNIST binarised at random, from Burda, Grosse and Salakhutdinov 2015, one stochastic layer.
PAPER = {"burda2015-vae": 86.76, "burda2015-iwae5": 85.54, "burda2015-iwae50": 84.78}
_PART = re.compile(r"(?<=<!-- results: begin -->\n).*?(?=<!-- results: end -->)", re.DOTALL)
_COLUMNS = (
    "configuration", "trained", "−log p(x), nats", "by", "effective sample size", "paper", "difference", "training",
    "evaluation", "on",
)  # fmt: skip
_HEAD = f"\n| {' | '.join(_COLUMNS)} |\n{'|---' * len(_COLUMNS)}|\n"
_NONE = "\nNothing has been run yet.\n\n"


def duration(seconds: float | None) -> str:
    """`59 s`, `12 min`, `3.4 h`."""
    if seconds is None:
        return "not known"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def configuration(path: Path) -> str:
    """The shipped configuration that a file's name begins with; raises ValueError for another one."""
    name = path.stem.removeprefix("likelihood-")
    found = [known for known in PAPER if name == known or name.startswith(f"{known}-")]
    if not found:
        raise ValueError(f"{path.name}: expected likelihood-CONFIG.json with CONFIG one of {', '.join(PAPER)}")
    return found[0]


def row(path: Path) -> str:
    """One line of the table. Raises ValueError for a file that holds no log p(x) of the test set."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    test, name = content["test"], configuration(path)
    if not content["schema"].startswith("vae-np/eval/") or test["data"] != "test" or test["log_likelihood"] is None:
        raise ValueError(f"{path.name}: expected what vae-np eval writes of log p(x) on the test set")
    mean, stderr, paper = -test["log_likelihood"]["mean"], test["log_likelihood"]["stderr"], PAPER[name]
    kind = {"is": "importance samples", "ais": "annealed chains"}[test["estimator"]]
    part = "" if test["examples"] == test["available"] else f", first {test['examples']} images"
    flag = f", {test['degenerate']} below 2" if test["degenerate"] else ""
    where = content["environment"]
    cells = (
        f"`{name}`",
        "all stages" if content["shortened"] is None else f"**shortened:** {content['shortened']}",
        f"{mean:.2f} ± {stderr:.2f}",
        f"{test['samples']} {kind}{part}",
        f"{test['ess']['mean']:.0f}{flag}",
        f"{paper:.2f}",
        f"{mean - paper:+.2f}",
        duration(content["train"]["seconds"]),
        duration(test["seconds"]),
        f"{content['backend']}, {content['dtype']}, {where['cores']} cores",
    )
    return f"| {' | '.join(cells)} |"


def text(folder: Path = RESULTS) -> str:
    """The part of the page between its two marks, for the files of a folder in the order of their names."""
    rows = [row(path) for path in sorted(folder.glob("likelihood-*.json"))]
    return _HEAD + "\n".join(rows) + "\n\n" if rows else _NONE


def written(page: str) -> str:
    """The part of a page as it stands."""
    found = _PART.search(page)
    if found is None:
        raise ValueError(f"{PAGE.name}: no part between the two marks")
    return found[0]


def main() -> None:
    """Put the table into the page."""
    table, page = text(), PAGE.read_text(encoding="utf-8")
    written(page)
    PAGE.write_text(_PART.sub(lambda _: table, page), encoding="utf-8")


if __name__ == "__main__":
    main()
