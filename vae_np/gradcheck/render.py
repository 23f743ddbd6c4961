"""A report as text, in a long and a short form, and as a page of HTML."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # reports render themselves
    from vae_np.gradcheck.report import Report

HEADER = ("tensor", "shape", "method", "max error", "index", "analytic", "numeric", "verdict")
# Rows and complaints that the short form shows.
SHORT_ROWS, SHORT_COMPLAINTS = 6, 6
WIDEST = 160
COLOURS = {"ok": "#1a7f37", "FAIL": "#cf222e", "unclear": "#9a6700", "skipped": "#6e7781"}


def long(report: Report) -> str:
    """Return everything: headline, table, tolerances, notes, and the lines that repeat what did not pass."""
    lines = [report.headline()]
    if report.rows:
        lines += _table([row.cells() for row in report.rows])
        lines.append(report.tolerances())
    lines += [f"  {line}" for line in report.details()]
    return _joined(lines + _again(report))


def short(report: Report) -> str:
    """Return the headline, the rows that did not pass, complaints, and the lines that repeat the check."""
    lines = [report.headline()]
    wrong = [row for row in report.rows if row.verdict in ("FAIL", "unclear")]
    if wrong:
        lines += _table([row.cells() for row in wrong[:SHORT_ROWS]])
        if len(wrong) > SHORT_ROWS:
            lines.append(f"and {len(wrong) - SHORT_ROWS} more tensors")
    if report.reading and not report.passed:
        lines.append(f"  reading: {report.reading}")
    unclear = [f"{row.tensor}: {row.notes[-1]}" for row in wrong if row.verdict == "unclear" and row.notes]
    complaints = [*report.complaints(), *unclear]
    if wrong and not report.causes:
        complaints += [f"{row.tensor}: {row.notes[-1]}" for row in wrong if row.verdict == "FAIL" and row.notes]
    lines += [f"  {line}" for line in complaints[:SHORT_COMPLAINTS]]
    if len(complaints) > SHORT_COMPLAINTS:
        lines.append(f"  and {len(complaints) - SHORT_COMPLAINTS} more lines: print the report")
    return _joined(lines + _again(report))


def page(report: Report) -> str:
    """Return the report as HTML, as a notebook shows it."""
    head = "".join(f"<th>{cell}</th>" for cell in HEADER)
    body = ""
    for row in report.rows:
        *cells, verdict = row.cells()
        mark = f'<td style="color:{COLOURS[row.verdict]}"><b>{html.escape(verdict)}</b></td>'
        body += "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + mark + "</tr>"
    notes = "".join(f"<li>{html.escape(line)}</li>" for line in report.details())
    snippet = "" if report.passed else f"<pre>{html.escape(report.snippet)}</pre>"
    return (
        f"<p><b>{html.escape(report.headline())}</b></p><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table><p>{html.escape(report.tolerances())}</p><ul>{notes}</ul>{snippet}"
    )


def _again(report: Report) -> list[str]:
    if report.passed or not report.snippet:
        return []
    return [f"reproduce (seed {report.seed}):", *(f"    {line}" for line in report.snippet.splitlines())]


def _joined(lines: list[str]) -> str:
    return "\n".join(line.rstrip() for line in lines)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Return the rows under HEADER as aligned text; numbers to the right, words to the left."""
    widths = [max(len(cell) for cell in column) for column in zip(HEADER, *rows, strict=True)]
    right = {3, 5, 6}

    def line(cells: tuple[str, ...]) -> str:
        padded = [
            cell.rjust(width) if position in right else cell.ljust(width)
            for position, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    return [line(HEADER), line(tuple("-" * width for width in widths)), *map(line, rows)]
