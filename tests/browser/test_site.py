"""The site as a reader meets it: every page opens, formulas are typeset, links and the search lead somewhere.

Budget: about 60 s, of which 30 s build the site.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from browser.widths import WIDTHS

# Pages of code: three hundred that one template makes. Every sixteenth is opened, and the links of all are checked.
CODE, EVERY = ("reference", "sources"), 16
_TYPESET = """() => {
  const formulas = [...document.querySelectorAll('.arithmatex')];
  return [formulas.length, formulas.filter(f => f.querySelector('.katex')).length,
          document.querySelectorAll('.katex-error').length];
}"""


def pages(site: Path) -> tuple[list[str], list[str]]:
    """The addresses of all pages of text, and of all pages of code, from the site's root."""
    every = sorted(path.relative_to(site).as_posix().removesuffix("index.html") for path in site.rglob("index.html"))
    return [name for name in every if not name.startswith(CODE)], [name for name in every if name.startswith(CODE)]


class Links(HTMLParser):
    """The links of a page, what it loads, and what can be linked to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.targets.add(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon"):
            self.loaded.add(given["href"])
        elif tag in ("script", "img") and "src" in given:
            self.loaded.add(given["src"])


def test_no_link_is_broken_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    read = {path: Links(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    broken = []
    for path, links in read.items():
        if path.name == "404.html":
            continue
        for link in links.targets | links.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in links.loaded and parts.scheme != "data":
                    broken.append(f"{path.relative_to(site)} loads {link}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            fragment = unquote(parts.fragment)
            there = target.exists() and (not fragment or target not in read or fragment in read[target].anchors)
            if not there:
                broken.append(f"{path.relative_to(site)} -> {link}")
    assert broken == []


def test_pages_open_and_show_their_formulas(site: Path, address: str, watched: Any) -> None:
    """Opened at one width, then brought to the other: the layout is the style sheet's alone."""
    window = watched(WIDTHS[0], address)
    wrong, formulas = [], 0
    text, code = pages(site)
    assert len(text) > 30
    for number, name in enumerate((*text, *code[::EVERY])):
        # Every other page is opened on the desk first.
        order = WIDTHS if number % 2 else WIDTHS[::-1]
        window.page.set_viewport_size({"width": order[0], "height": 900})
        window.page.goto(f"{address}/{name}", wait_until="load")
        window.page.wait_for_function("!document.querySelector('.explorable:not([data-ready])')")
        every, typeset, failed = window.page.evaluate(_TYPESET)
        formulas += every
        if (typeset, failed) != (every, 0):
            wrong.append(f"{name}: {every} formulas, {typeset} typeset, {failed} failed")
        for width in order:
            window.page.set_viewport_size({"width": width, "height": 900})
            if not window.fits(width):
                wrong.append(f"{name}: {window.width()} pixels wide, in a window of {width}")
        wrong += [f"{name}: {problem}" for problem in window.problems]
        window.problems.clear()
    assert wrong == []
    # The derivation alone has more than a thousand.
    assert formulas > 1000


def test_every_page_of_the_house_is_there(site: Path) -> None:
    """The parts that a site of this package has to have."""
    wanted = ("derivation", "verification", "kernels", "kernels-tutorial", "benchmarking", "results", "glossary",
              "derivation/claims", "derivation/formulas", "conventions", "contributing", "reference/vae_np.ops",
              "reference/vae_np.vae", "notebooks")  # fmt: skip
    assert [name for name in wanted if not (site / name / "index.html").exists()] == []


def test_the_reference_has_docstrings_and_leads_to_formulas(site: Path) -> None:
    text = (site / "reference" / "vae_np.ops" / "index.html").read_text(encoding="utf-8")
    assert 'id="vae_np.ops.reparam_kl_forward"' in text
    assert re.search(r'<a href="../../derivation/07-vae-objective/#D22">\[D22\b', text)


def test_a_formula_leads_to_its_code(site: Path) -> None:
    text = (site / "derivation" / "formulas" / "index.html").read_text(encoding="utf-8")
    assert 'href="../../sources/vae_np/distributions.py/"' in text
    assert 'href="../../reference/vae_np.distributions/#vae_np.distributions.normal_kl_forward"' in text


@pytest.mark.parametrize("width", WIDTHS)
def test_search_finds_a_page_and_opens_it(address: str, watched: Any, width: int) -> None:
    window = watched(width, address, searches=True)
    window.page.goto(f"{address}/")
    if width == min(WIDTHS):
        window.page.locator("label[for=__search]").first.click()
    window.page.locator("input.md-search__input").click()
    window.page.locator("input.md-search__input").type("sticking the landing")
    found = window.page.locator(".md-search-result__link").first
    found.wait_for()
    found.click()
    window.page.wait_for_url("**/derivation/**")
    assert window.problems == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_first_explorable_is_dragged_on_the_front_page(address: str, watched: Any, width: int) -> None:
    """No click is needed, and on a desk no scrolling either."""
    window = watched(width, address)
    window.page.goto(f"{address}/")
    root = window.page.locator("[data-explorable=bound][data-ready]")
    root.wait_for()
    plot = root.locator("svg.draggable").first
    box = plot.bounding_box()
    # Of a window 900 pixels high: all of the plot on a desk, the beginning of it on a phone.
    assert box["y"] + (box["height"] if width == max(WIDTHS) else 0) < 900
    plot.scroll_into_view_if_needed()
    box, before = plot.bounding_box(), root.locator("dl").inner_text()
    window.page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.4 * box["height"])
    window.page.mouse.down()
    window.page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.4 * box["height"], steps=3)
    window.page.mouse.up()
    assert root.locator("dl").inner_text() != before
    assert window.problems == []


def test_from_the_front_page_to_a_chapter_and_back(address: str, watched: Any) -> None:
    """Links are followed as a reader would, and dark and light are a click apart."""
    window = watched(1280, address)
    window.page.goto(f"{address}/")
    assert window.page.locator(".explorable[data-ready]").count() == 1 or window.page.wait_for_selector(
        ".explorable[data-ready]"
    )
    window.page.locator("article a", has_text="derivation/").first.click()
    window.page.locator("article a", has_text="4. The best substitute").first.click()
    window.page.wait_for_selector("[data-explorable=two-directions][data-ready]")
    before = window.page.evaluate("getComputedStyle(document.body).backgroundColor")
    window.page.locator("form[data-md-component=palette] label:visible").click()
    window.page.wait_for_function(f"getComputedStyle(document.body).backgroundColor !== {before!r}")
    assert window.problems == []
