"""A training's progress while it runs: a bar by rich in a terminal, and one that is drawn anew in a notebook."""

from __future__ import annotations

import html
import importlib
import sys
import time
from types import TracebackType
from typing import Any, Self

from vae_np.training.trainer import Trainer

_SECONDS = 0.2


class ProgressBar:
    """Shows how many of a training's steps are done, with its epoch and ELBO; at most five times a second.

    In a terminal it is on standard error; where that is none, and no notebook runs, there is nothing.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._first, self._total = trainer.state.step, trainer.total_steps
        self._drawn, self._elbo = 0.0, ""
        # It has types in part only.
        self._ipython: Any = None
        self._notebook: Any = None
        self._rich: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if in_notebook():
            self._ipython = importlib.import_module("IPython.display")
            first = self._ipython.HTML(self._html(self._first, ""))
            self._notebook = self._ipython.display(first, display_id=True)
            return self
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        self._rich = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._rich.add_task("", total=self._total - self._first)
        self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rich is not None:
            self._rich.stop()

    def step(self, trainer: Trainer) -> None:
        """A step is done, or on a device a part of many."""
        step = trainer.state.step
        if time.monotonic() - self._drawn < _SECONDS and step < self._total:
            return
        self._drawn = time.monotonic()
        if trainer.running.steps:
            reconstruction, kl, _ = trainer.running.means()
            self._elbo = f", ELBO {reconstruction - kl:.2f}"
        text = f"epoch {trainer.place(step - 1)[0] + 1}/{trainer.config.epochs}{self._elbo}"
        if self._rich is not None:
            self._rich.update(self._task, completed=step - self._first, description=text)
            return
        self._notebook.update(self._ipython.HTML(self._html(step, text)))

    def _html(self, step: int, text: str) -> str:
        done, total = step - self._first, self._total - self._first
        bar = f'<progress value="{done}" max="{total}"></progress>'
        return f"<div>{bar} {done} of {total} steps {html.escape(text)}</div>"


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")
