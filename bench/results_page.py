"""Write the tables of docs/results.md from what was run: `python bench/results_page.py`, from a checkout.

Each row is a file bench/results/likelihood-CONFIG*.json, as `vae-np eval RUN --json FILE` wrote it; CONFIG is the
shipped configuration that was trained. Estimates for a part of the test images are compared image by image: beside such
a file lies an .npz of the same name, which --per-example wrote. Files prior-NAME-….json are of one model with several
priors. The tables hold nothing but what the files say and the
paper's value.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PAGE, RESULTS = ROOT / "docs" / "results.md", ROOT / "bench" / "results"
# −log p(x) in nats on MNIST binarised at random, from Burda, Grosse and Salakhutdinov 2015, one stochastic layer and
# two; None where no paper has the model.
PAPER = {
    "burda2015-vae": 86.76,
    "burda2015-full": None,
    "burda2015-planar": None,
    "burda2015-iwae5": 85.54,
    "burda2015-iwae50": 84.78,
    "burda2015-two-layers-vae": 85.33,
    "burda2015-two-layers-iwae5": 83.89,
}
# The same model with other families of q: these are compared after the same epochs.
FAMILIES = {"burda2015-vae": "diagonal", "burda2015-full": "full", "burda2015-planar": "10 planar steps"}
# The same model with other priors, from Tomczak and Welling 2018: −log p(x) in nats, with gated layers, on all images.
PRIORS = {"standard": 84.50, "vamp": 82.38}
# What the other estimates for the same images are compared with: the papers' estimator and number of samples.
_BASE = ("is", 5000)
_DEGENERATE = 2.0
_ESTIMATORS = {"is": "importance samples", "ais": "annealed chains", "bdmc": "annealed chains"}

_MODEL = ("configuration", "trained")
# The tables, by the names of their marks on the page: which columns each has.
TABLES = {
    "results": (
        *_MODEL, "−log p(x), nats", "by", "effective sample size", "paper", "difference", "training", "evaluation",
        "on",
    ),
    "images": (
        *_MODEL, "images", "−log p(x), nats", "by", "effective sample size", "log p(x), above 5000 importance samples",
        "and where these had collapsed", "evaluation", "on",
    ),
    "simulated": (
        *_MODEL, "images", "−log p(x), nats, from below", "from above", "gap", "by", "effective sample size",
        "accepted", "evaluation", "on",
    ),
    "families": (
        *_MODEL, "q", "images", "−ELBO", "−log p(x), by 5000 importance samples", "−log p(x), by annealed chains",
        "gap: log p(x) − ELBO", "less than the diagonal's gap", "training",
    ),
    "priors": (
        "prior", "trained", "images", "−ELBO, nats", "KL", "−log p(x), nats", "by", "effective sample size",
        "log p(x), above the standard prior", "paper", "training", "evaluation", "on",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """One file: its `path`, the configuration `name` that it begins with, its content, and the `test` part of that."""

    path: Path
    name: str
    content: dict[str, Any]
    test: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> Result:
        """Raises ValueError for a file that holds no log p(x), or whose name begins with no shipped configuration."""
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        name, test = configuration(path), content["test"]
        if not content["schema"].startswith("vae-np/eval/") or test["log_likelihood"] is None:
            raise ValueError(f"{path.name}: expected what vae-np eval writes of log p(x)")
        return cls(path, name, content, test)

    @property
    def table(self) -> str:
        """The table that it belongs to."""
        if self.test["data"] == "simulated":
            return "simulated"
        return "results" if self.test["examples"] == self.test["available"] else "images"

    @property
    def model(self) -> tuple[str, str]:
        """The first two cells of a row: what was trained, and how far."""
        shortened = self.content["shortened"]
        return f"`{self.name}`", "all stages" if shortened is None else f"**shortened:** {shortened}"

    @property
    def by(self) -> str:
        """`5000 importance samples`, `16 annealed chains of 500 temperatures`."""
        temperatures = self.test.get("temperatures")
        end = "" if temperatures is None else f" of {temperatures} temperatures"
        return f"{self.test['samples']} {_ESTIMATORS[self.test['estimator']]}{end}"

    @property
    def ess(self) -> str:
        """The mean effective sample size, and how many images have less than two."""
        mean = self.test["ess"]["mean"]
        flag = f", {self.test['degenerate']} below 2" if self.test["degenerate"] else ""
        return (f"{mean:.0f}" if mean >= 10 else f"{mean:.1f}") + flag

    @property
    def last(self) -> tuple[str, str]:
        """The last two cells of a row: how long the estimate took, and on what."""
        cores = self.content["environment"]["cores"]
        where = f"{self.content['backend']}, {self.content['dtype']}, {cores} core{'s' if cores > 1 else ''}"
        return duration(self.test["seconds"]), where

    @property
    def each(self) -> Any:
        """The arrays of --per-example."""
        return np.load(self.path.with_suffix(".npz"), allow_pickle=False)

    def order(self) -> tuple[Any, ...]:
        """Rows of one model and one set of images stand together, the cheaper estimate first."""
        test, model = self.test, (list(PAPER).index(self.name), self.content["shortened"] or "")
        place = list(_ESTIMATORS).index(test["estimator"])
        return *model, test["examples"], place, test.get("temperatures") or 0, test["samples"]


def duration(seconds: float | None) -> str:
    """`59 s`, `12 min`, `3.4 h`."""
    if seconds is None:
        return "not known"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def nats(figure: dict[str, float], sign: int = -1) -> str:
    """A mean with its error; −log p(x) from log p(x)."""
    return f"{sign * figure['mean']:.2f} ± {figure['stderr']:.2f}"


def configuration(path: Path) -> str:
    """The shipped configuration that a file's name begins with; raises ValueError for another one."""
    name = path.stem.removeprefix("likelihood-")
    found = [known for known in PAPER if name == known or name.startswith(f"{known}-")]
    if not found:
        raise ValueError(f"{path.name}: expected likelihood-CONFIG.json with CONFIG one of {', '.join(PAPER)}")
    return found[0]


