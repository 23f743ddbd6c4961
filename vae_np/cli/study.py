"""`vae-np study`: run the derivation's chapters, print every claim with its number, draw the figures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from vae_np import study
from vae_np.cli.options import JsonFile, Seed, setting, words
from vae_np.cli.output import Output, writing
from vae_np.pictures import plots
from vae_np.study.claims import Claim, show


def command(
    chapter: Annotated[
        str,
        typer.Argument(
            metavar="CHAPTER|all",
            help="A chapter's number or name; by default all of them.",
            autocompletion=words("all", *study.CHAPTERS),
        ),
    ] = "all",
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Where the figures go.")] = "study",
    seed: Seed = None,
    json_file: JsonFile = None,
) -> int:
    """Run the derivation: compute every claim, show its number beside what it must equal, and draw its figure."""
    chosen_seed = setting("seed", seed) or 0
    output = Output(json_file)
    names = study.CHAPTERS if chapter == "all" else (study.chapter_name(chapter),)
    folder = Path(out)
    with writing("out", folder):
        folder.mkdir(parents=True, exist_ok=True)
    chapters: list[dict[str, Any]] = []
    failed = 0
    for name in names:
        title = study.chapter_title(name)
        started = time.perf_counter()
        with output.status(f"{name}: {title}"):
            result = study.run_chapter(name, chosen_seed)
        seconds = time.perf_counter() - started
        files = []
        for label, figure in result.figures.items():
            for suffix in (".png", ".svg"):
                path = folder / f"{label}{suffix}"
                with writing("out", path):
                    plots.save(figure, path)
                files.append(str(path))
        headline = f"{name}: {title} ({seconds:.0f} s)"
        if result.claims:
            columns = ("claim, and by which two computations", "value", "", "expected", "tolerance", "verdict")
            output.table(headline, columns, [_row(claim) for claim in result.claims])
        else:
            output.say(headline)
        for note in result.notes:
            output.say(f"note     {note}")
        for file in files:
            output.say(f"wrote    {file}")
        failed += result.failed
        claimed = [claim.as_dict() for claim in result.claims]
        chapters.append({"name": name, "claims": claimed, "notes": result.notes, "figures": files})
    claims = sorted({claim["id"] for part in chapters for claim in part["claims"]})
    total = sum(len(part["claims"]) for part in chapters)
    summary = f"{len(claims)} claims, {total} numbers: {total - failed} hold, {failed} fail"
    output.result("study", {"chapters": chapters, "failed": failed, "seed": chosen_seed}, lambda: output.say(summary))
    return 1 if failed else 0


def _row(claim: Claim) -> tuple[str, ...]:
    return (
        f"{claim.id:>2} {claim.statement}\n   {claim.by[0]} | {claim.by[1]}",
        show(claim.value),
        claim.relation,
        show(claim.expected),
        show(claim.tolerance) + (" rel" if claim.relative else ""),
        "ok" if claim.passed else "FAIL",
    )
