"""What the site adds to the Markdown files while they are built: pages for code, links to it, places for explorables.

The files themselves stay as a checkout shows them. So a link that leaves docs/ leads to a page with the file it
names; a name such as `vae_np/ops.py` `affine_act_backward` becomes a link to the source and to the API's page; a mark
such as [D22] in a docstring leads to its formula; `<!-- explorable: NAME -->` becomes the explorable of that name; and
excerpts are taken from the sources (excerpts.py).
"""

from __future__ import annotations

import ast
import posixpath
import re
from functools import cache
from pathlib import Path
from typing import Any

# A neighbour of this file: MkDocs looks for what its hooks import in their own folder.
from excerpts import filled
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Pages that lie elsewhere, or under another name than the site has for them.
PLACES = {
    "docs/derivation/index.md": "derivation/formulas.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LANGUAGES = {".py": "python", ".cu": "cuda", ".cuh": "cuda", ".toml": "toml", ".cfg": "ini", ".md": "markdown"}
# Rooms that are no interface: commands, exercises' texts, and what a package is started by.
UNLISTED = ("vae_np.cli", "vae_np.exercises", "vae_np.__main__", "vae_np.kernels.gpu")

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()([^)\s#]+)?(#[^)\s]*)?(\))")
_POINTER = re.compile(
    r"(?<!\[)`((?:vae_np|kernels|tests|bench|docs)/[\w./-]+\.(?:py|cuh?|cfg|toml))`((?:\s`[\w.]+`(?:,\s`[\w.]+`)*)?)"
)
_MARK = re.compile(r"\[(D\d+)\b([^\]<]*)\]")
# Two marks in a row look like a reference: the first one's text with the second one as its target.
_PAIR = re.compile(r'<autoref[^>]* identifier="(D\d+)"[^>]*>(D\d+)</autoref>')
_EXPLORABLE = re.compile(r"<!-- explorable: ([\w-]+) -->")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Give the API's pages their places in the navigation, a section for each room."""
    sections: dict[str, list[Any]] = {}
    for module in modules():
        parts = module.split(".")
        room = "The book and the rest of the front row" if len(parts) == 2 else ".".join(parts[:2])
        sections.setdefault(room, []).append({module: f"reference/{module}.md"})
    config.nav.append({"API": [{room: pages} for room, pages in sections.items()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that have no file in docs/: of the API, of linked sources, and of Markdown files elsewhere."""
    for source, place in PLACES.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    for module in modules():
        files.append(File.generated(config, f"reference/{module}.md", content=f"# `{module}`\n\n::: {module}\n"))
    texts = [path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")]
    texts += [(ROOT / source).read_text(encoding="utf-8") for source in PLACES]
    pointed = {file for text in texts for file, _ in _POINTER.findall(text)}
    linked = {target for page in (*DOCS.rglob("*.md"), *(ROOT / s for s in PLACES)) for target in targets_outside(page)}
    for file in sorted({file for file in pointed | linked if (ROOT / file).is_file()}):
        files.append(File.generated(config, source_page(file), content=source_text(file)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Take excerpts anew, rewrite what leaves docs/, link names to their code, and make room for explorables."""
    if page.file.src_uri.startswith(("reference/", "sources/")):
        return markdown
    here = page_source(page.file.src_uri)
    markdown = filled(markdown)
    markdown = _EXPLORABLE.sub(r'<div class="explorable" data-explorable="\1"></div>', markdown)
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else relinked(part, here, page.file.src_uri) for part in parts)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """In the API's pages and in sources, have each mark lead to its formula."""
    if not page.file.src_uri.startswith(("reference/", "sources/")):
        return html
    up = posixpath.relpath("derivation", posixpath.dirname(page.file.dest_uri))

    def link(match: re.Match[str]) -> str:
        chapter = chapters().get(match[1])
        return match[0] if chapter is None else f'<a href="{up}/{chapter}/#{match[1]}">{match[0]}</a>'

    return _MARK.sub(link, _PAIR.sub(r"[\2] [\1]", html))


@cache
def modules() -> tuple[str, ...]:
    """The modules that have public names, in the order of their rooms."""
    found = []
    for path in sorted([*(ROOT / "vae_np").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = ("vae_np", *parts) if parts[0] == "kernels" else parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        private = any(part.startswith("_") for part in module.split("."))
        # The package's own folder holds a link to kernels/, too.
        if not private and not module.startswith(UNLISTED) and names(path) and module not in found:
            found.append(module)
    front = [module for module in found if module.count(".") < 2]
    return tuple(sorted(front) + sorted(set(found) - set(front)))


@cache
def names(path: Path) -> frozenset[str]:
    """The documented public names of a module: functions, classes and their members."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if (
            isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and ast.get_docstring(node)
        ):
            found.add(node.name)
            members = node.body if isinstance(node, ast.ClassDef) else []
            found |= {
                f"{node.name}.{member.name}"
                for member in members
                if isinstance(member, ast.FunctionDef) and not member.name.startswith("_") and ast.get_docstring(member)
            }
    return frozenset(found)


@cache
def chapters() -> dict[str, str]:
    """The chapter of each mark."""
    pages = sorted((DOCS / "derivation").glob("[0-9][0-9]-*.md"))
    return {
        mark: path.stem for path in pages for mark in re.findall(r'<a id="(D\d+)">', path.read_text(encoding="utf-8"))
    }


def page_source(uri: str) -> str:
    """The path in the repository of a page's text."""
    elsewhere = {place: source for source, place in PLACES.items()}
    return elsewhere.get(uri, f"docs/{uri}")


def source_page(file: str) -> str:
    """The page that shows a file of the repository."""
    return f"sources/{file}.md"


def source_text(file: str) -> str:
    """A page with a file's text, its lines numbered."""
    text = (ROOT / file).read_text(encoding="utf-8").rstrip()
    language = LANGUAGES.get(Path(file).suffix, "text")
    return f'# `{file}`\n\n````{language} linenums="1"\n{text}\n````\n'


def targets_outside(path: Path) -> set[str]:
    """The files of the repository that a page's links lead to and that are no pages of docs/."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    here = path.relative_to(ROOT).as_posix()
    targets = {resolved(here, link) for _, link, _, _ in _LINK.findall(text) if link and ":" not in link}
    return {target for target in targets if not target.startswith("docs/") and target not in PLACES}


def resolved(here: str, link: str) -> str:
    """The path in the repository that a relative link of the file `here` leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(here), link))


def place_of(target: str) -> str:
    """The page, or the file of the site, for a path in the repository."""
    if target in PLACES:
        return PLACES[target]
    return target.removeprefix("docs/") if target.startswith("docs/") else source_page(target)


def relinked(text: str, here: str, uri: str) -> str:
    """A stretch of Markdown outside code blocks, its links and pointers made to fit the site."""
    up = posixpath.dirname(uri) or "."

    def link(match: re.Match[str]) -> str:
        if not match[2] or ":" in match[2]:
            return match[0]
        place = posixpath.relpath(place_of(resolved(here, match[2])), up)
        return f"{match[1]}{place}{match[3] or ''}{match[4]}"

    def pointer(match: re.Match[str]) -> str:
        file, listed = match[1], match[2]
        if not (ROOT / file).is_file():
            return match[0]
        module = ("vae_np/" + file if file.startswith("kernels/") else file).removesuffix(".py").replace("/", ".")
        shown = names(ROOT / file) if file.endswith(".py") and module in modules() else frozenset()
        named = re.sub(
            r"`([\w.]+)`", lambda name: f"[{name[0]}][{module}.{name[1]}]" if name[1] in shown else name[0], listed
        )
        return f"[`{file}`]({posixpath.relpath(source_page(file), up)}){named}"

    return _POINTER.sub(pointer, _LINK.sub(link, text))
