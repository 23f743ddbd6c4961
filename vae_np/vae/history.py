"""What a training has told: its metrics lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vae_np import display
from vae_np.choices import Split
from vae_np.training.trainer import Metrics

_TERMS: tuple[Literal["elbo", "reconstruction", "kl"], ...] = ("elbo", "reconstruction", "kl")
_SHOWN = 10


@dataclass(repr=False)
class History:
    """The metrics lines of a training, in order; the keys are those of `metrics.jsonl`."""

    lines: list[Metrics] = field(default_factory=list)

    def split(self, name: Split) -> list[Metrics]:
        """The lines of one split, `train` or `validation`."""
        return [line for line in self.lines if line["split"] == name]

    def __repr__(self) -> str:
        if not self.lines:
            return "<History: no lines>"
        last = self.lines[-1]
        at = f"step {last['step']}, epoch {last['epoch']}, {last['split']} ELBO {last['elbo']:.2f}"
        return f"<History: {display.counted_text(len(self.lines), 'line')}, the last one at {at}>"

    def _repr_html_(self) -> str:
        """The last line of each split in each of the last epochs, as a table."""
        ends = {(line["epoch"], line["split"]): line for line in self.lines}
        rows = [
            (str(line["epoch"]), line["split"], str(line["step"]), *(f"{line[name]:.2f}" for name in _TERMS))
            for line in list(ends.values())[-_SHOWN:]
        ]
        left_out = "" if len(ends) <= _SHOWN else f", the last {_SHOWN} of {len(ends)}"
        title = f"History, {display.counted_text(len(self.lines), 'line')}; at the end of each epoch{left_out}, in nats"
        return display.table(title, ("epoch", "split", "step", "ELBO", "reconstruction", "KL"), rows)
