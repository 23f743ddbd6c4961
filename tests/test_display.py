"""Objects show themselves in one line, and in notebooks as a table that follows the theme and loads nothing.

Budget: about 1 s.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from vae_np import VAE, History, data, display
from vae_np.architecture import Architecture
from vae_np.config import Config
from vae_np.data import Standardisation, bars
from vae_np.elbo import Terms
from vae_np.evaluation.annealing import BidirectionalEstimate
from vae_np.exact import quadrature
from vae_np.exact.decoder import Decoder

LONGEST = 300


@pytest.fixture(scope="module")
def vae() -> VAE:
    model = VAE(16, hidden=(5,), latent=1, activation="tanh", backend="numpy")
    model.fit(bars(4, 120, 0)[0], epochs=12, batch_size=20, validation=20)
    return model


@pytest.fixture(scope="module")
def x() -> Any:
    return bars(4, 30, 1)[0]


def both_sides() -> BidirectionalEstimate:
    return BidirectionalEstimate(*np.full((8, 3), 0.5))


def everything(vae: VAE, x: Any) -> list[object]:
    decoder = Decoder.of(vae.arch, vae.parameters)
    return [
        vae,
        vae.history,
        vae.arch,
        vae.config,
        vae.parameters,
        vae.values,
        vae.elbo(x),
        vae.log_likelihood(x, 5),
        both_sides(),
        quadrature.log_likelihood(decoder, x),
        quadrature.posterior(decoder, x[:2]),
        vae.simulated(300)[0],
        data.load("bars"),
        data.Values("real", standardisation=Standardisation(np.zeros(784), np.ones(784))),
    ]


def test_every_line_is_short_and_one_line(vae: VAE, x: Any) -> None:
    for one in everything(vae, x):
        said = repr(one)
        assert "\n" not in said, said
        assert "array(" not in said, said
        assert len(said) <= LONGEST, said


def test_terms_have_their_mean_and_its_error() -> None:
    terms = Terms(np.array([-2.0, -4.0, -3.0, -3.0]), np.array([1.0, 1.0, 1.0, 1.0]))
    # The standard deviation of the four is 0.816, and half of that is the error.
    assert repr(terms) == "Terms(elbo -4.00 ± 0.41, reconstruction -3.00 ± 0.41, kl 1; 4 examples)"
    assert repr(Terms(np.array([-2.0]), np.array([1.0]))) == "Terms(elbo -3, reconstruction -2, kl 1; 1 example)"
    assert display.array_text(np.array([True, False, True])) == "2 of 3"
    assert display.array_text(np.array([1.0, np.nan])) == "nan"
    assert display.array_text(np.zeros((3, 2))) == "(3, 2) float64"


def test_settings_are_shown_as_an_expression_that_makes_them_again() -> None:
    arch = Architecture(16, 2, (5, 3), activation="tanh", likelihood="normal", sigma=0.5)
    assert repr(Architecture()) == "Architecture(features=784, latent=20, hidden=(400,))"
    assert eval(repr(arch)) == arch
    settings = Config(latent=3, lr=0.01, values="unit", scale=16)
    assert repr(settings) == "Config(values='unit', scale=16.0, latent=3, lr=0.01)"
    assert eval(repr(settings)) == settings


def test_a_history_tells_of_its_end(vae: VAE) -> None:
    assert repr(History()) == "<History: no lines>"
    last = vae.history.lines[-1]
    said = f"<History: 24 lines, the last one at step 60, epoch 12, validation ELBO {last['elbo']:.2f}>"
    assert repr(vae.history) == said


def test_a_data_set_tells_its_sizes() -> None:
    said = "<Dataset bars: 20000 training and 2000 test rows of 16 (4x4), binary, 0 and 1, with labels>"
    assert repr(data.load("bars")) == said


# In notebooks


class Page(HTMLParser):
    """What a piece of HTML has: its rows of texts, its tags, and all its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag in ("tr", "caption"):
            self.rows.append([])
        if tag in ("td", "th", "caption"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text: str) -> None:
        self.rows[-1][-1] += text


def shown(one: Any) -> Page:
    return Page(one._repr_html_())


def test_a_models_table_says_what_it_is_and_how_far_it_is(vae: VAE) -> None:
    rows = {row[0]: row[-1] for row in shown(vae).rows}
    assert rows["architecture"] == "16-5-1, tanh"
    assert rows["trained"] == "60 steps, 12 epochs"
    assert rows["data"] == "binary, 0 and 1"
    assert rows["parameters"] == f"{vae.parameters.count} in float32"
    assert rows["validation ELBO"] == f"{vae.history.lines[-1]['elbo']:.2f} nats"
    assert {row[0]: row[-1] for row in shown(VAE(4, latent=1, backend="numpy")).rows}["data"] == "not fitted yet"


def test_a_historys_table_has_the_last_epochs(vae: VAE) -> None:
    title, head, *rows = shown(vae.history).rows
    assert title == ["History, 24 lines; at the end of each epoch, the last 10 of 24, in nats"]
    assert head == ["epoch", "split", "step", "ELBO", "reconstruction", "KL"]
    assert [row[:3] for row in rows[-2:]] == [["12", "train", "60"], ["12", "validation", "60"]]
    assert rows[-1][3] == f"{vae.history.lines[-1]['elbo']:.2f}"
    assert len(rows) == 10


def test_a_results_table_has_a_row_per_quantity(vae: VAE, x: Any) -> None:
    terms = vae.elbo(x)
    title, _, *rows = shown(terms).rows
    assert title == ["Terms, 30 examples"]
    assert [row[0] for row in rows] == ["elbo", "reconstruction", "kl"]
    assert rows[0][1] == display.array_text(terms.elbo)


def test_a_table_follows_the_theme_loads_nothing_and_escapes(vae: VAE, x: Any) -> None:
    pages = [one._repr_html_() for one in everything(vae, x) if hasattr(one, "_repr_html_")]
    assert len(pages) == 7
    for page in pages:
        found = Page(page)
        assert found.tags <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}
        assert {name for name, _ in found.attributes} == {"style"}
        # A colour of its own would be wrong on one of the two grounds.
        assert not re.search(r"#[0-9a-f]{3}|rgb|url\(|http", page)
        for style in (value for name, value in found.attributes if name == "style"):
            for what, value in (part.split(":") for part in style.split(";")):
                assert "color" not in what or value == "inherit"
    bad = "<script>alert('&')</script>"
    page = display.table(bad, (bad, ""), [(bad, bad)])
    assert "<script" not in page
    assert Page(page).rows == [[bad], [bad, ""], [bad, bad]]


def test_an_estimate_of_more_quantities_shows_them_all() -> None:
    names = [row[0] for row in shown(both_sides()).rows[2:]]
    assert names[:2] == ["log_likelihood", "stderr"]
    assert {"acceptance", "upper", "upper_ess"} <= set(names)
