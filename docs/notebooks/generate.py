"""Write the notebooks: one for each chapter of the study, from the chapter's own program.

    python docs/notebooks/generate.py

A notebook has a cell for each claim, with the claim's text and its docstring, and one for the figures; it calls the
functions that `vae-np study` calls, so what it prints is what the study prints. It opens with what to change first.
The notebooks are kept without outputs; a test runs each from top to bottom and finds where one is out of date.
"""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

from vae_np import study
from vae_np.study.claims import CLAIMS

FOLDER = Path(__file__).parent

# For each chapter what to try first: a sentence, and the cell that does it, as it stands by default.
FIRST = {
    "01-generative-models": (
        "The table of all outcomes has 2^(size²) entries. Make the images 2 pixels wide: which model gains most?",
        "chapter.BARS_SIZE = 3  # try 2",
    ),
    "02-latent-variables": (
        "Draw fewer samples: from how few on do tests no longer tell dependent pixels from independent ones?",
        "chapter.DRAWS = 100_000  # try 1_000",
    ),
    "03-intractable": (
        "The bias of prior sampling grows with the width of the data. Ask for other numbers of samples.",
        "chapter.SAMPLES = (1, 4, 16, 64, 256)  # try (1, 2, 4, 8, 16)",
    ),
    "04-variational-inference": (
        "The posterior of x = |z| + noise has two peaks, because x is 1.5. Bring them together and count the maxima.",
        "chapter.FOLDED_X = 1.5  # try 0.5",
    ),
    "05-joint-optimisation": (
        "Measure the variance of the two gradients elsewhere: at which (μ, s) is the score function worst?",
        "chapter.chapter05_gradient_noise.PLACES = ((1.0, 1.0), (2.0, 0.5))  # try ((3.0, 0.2), (0.0, 1.0))",
    ),
    "06-amortisation": (
        "Take other digits: does the encoder's share of the gap stay the larger one?",
        "chapter.IMAGES = 20  # try 8",
    ),
    "07-vae-objective": (
        "How many draws does log p(x) take from the prior, where q needs 200?",
        "chapter.SAMPLES = 200  # try 20",
    ),
    "08-backpropagation": (
        "Take a larger step for the complex derivative: from which on does its own error show, in which tensor?",
        "chapter.COMPLEX = 1e-30  # try 1e-4",
    ),
    "09-optimisation": (
        "Halve Adam's rate: does it need more steps along the axes, and across them?",
        "chapter.ADAM_RATE = 0.1  # try 0.05",
    ),
    "11-noise": (
        "Make the layers narrower: does a signal still keep its size, and how much does luck decide?",
        "chapter.WIDTH = 256  # try 16",
    ),
    "12-perspectives": (
        "Refit the deleted encoder for fewer steps: how much of the bound comes back?",
        "chapter.REFIT_STEPS = 600  # try 100",
    ),
    "13-objectives": (
        "Measure the signal of the gradients nearer to the posterior: which of them gains?",
        "chapter.OFF = 0.7  # try 0.2",
    ),
    "14-annealing": (
        "Bring the two modes together: from which x on does importance sampling see both?",
        "chapter.FOLDED_X = 1.5  # try 0.3",
    ),
    "16-two-stochastic-layers": (
        "Take fewer nodes: from how few on is the ELBO, a square in the noise, no longer exact?",
        "chapter.NODES = 3  # try 1",
    ),
    "17-missing-data-and-tables": (
        "Take fewer draws of z: from how few on does the error bar itself mislead?",
        "chapter.SAMPLES = 1500  # try 20",
    ),
    "18-priors-and-conditions": (
        "Bring the two heaps of z together: from which distance on does one normal do as well?",
        "chapter.HEAPS = 4.0  # try 1.0",
    ),
}

# What any chapter can be asked.
OTHERWISE = ("Draw other random numbers: which values move, and does a claim mind?", "seed = 0  # try 1")

START = """%matplotlib inline
import importlib

from IPython.display import display

from vae_np import study
from vae_np.study.claims import as_text

name = "{name}"
chapter = importlib.import_module("{module}")
claims = study.claims_of(name)
seed = 0"""

PAGE = """# Notebooks

One for each chapter of the study. It computes the chapter's claims with the functions that `vae-np study` calls, a cell
for each claim, draws the chapter's figures, and opens with what to change first. They need Jupyter, or anything else
that opens notebooks, in the environment of the package. `python docs/notebooks/generate.py` has written them, and this
page.

| chapter | notebook |
|---|---|
"""

CLAIM = """rows = claims[{number}](seed)
print(as_text(rows))"""

NOTES = """print(*chapter.notes(seed), sep="\\n")"""

FIGURES = """for label, figure in chapter.figures(seed).items():
    print(label)
    display(figure)"""


def notebook(name: str) -> dict[str, Any]:
    """The notebook of a chapter, as JSON holds it (nbformat 4)."""
    functions = study.claims_of(name)
    sentence, change = FIRST.get(name, OTHERWISE)
    cells = [
        markdown(
            f"# Chapter {name}\n\n{study.chapter_title(name)} The text is in "
            f"[the derivation](../derivation/{name}.md).\n\n**Change this first.** {sentence} Change the last line of "
            "the second cell below, and run all cells again; a claim that then fails shows what it rests on."
        ),
        code(_start(name, has_claims=bool(functions))),
        code(change),
    ]
    for number, compute in functions.items():
        mark, statement = CLAIMS[number]
        about = inspect.cleandoc(compute.__doc__ or "")
        cells += [markdown(f"## Claim {number}: {statement} [{mark}]\n\n{about}"), code(CLAIM.format(number=number))]
    if hasattr(importlib.import_module(module_of(name)), "notes"):
        cells += [markdown("## Notes"), code(NOTES)]
    cells += [markdown("## Figures"), code(FIGURES)]
    for index, cell in enumerate(cells):
        cell["id"] = f"cell-{index}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def _start(name: str, *, has_claims: bool) -> str:
    """The first cell; it names nothing that a chapter without claims would not use."""
    lines = START.format(name=name, module=module_of(name)).splitlines()
    kept = [line for line in lines if has_claims or not ("claims" in line or "import study" in line)]
    return "\n".join(kept).replace("\n\n\n", "\n\n")


def module_of(name: str) -> str:
    """The module of a chapter."""
    number, words = name.split("-", 1)
    return f"vae_np.study.chapter{number}_{words.replace('-', '_')}"


def markdown(text: str) -> dict[str, Any]:
    """A cell of text."""
    return {"cell_type": "markdown", "metadata": {}, "source": text.splitlines(keepends=True)}


def code(text: str) -> dict[str, Any]:
    """A cell of code, not yet run."""
    source = text.splitlines(keepends=True)
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source}


def as_json(name: str) -> str:
    """A chapter's notebook as its file has it."""
    return json.dumps(notebook(name), indent=1, ensure_ascii=False) + "\n"


def as_page() -> str:
    """The folder's README, which lists them."""
    rows = []
    for name in study.CHAPTERS:
        title = (FOLDER.parent / "derivation" / f"{name}.md").read_text(encoding="utf-8").split("\n", 1)[0]
        rows.append(f"| [{title.removeprefix('# ')}](../derivation/{name}.md) | [{name}.ipynb]({name}.ipynb) |")
    return PAGE + "\n".join(rows) + "\n"


def main() -> None:
    """Write every notebook, and the page that lists them."""
    for name in study.CHAPTERS:
        (FOLDER / f"{name}.ipynb").write_text(as_json(name), encoding="utf-8")
    (FOLDER / "README.md").write_text(as_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