def against(result: Result, base: Result) -> tuple[str, str]:
    """log p(x) less the base's over the same images, and the same over those where the base's weights had collapsed.

    Raises ValueError for other images.
    """
    ours, theirs = result.each, base.each
    if not np.array_equal(ours["row"], theirs["row"]):
        raise ValueError(f"{result.path.name}: expected the images of {base.path.name}")
    above, collapsed = ours["log_likelihood"] - theirs["log_likelihood"], theirs["ess"] < _DEGENERATE
    return _mean(above, "+"), f"{above[collapsed].mean():+.2f} on {collapsed.sum()}" if collapsed.any() else "none had"


def base_of(result: Result, others: list[Result]) -> Result:
    """The estimate by the papers' importance samples for the same model and images; raises ValueError without one."""
    for other in others:
        same = (*other.model, other.test["examples"]) == (*result.model, result.test["examples"])
        if same and other.table == result.table and (other.test["estimator"], other.test["samples"]) == _BASE:
            return other
    raise ValueError(f"{result.path.name}: expected an estimate by {_BASE[1]} importance samples beside it")


def row(result: Result, others: list[Result]) -> tuple[str, ...]:
    """The cells of one line; `others` are all results of its table. Raises ValueError where the base is missing."""
    test = result.test
    value = nats(test["log_likelihood"])
    if result.table == "results":
        paper = PAPER[result.name]
        trained = duration(result.content["train"]["seconds"])
        published = ("none", "")
        if paper is not None:
            published = (f"{paper:.2f}", f"{-test['log_likelihood']['mean'] - paper:+.2f}")
        return *result.model, value, result.by, result.ess, *published, trained, *result.last
    if result.table == "simulated":
        upper, gap, accepted = nats(test["log_likelihood_upper"]), nats(test["gap"], 1), test["acceptance"]["mean"]
        images = str(test["examples"])
        return *result.model, images, value, upper, gap, result.by, result.ess, f"{accepted:.2f}", *result.last
    base = base_of(result, others)
    comparison = ("", "") if base is result else against(result, base)
    return *result.model, str(test["examples"]), value, result.by, result.ess, *comparison, *result.last


