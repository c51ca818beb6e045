"""A comparison as text, CSV and one self-contained HTML page."""

from __future__ import annotations

import csv
import html
from collections.abc import Sequence
from pathlib import Path

from pipeline.heads._comparison import Comparison, Line

IN_TEXT = (0, 1, 2, 3, 4, 6, 7, 8, 9)  # the long ones stand in the CSV and HTML
SHORT = (0, 3, 4, 5, 6, 7)  # never broken into lines
STYLE = (
    "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}"
    ".short{white-space:nowrap}p,ul{max-width:60em}"
    "td,th{padding:.3em .7em;border-bottom:1px solid #ddd;text-align:left}"
    "tr.best{background:#eef6ee}tr.base{color:#666}"
)


def headings(comparison: Comparison) -> list[str]:
    """Return the names of the columns."""
    first, second = comparison.figures
    return [
        "row", "features", "head", first, "interval", second, "to the best", "parameters",
        "median rows x frames", "head ms/segment", "pre-trained on", "published on other data",
    ]  # fmt: skip


def cells(comparison: Comparison, line: Line) -> list[str]:
    """Return one row of the table as texts, in the order of `headings`."""
    gap = comparison.difference(line, comparison.best)
    is_best = line is comparison.best
    spread = "" if line.seed_spread != line.seed_spread else f" (seeds ±{line.seed_spread:.3f})"
    return [
        line.row,
        line.features,
        line.head,
        f"{line.top1.value:.3f}{spread}",
        f"{line.top1.low:.3f} to {line.top1.high:.3f}",
        f"{line.over_classes:.3f}",
        "best" if is_best else f"{gap.value:+.3f}{' (noise)' if gap.holds_zero else ''}",
        f"{line.parameters / 1e6:.1f} M" if line.parameters else "",
        line.seen,
        f"{1000 * line.head_seconds:.1f}" if line.head_seconds else "",
        line.pretraining,
        line.published,
    ]


def as_text(comparison: Comparison) -> str:
    """Return the table for a terminal, the statements under it."""
    rows = [[headings(comparison)[k] for k in IN_TEXT]]
    rows += [[cells(comparison, line)[k] for k in IN_TEXT] for line in comparison.lines]
    lines = [comparison.about, "", *_aligned(rows), "", *comparison.statements()]
    weights = dict.fromkeys(
        f"{x.features}: {x.pretraining}" for x in comparison.lines if x.features
    )
    lines += ["", "pre-trained on:", *(f"  {text}" for text in weights)]
    published = {line.row: line.published for line in comparison.lines if line.published}
    lines += ["", "published on other data, with networks trained on it:"]
    lines += [f"  {row:<18}{text}" for row, text in published.items()]
    return "\n".join(lines)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(t.ljust(w) for t, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def write_csv(path: Path, comparison: Comparison) -> None:
    """Write the whole table, and what every fold chose."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*headings(comparison), "chosen by fold"])
        for line in comparison.lines:
            writer.writerow([*cells(comparison, line), "; ".join(line.chosen)])


def write_html(path: Path, comparison: Comparison) -> None:
    """Write the whole table as one page that needs no other file."""
    parts = [
        "<!doctype html><meta charset=utf-8><title>Comparison</title>",
        f"<style>{STYLE}</style><h1>Which features, which head</h1>",
        *(f"<p>{html.escape(text)}</p>" for text in comparison.about.splitlines()),
        "<table><tr>",
        *(f"<th>{html.escape(name)}" for name in headings(comparison)),
    ]
    for line in comparison.lines:
        kind = "best" if line is comparison.best else "" if line.features else "base"
        parts.append(f"<tr class='{kind}'>")
        for column, text in enumerate(cells(comparison, line)):
            parts.append(f"<td{' class=short' if column in SHORT else ''}>{html.escape(text)}")
    parts.append("</table><ul>")
    parts += [f"<li>{html.escape(text)}" for text in comparison.statements()]
    parts.append("</ul>")
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")
