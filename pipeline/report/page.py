"""One page of HTML for one run: what ran, what came of it, and what to do about the rest.

Made from what ``summary.json`` and ``coverage.json`` hold and from nothing else, so it costs the
same for ten segments and for a million. The page is one file without scripts and without the
network. Ids, labels and failure texts come from strangers: every cell is escaped, except what this
module made itself (`Html`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from pipeline.errors import ALWAYS_RETRIED, FAILURES, NEVER_RETRIED
from pipeline.report.files import written
from pipeline.report.quantities import duration, size
from pipeline.report.style import STYLE

LABELS_SHOWN = 30
EXAMPLES_SHOWN = 3
DETAIL_CHARACTERS = 400

Json = Mapping[str, Any]


class Html(str):
    """Text that is HTML already and is not escaped again."""


PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Run $run</title>
<style>$style</style>
</head>
<body>
$body
</body>
</html>
""")


def write_page(path: Path, summary: Json, coverage: Json) -> None:
    """Write the page of a run.

    Parameters
    ----------
    path : Path
        The file, in ``OUT/runs/<id>/``: its links are relative to that folder.
    summary : Mapping
        What ``summary.json`` holds.
    coverage : Mapping
        What ``coverage.json`` holds; empty for a run that kept flow alone.
    """
    with written(path) as file:
        file.write(page(summary, coverage))


def page(summary: Json, coverage: Json) -> str:
    """Return the page of a run; see `write_page`."""
    parts = [
        _heading(summary),
        _counts(summary),
        _failures(summary),
        _what_ran(summary),
        _times(summary),
        *(_coverage(folder, found) for folder, found in coverage.items()),
        _place(summary),
    ]
    return PAGE.substitute(run=escape(summary["run"]), style=STYLE, body="\n".join(parts))


def _heading(summary: Json) -> Html:
    left = summary["left"]
    if summary["stopped"]:
        state, words = "bad", f"Stopped by an error: {summary['stopped']}"
    elif summary["interrupted"]:
        state, words = "bad", "Interrupted. Run the same command to go on; nothing is lost."
    elif left:
        state, words = "bad", f"{_number(left)} segments are left. Run the same command to go on."
    else:
        state, words = "good", "Every segment is accounted for."
    return Html(f'<h1>Run {escape(summary["run"])}</h1>\n<p class="{state}">{escape(words)}</p>')


def _counts(summary: Json) -> Html:
    """Return the segments of the list as one bar; its parts add up to the list."""
    failed = sum(summary["failed"].values())
    earlier = summary["segments"] - summary["without_video"] - summary["to_do"]
    parts = [
        ("earlier", "settled by earlier runs", earlier),
        ("done", "done by this run", summary["done"]),
        ("failed", "failed", failed),
        ("left", "left", summary["left"]),
        ("absent", "without a video", summary["without_video"]),
    ]
    legend = "".join(
        f'<li><span class="key {name}"></span><b>{_number(count)}</b> {words}</li>'
        for name, words, count in parts
    )
    total = _number(summary["segments"])
    bar = _bar([(name, count) for name, _, count in parts])
    return _section(f"{total} segments", Html(f'{bar}<ul class="legend">{legend}</ul>'))


def _failures(summary: Json) -> Html:
    """Return what failed and why: by this run, and at plan time for want of a video."""
    rows: list[Sequence[object]] = []
    for code, number in _most(summary["failed"]):
        shown = summary["failed_examples"].get(code, ())[:EXAMPLES_SHOWN]
        examples = "".join(
            f"<li><code>{escape(e['key'])}</code> {escape(_shortened(e['detail']))}</li>"
            for e in shown
        )
        more = f"<li>and {_number(number - len(shown))} more</li>" if number > len(shown) else ""
        cell = Html(f'<ul class="examples">{examples}{more}</ul>')
        rows.append((_code(code), number, _meaning(code), _fate(code), cell))
    for code, number in _most(summary["absent"]):
        cell = Html('none was tried; all of them in <a href="absent.csv">absent.csv</a>')
        rows.append((_code(code), number, _meaning(code), _fate(code), cell))
    if not rows:
        return Html("")
    note = (
        '<p>All failures in force, of this run and of earlier ones: <a href="../../failures.csv">'
        "failures.csv</a>, itself a list to run again.</p>"
    )
    head = ("code", "segments", "meaning", "tried again", "examples")
    has_failed = bool(summary["failed"])
    return _section("What failed", Html(_table(head, rows) + (note if has_failed else "")))


def _code(text: str) -> Html:
    return Html(f"<code>{escape(text)}</code>")


def _meaning(code: str) -> str:
    """Return the first sentence that `pipeline.errors` says of a failure."""
    kind = FAILURES.get(code)
    return "" if kind is None else (kind.__doc__ or "").partition("\n")[0].replace("``", "")


def _fate(code: str) -> str:
    attempts = FAILURES[code].max_attempts if code in FAILURES else NEVER_RETRIED
    if attempts == ALWAYS_RETRIED:
        return "by every run"
    if attempts == NEVER_RETRIED:
        return "when its file changes, or with --retry-failed"
    return f"by {attempts} runs, then when its file changes, or with --retry-failed"


def _what_ran(summary: Json) -> Html:
    manifest, settings = summary["manifest"], summary["settings"]
    facts = [
        ("command", _code(f"pipeline {manifest['command']}")),
        ("manifest", f"{manifest['path']} ({manifest['dataset']})"),
        ("its sha256", _code(manifest["sha256"])),
        ("rows refused", _refused(manifest["rejects"])),
        ("networks on", f"{settings['device']}, {settings['precision']}"),
        ("threads of each worker", str(settings["threads"])),
    ]
    rows = []
    for folder in summary["recipes"]:
        plan = summary["planned"][folder]
        link = f'<a href="../../{quote(folder)}/recipe.json">{escape(folder)}</a>'
        digest = _code(summary["digests"][folder])
        counts = (plan["done"], plan["todo"], plan["retried"], plan["given_up"], plan["replaced"])
        rows.append((Html(link), digest, *counts))
    head = ("recipe", "digest", "done before", "to do", "of them again", "given up", "new video")
    return _section("What ran", Html(_table((), facts) + _table(head, rows)))


