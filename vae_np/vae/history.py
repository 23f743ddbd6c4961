"""What a training has told: its metrics lines."""

from __future__ import annotations

from dataclasses import dataclass, field

from vae_np.training.trainer import Metrics


@dataclass
class History:
    """The metrics lines of a training, in order; the keys are those of `metrics.jsonl`."""

    lines: list[Metrics] = field(default_factory=list)

    def split(self, name: str) -> list[Metrics]:
        """The lines of one split, `train` or `validation`."""
        return [line for line in self.lines if line["split"] == name]
