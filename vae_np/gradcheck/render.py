"""Findings as text, in a long and a short form, and as a page of HTML."""

from __future__ import annotations

import html
import math

from vae_np.gradcheck.findings import Findings

HEADER = ("tensor", "shape", "method", "max error", "index", "analytic", "numeric", "verdict")
# Rows and complaints that the short form shows.
SHORT_ROWS, SHORT_COMPLAINTS = 6, 6
# More kinks than these are counted, not listed.
KINKS_SHOWN = 4
COLOURS = {"ok": "#1a7f37", "FAIL": "#cf222e", "unclear": "#9a6700", "skipped": "#6e7781"}


def long(findings: Findings) -> str:
    """Return everything: headline, table, tolerances, notes, and the lines that repeat what did not pass."""
    lines = [headline(findings)]
    if findings.rows:
        lines += _table([row.cells() for row in findings.rows])
        lines.append(tolerances(findings))
    lines += [f"  {line}" for line in details(findings)]
    return _joined(lines + _again(findings))


def short(findings: Findings) -> str:
    """Return the headline, the rows that did not pass, complaints, and the lines that repeat the check."""
    lines = [headline(findings)]
    wrong = [row for row in findings.rows if row.verdict in ("FAIL", "unclear")]
    if wrong:
        lines += _table([row.cells() for row in wrong[:SHORT_ROWS]])
        if len(wrong) > SHORT_ROWS:
            lines.append(f"and {len(wrong) - SHORT_ROWS} more tensors")
    if findings.reading and not findings.passed:
        lines.append(f"  reading: {findings.reading}")
    unclear = [f"{row.tensor}: {row.notes[-1]}" for row in wrong if row.verdict == "unclear" and row.notes]
    told = [*complaints(findings), *unclear]
    if wrong and not findings.causes:
        told += [f"{row.tensor}: {row.notes[-1]}" for row in wrong if row.verdict == "FAIL" and row.notes]
    lines += [f"  {line}" for line in told[:SHORT_COMPLAINTS]]
    if len(told) > SHORT_COMPLAINTS:
        lines.append(f"  and {len(told) - SHORT_COMPLAINTS} more lines: print the report")
    return _joined(lines + _again(findings))


def page(findings: Findings) -> str:
    """Return the report as HTML, as a notebook shows it."""
    head = "".join(f"<th>{cell}</th>" for cell in HEADER)
    body = ""
    for row in findings.rows:
        *cells, verdict = row.cells()
        mark = f'<td style="color:{COLOURS[row.verdict]}"><b>{html.escape(verdict)}</b></td>'
        body += "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + mark + "</tr>"
    notes = "".join(f"<li>{html.escape(line)}</li>" for line in details(findings))
    snippet = "" if findings.passed else f"<pre>{html.escape(findings.snippet)}</pre>"
    return (
        f"<p><b>{html.escape(headline(findings))}</b></p><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table><p>{html.escape(tolerances(findings))}</p><ul>{notes}</ul>{snippet}"
    )


def headline(findings: Findings) -> str:
    """Return the one line that says it all."""
    wrong = [row.tensor for row in findings.rows if row.verdict in ("FAIL", "unclear")]
    broken = list(dict.fromkeys(check.name for check in findings.checks if check.broken))
    if findings.passed:
        return f"{findings.name}: passed ({', '.join([*_qualified(findings), f'seed {findings.seed}'])})"
    what = ", ".join([*wrong, *broken]) or "nothing to check"
    return f"{findings.name}: {'UNCLEAR' if findings.unclear else 'FAILED'} ({what}; seed {findings.seed})"


def _qualified(findings: Findings) -> list[str]:
    """Return what a verdict of "passed" has to be read with."""
    blind = [row.tensor for row in findings.rows if row.blind]
    judged = [row for row in findings.rows if row.verdict != "skipped"]
    parts = [] if len(blind) == len(judged) else [f"max error {findings.max_error:.1e}"]
    if blind:
        parts.append(f"gradient of {', '.join(blind)} zero here, which shows little")
    if findings.warnings:
        parts.append(f"{len(findings.warnings)} warning{'s' if len(findings.warnings) > 1 else ''}")
    return parts


def details(findings: Findings) -> list[str]:
    """Return the lines below the table: notes, kinks, the other checks, likely causes."""
    lines = [f"reading: {findings.reading}"] if findings.reading else []
    for row in findings.rows:
        lines += [f"{row.tensor}: {note}" for note in row.notes]
        shown = sorted(row.kinks, key=lambda kink: kink.inside)[:KINKS_SHOWN]
        lines += [f"{row.tensor}: {kink}" for kink in shown]
        if len(row.kinks) > len(shown):
            lines.append(f"{row.tensor}: and {len(row.kinks) - len(shown)} more kinks")
    good = [check.name for check in findings.checks if check.passed]
    if good:
        lines.append(f"also holds: {', '.join(dict.fromkeys(good))}")
    if findings.taylor is not None:
        lines.append(f"Taylor: {findings.taylor}")
    lines += [f"{check.name}: {check.detail}" for check in findings.checks if check.passed and check.detail]
    return lines + complaints(findings)


def complaints(findings: Findings) -> list[str]:
    """Return a line for each warning, for each broken promise that fails, and for each likely cause."""
    lines = [f"warning: {line}" for line in findings.warnings]
    lines += [f"FAIL {check.name}: {check.detail}" for check in findings.checks if check.broken]
    return lines + [f"likely cause: {cause}" for cause in findings.causes]


def tolerances(findings: Findings) -> str:
    """Return the tolerances of all rows as one line."""
    groups: dict[str, list[str]] = {}
    for row in findings.rows:
        if not math.isnan(row.rtol):
            scales = groups.setdefault(f"rtol {row.rtol:.1e}, atol {row.atol:.1e}", [])
            scales.append(f"{row.tensor} {row.scale:.1e}")
    return "tolerance: " + "; ".join(f"{text}, scale {', '.join(s)}" for text, s in groups.items())


def _again(findings: Findings) -> list[str]:
    if findings.passed or not findings.snippet:
        return []
    return [f"reproduce (seed {findings.seed}):", *(f"    {line}" for line in findings.snippet.splitlines())]


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