def _refused(rows: int) -> str:
    return Html(f'{rows:,}, listed in <a href="rejects.csv">rejects.csv</a>') if rows else "none"


def _coverage(folder: str, found: Json) -> Html:
    """Return how much of each split and class one recipe has; the least covered first."""
    done = f"{_number(found['done'])} of {_number(found['segments'])} segments"
    classes = found["class"]
    parts: list[str] = [_table(_COVERAGE_HEAD, map(_covered, _least_covered(found["split"])))]
    if classes:
        shown = _least_covered(classes)[:LABELS_SHOWN]
        parts.append(_table(("class", *_COVERAGE_HEAD[1:]), map(_covered, shown)))
    if len(classes) > LABELS_SHOWN:
        parts.append(
            f"<p>The {LABELS_SHOWN} least covered of {_number(len(classes))} classes; all of them "
            'in <a href="../../coverage.json">coverage.json</a>.</p>'
        )
    return _section(f"Coverage of {folder}: {done}", Html("".join(parts)))


_COVERAGE_HEAD = ("split", "segments", "done", "failed", "absent", "")


def _least_covered(counts: Mapping[str, Mapping[str, int]]) -> list[tuple[str, Mapping[str, int]]]:
    def share(entry: tuple[str, Mapping[str, int]]) -> tuple[float, str]:
        return entry[1].get("done", 0) / sum(entry[1].values()), entry[0]

    return sorted(counts.items(), key=share)


def _covered(entry: tuple[str, Mapping[str, int]]) -> tuple[object, ...]:
    name, states = entry
    total = sum(states.values())
    done, absent = states.get("done", 0), states.get("absent", 0)
    failed = total - done - absent
    bar = _bar([("done", done), ("failed", failed), ("absent", absent)])
    return (name or "(none)", total, done, failed, absent, bar)


def _times(summary: Json) -> Html:
    elapsed, counts = summary["elapsed_seconds"], summary["counts"]
    settled = summary["done"] + sum(summary["failed"].values())
    if not settled:
        return Html("")
    written_bytes = size(summary["bytes"])
    facts: list[tuple[str, object]] = [
        ("elapsed", duration(elapsed)),
        ("segments", f"{_rate(settled, elapsed)} a second"),
    ]
    facts += [
        (name.replace("_", " "), f"{_number(number)}, {_rate(number, elapsed)} a second")
        for name, number in sorted(counts.items())
        if not name.endswith("bytes")
    ]
    facts.append(("rows written", f"{_number(summary['rows'])}, {written_bytes}"))
    stages = summary["worker_seconds"]
    busy = sum(stages.values()) or 1.0
    rows = [
        (name, f"{spent:,.1f}", f"{spent / busy:.0%}", f"{spent / settled * 1e3:,.1f}",
         _bar([("done", spent), ("rest", busy - spent)]))
        for name, spent in _most(stages)
    ]  # fmt: skip
    head = ("stage", "worker seconds", "share", "ms a segment", "")
    return _section("Time", Html(_table((), facts) + _table(head, rows)))


def _place(summary: Json) -> Html:
    note = "<p>Of the machine that drove the run; each shard names its own worker's versions.</p>"
    tables = "".join(_table((), sorted(summary[what].items())) for what in ("hardware", "versions"))
    return _section("Machine and versions", Html(f'{note}<div class="side">{tables}</div>'))


def _section(title: str, content: Html) -> Html:
    return Html(f"<section><h2>{escape(title)}</h2>\n{content}</section>")


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
    """Return a table; without a head its first column names the rows."""
    listed = list(rows)
    lines = []
    if head:
        samples = listed[0] if listed else head
        names = (_cell("th", name, like) for name, like in zip(head, samples, strict=True))
        lines.append(f"<tr>{''.join(names)}</tr>")
    for first, *others in listed:
        opening = _cell("td" if head else "th", first, first)
        cells = (_cell("td", value, value) for value in others)
        lines.append(f"<tr>{opening}{''.join(cells)}</tr>")
    kind = "rows" if head else "facts"
    body = "\n".join(lines)
    return Html(f'<div class="wide"><table class="{kind}">{body}</table></div>')


def _cell(tag: str, value: object, like: object) -> str:
    """Return a cell; a column of whole numbers is set to the right, with its head."""
    text = f"{value:,}" if isinstance(value, int) else str(value)
    content = value if isinstance(value, Html) else escape(text)
    return f"<{tag}{' class=number' if isinstance(like, int) else ''}>{content}</{tag}>"


def _bar(parts: Sequence[tuple[str, float]]) -> Html:
    """Return parts of a whole as one line of colours."""
    total = sum(number for _, number in parts) or 1
    pieces = (
        f'<span class="{name}" style="width:{100 * number / total:.3f}%"></span>'
        for name, number in parts
        if number
    )
    return Html(f'<div class="bar">{"".join(pieces)}</div>')


def _most(counts: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))


def _number(number: int) -> str:
    return f"{number:,}"


def _rate(number: int, seconds: float) -> str:
    return f"{number / max(seconds, 1e-9):.3g}"


def _shortened(text: str) -> str:
    return text if len(text) <= DETAIL_CHARACTERS else text[:DETAIL_CHARACTERS] + " ..."
