"""The report: one HTML file that holds a run's figures, its pictures and a decoder to play with.

Nothing is loaded from anywhere: pictures and weights (float32, base64) stand in the file, as do the style sheet and the
scripts of `page/`, so that it opens from a disk. It is put together by `str.join`, not by a library of templates,
because it has one page with six sections.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from vae_np._types import Array
from vae_np.architecture import Architecture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Latents that get a slider of their own: those with most KL. The others stay where the chosen example has them.
SLIDERS = 12


@dataclass(frozen=True)
class Explorer:
    """What the page needs to decode: a decoder, and examples (n, D) whose means mu (n, K) are places to start from.

    `offset` and `scale` (D,) bring the decoder's means to the data's own scale. `kl` (K,) orders the sliders. `places`
    (m, K) are dots in a plane of two latents, with `labels` (m,) or None; `points` (p, 2) are data in the plane.
    """

    arch: Architecture
    parameters: Mapping[str, Array]
    offset: Array
    scale: Array
    image_shape: tuple[int, int] | None
    examples: Array
    mu: Array
    kl: Array
    places: Array
    labels: Array | None
    points: Array | None

    def as_json(self) -> str:
        """The explorer's data as the page's script reads them; arrays are base64 of little-endian float32."""
        arch = self.arch
        widths = (arch.latent, *arch.decoder_widths, arch.features)
        names = [*arch.hidden_layers("decoder"), "decoder.out"]
        content = {
            "activation": arch.activation,
            "bernoulli": arch.is_bernoulli,
            "layers": [
                {
                    "inputs": inputs,
                    "outputs": outputs,
                    "weight": _base64(self.parameters[f"{name}.weight"]),
                    "bias": _base64(self.parameters[f"{name}.bias"]),
                }
                for name, (inputs, outputs) in zip(names, pairwise(widths), strict=True)
            ],
            "offset": _base64(self.offset),
            "scale": _base64(self.scale),
            "latent": arch.latent,
            "features": arch.features,
            "shape": self.image_shape,
            "examples": _base64(self.examples),
            "mu": _base64(self.mu),
            "sliders": [int(j) for j in np.argsort(-self.kl)[:SLIDERS]],
            "places": _base64(self.places),
            "labels": None if self.labels is None else _codes(self.labels),
            "points": None if self.points is None else _base64(self.points),
        }
        return json.dumps(content)


@dataclass
class Report:
    """A report's content: a title, what the run is in a few words, and the sections, in the order of the page.

    `figures` is the evaluation's table, `notes` what has to be said along with it; `pictures` are titles and figures;
    `settings` is the configuration.
    """

    title: str
    lead: Sequence[str]
    figures_title: str
    figures: Sequence[tuple[str, str]]
    notes: Sequence[str]
    pictures: list[tuple[str, str, Figure]] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    explorer: Explorer | None = None

    def to_html(self) -> str:
        """The whole page."""
        sections = [_figures(self)]
        sections += [_picture(*each) for each in self.pictures[:1]]
        if self.explorer is not None:
            sections.append(_explorer(self.explorer))
        sections += [_picture(*each) for each in self.pictures[1:]]
        sections.append(_settings(self.settings))
        head = f"<h1>{html.escape(self.title)}</h1>" + "".join(f"<p>{html.escape(line)}</p>" for line in self.lead)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            # An icon of its own, or a browser would ask for one.
            '<link rel="icon" href="data:,">\n'
            f"<title>{html.escape(self.title)}</title>\n<style>\n{_file('report.css')}</style>\n</head>\n"
            f"<body>\n<header>{head}</header>\n<main>\n{''.join(sections)}</main>\n</body>\n</html>\n"
        )


def _figures(report: Report) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(name.strip())}</th><td>{html.escape(value)}</td></tr>" for name, value in report.figures
    )
    notes = "".join(f"<p class=note>{html.escape(note)}</p>" for note in report.notes)
    title = f"<h2>Evaluation</h2><p>{html.escape(report.figures_title)}</p>"
    return f"<section>{title}<table>{rows}</table>{notes}</section>"


def _picture(title: str, text: str, figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=figure.dpi, facecolor=figure.get_facecolor())
    source = base64.b64encode(content.getvalue()).decode("ascii")
    said = html.escape(title)
    about = f"<p>{html.escape(text)}</p>" if text else ""
    image = f'<img alt="{said}" src="data:image/png;base64,{source}">'
    if figure.get_figwidth() > 2 * figure.get_figheight():
        # On a phone it keeps a readable size, and is scrolled.
        image = f'<div class="wide">{image}</div>'
    return f"<section><h2>{said}</h2>{about}{image}</section>"


def _explorer(explorer: Explorer) -> str:
    # In a script element only "</" could end the data too early.
    content = explorer.as_json().replace("</", "<\\/")
    return (
        '<section id="explorer"><h2>Latent explorer</h2></section>\n'
        f'<script type="application/json" id="decoder">{content}</script>\n'
        f"<script>\n{_file('decoder.js')}{_file('explorer.js')}</script>\n"
    )


def _settings(settings: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(_said(value))}</td></tr>" for name, value in settings.items()
    )
    return f"<section><h2>Configuration</h2><table>{rows}</table></section>\n"


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _file(name: str) -> str:
    return resources.files(__package__).joinpath("page", name).read_text(encoding="utf-8")


def _base64(values: Array) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode("ascii")


def _codes(labels: Array) -> dict[str, Any]:
    """The different labels as text, and the place of each row's among them."""
    names, codes = np.unique(labels, return_inverse=True)
    return {"names": [str(name) for name in names], "codes": codes.tolist()}