def family_rows(results: list[Result]) -> list[tuple[str, ...]]:
    """A line for each family of q whose model was trained as far as the others and evaluated by chains on test images.

    The gap is that between the annealed estimate and the ELBO, image by image; how much less it is than that of the
    diagonal q is a difference over the same images, too.
    """
    chains = [
        each for each in results
        if each.name in FAMILIES and each.table == "images" and each.test["estimator"] == "ais"
    ]  # fmt: skip
    richer = {each.content["shortened"] for each in chains if FAMILIES[each.name] != "diagonal"}
    found = []
    for annealed in chains:
        if annealed.content["shortened"] not in richer:
            continue
        gap, less = _gap(annealed), ""
        for plain in chains:
            # As far trained, with as many images, chains and temperatures.
            if FAMILIES[plain.name] != "diagonal" or plain.order()[1:] != annealed.order()[1:] or plain is annealed:
                continue
            if not np.array_equal(annealed.each["row"], plain.each["row"]):
                raise ValueError(f"{annealed.path.name}: expected the images of {plain.path.name}")
            less = _mean(_gap(plain) - gap, "+")
        found.append((
            *annealed.model, FAMILIES[annealed.name], str(annealed.test["examples"]), nats(annealed.test["elbo"]),
            nats(base_of(annealed, results).test["log_likelihood"]), nats(annealed.test["log_likelihood"]),
            _mean(gap), less, duration(annealed.content["train"]["seconds"]),
        ))  # fmt: skip
    return found


def _gap(annealed: Result) -> Any:
    """log p(x) − ELBO of every image, (N,) in nats."""
    return annealed.each["log_likelihood"] - annealed.each["elbo"]


def _mean(values: Any, sign: str = "") -> str:
    """The mean of some images' values with its standard error."""
    return f"{values.mean():{sign}.2f} ± {values.std(ddof=1) / np.sqrt(len(values)):.2f}"


def _alike(result: Result) -> tuple[Any, ...]:
    """What two priors' results have in common where they are compared."""
    return result.test["examples"], result.by, result.content["train"]["steps"]


def prior_rows(folder: Path) -> list[tuple[str, ...]]:
    """A line for each file prior-NAME-….json, NAME one of PRIORS, compared image by image with the standard one's.

    Raises ValueError where that is missing, the same estimate for as many images after as many steps, or has other
    images.
    """
    found = []
    for name in PRIORS:
        for path in sorted(folder.glob(f"prior-{name}-*.json")):
            content = json.loads(path.read_text(encoding="utf-8"))
            found.append(Result(path, name, content, content["test"]))
    lines = []
    for result in sorted(found, key=_alike, reverse=True):
        test, steps = result.test, result.content["train"]["steps"]
        base = [other for other in found if other.name == "standard" and _alike(other) == _alike(result)]
        if not base:
            raise ValueError(f"{result.path.name}: expected the same of the standard prior after {steps} steps too")
        above = "" if result is base[0] else against(result, base[0])[0]
        lines.append((
            result.name, f"**shortened:** {steps:,} steps", str(test["examples"]), nats(test["elbo"]),
            nats(test["kl"], 1), nats(test["log_likelihood"]), result.by, result.ess, above,
            f"{PRIORS[result.name]:.2f}", duration(result.content["train"]["seconds"]), *result.last,
        ))  # fmt: skip
    return lines


def tables(folder: Path = RESULTS) -> dict[str, str]:
    """The parts of the page between marks, by the marks' names, for the files of a folder."""
    results = sorted((Result.read(path) for path in folder.glob("likelihood-*.json")), key=Result.order)
    found = {}
    for name, head in TABLES.items():
        own = [result for result in results if result.table == name]
        if name == "priors":
            rows = prior_rows(folder)
        else:
            rows = family_rows(results) if name == "families" else [row(result, own) for result in own]
        lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
        lines.insert(1, "|---" * len(head) + "|")
        text = "\n".join(lines) if rows else "Nothing has been run yet."
        found[name] = f"\n{text}\n\n"
    return found


def _part(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- {name}: begin -->\n).*?(?=<!-- {name}: end -->)", re.DOTALL)


def written(page: str) -> dict[str, str]:
    """The tables of a page as they stand; raises ValueError where marks are missing."""
    found = {name: _part(name).search(page) for name in TABLES}
    for name, part in found.items():
        if part is None:
            raise ValueError(f"{PAGE.name}: no part between two marks {name!r}")
    return {name: part[0] for name, part in found.items() if part is not None}


def main() -> None:
    """Put the tables into the page."""
    page = PAGE.read_text(encoding="utf-8")
    written(page)
    for name, text in tables().items():
        page = _part(name).sub(lambda _, text=text: text, page)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
