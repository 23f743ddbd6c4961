"""The site, built once for all processes of the tests, a server for it on this machine, and a browser to look with.

The browser is the system's Chromium, which Playwright drives; where either is missing, what needs it is skipped.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from trees import ROOT


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    api = pytest.importorskip("playwright.sync_api")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as playwright:
        # Without a sandbox, which root may not have; it sees pages of this checkout alone.
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site; the build is strict, so a warning fails here."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    # Beside the folders of the processes of `-n`, so that they share it.
    shared = (
        tmp_path_factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else tmp_path_factory.getbasetemp()
    )
    place = shared / "built-site"
    with FileLock(f"{place}.lock"):
        if not (place / "index.html").exists():
            command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(place)]
            process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            assert process.returncode == 0, process.stdout + process.stderr
    return place


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing of each request."""


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """Where the site is served, on this machine."""
    handler = functools.partial(_Silent, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


# The search's index takes a second of processor time on each page that is opened. Only tests of the search need it.
NO_INDEX = json.dumps({"config": {"lang": ["en"], "separator": "[\\s]+", "pipeline": [], "fields": {}}, "docs": []})


class Watched:
    """A page of the browser, and what went wrong on it: errors on the console, and requests to other addresses."""

    def __init__(self, browser: Any, width: int, allowed: tuple[str, ...], *, searches: bool = False) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900})
        if not searches:
            self.context.route(
                "**/search/search_index.json",
                lambda route: route.fulfill(body=NO_INDEX, content_type="application/json"),
            )
        self.page = self.context.new_page()
        self.timeout = pytest.importorskip("playwright.sync_api").TimeoutError
        self.problems: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "request", lambda request: request.url.startswith(allowed) or self.problems.append(f"loads {request.url}")
        )

    def width(self) -> int:
        """How wide the page is, which is no more than the window unless something sticks out."""
        return int(self.page.evaluate("document.documentElement.scrollWidth"))

    def fits(self, width: int) -> bool:
        """Whether nothing sticks out of a window of this width, once its side bars have come to rest."""
        with suppress(self.timeout):
            self.page.wait_for_function(f"document.documentElement.scrollWidth <= {width}", timeout=2000)
        return self.width() <= width

    def close(self) -> None:
        self.context.close()


@pytest.fixture
def watched(browser: Any) -> Iterator[Any]:
    """A function that opens a window of a width, in which only addresses that begin with `allowed` may be loaded."""
    opened: list[Watched] = []

    def make(width: int, *allowed: str, **how: Any) -> Watched:
        opened.append(Watched(browser, width, (*allowed, "data:", "blob:"), **how))
        return opened[-1]

    yield make
    for window in opened:
        window.close()
