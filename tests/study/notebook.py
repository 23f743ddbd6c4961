"""A chapter's notebook run from top to bottom: in a kernel of its own, or in a copy of this process.

A kernel computes the whole chapter anew. A copy of a process that has computed it shows that every cell runs, prints
and draws, in the time that the drawing takes.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pytest
from trees import ROOT

from vae_np import study

FOLDER = ROOT / "docs" / "notebooks"


@dataclass(frozen=True)
class Ran:
    """What the cells printed, and how many pictures they showed."""

    text: str
    pictures: int

    def check(self, name: str) -> None:
        """Hold what came out against the chapter: all claims judged and none failed, the notes, the figures."""
        verdicts = self.text.count("\nok  ") + self.text.startswith("ok  ")
        assert (verdicts > 3) == bool(study.claims_of(name))
        assert "FAIL" not in self.text
        # Some end in what the clock said.
        assert all(note[:30] in self.text for note in study._module(name).notes(0))
        assert self.pictures


def in_a_kernel(name: str, folder: Path) -> Ran:
    """Run a chapter's notebook as Jupyter does, with `folder` for its working folder."""
    nbclient = pytest.importorskip("nbclient")
    import nbformat

    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    return Ran(text, sum("image/png" in output.get("data", {}) for output in outputs))


def in_a_copy(name: str) -> Ran:
    """Run a chapter's notebook in a fork of this process, which has what this one has computed."""
    pytest.importorskip("nbclient")
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(_cells, FOLDER / f"{name}.ipynb").result()


def _cells(path: Path) -> Ran:
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    from traitlets.config import Config

    class Shell(InteractiveShell):  # type: ignore[misc]
        def enable_gui(self, gui: str | None = None) -> None:
            """No window is ever opened."""

    shell = Shell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    text, pictures = "", 0
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            with capture_output() as said:
                done = shell.run_cell("".join(cell["source"]))
            done.raise_error()
            text += said.stdout
            pictures += sum("image/png" in (output.data or {}) for output in said.outputs)
    return Ran(text, pictures)
