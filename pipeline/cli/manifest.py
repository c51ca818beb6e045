"""``pipeline manifest``: look at lists of videos, rewrite, thin and divide them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from manifests import Manifest, Segment, Summary

CLASSES_SHOWN = 5
REJECTS_SHOWN = 5
FORMS = ("kinetics", "generic", "jsonl")

_list = click.argument("file", type=click.Path(path_type=Path))
_dataset = click.option(
    "--dataset",
    metavar="NAME[:DETAIL]",
    default=None,
    help="What the list is ('pipeline list manifests'), where it is not recognised. DETAIL is "
    "the split of ucf101:1 and hmdb51:1, the Kinetics list of minikinetics:LIST, the labels "
    "of sports1m:FILE, kinetics:FILE and mmaction:FILE.",
)
_output = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File to write.",
)
_form = click.option(
    "--to",
    "form",
    type=click.Choice(FORMS),
    default="generic",
    show_default=True,
    help="kinetics: label,youtube_id,time_start,time_end,split. generic: every field as CSV. "
    "jsonl: every field, one JSON object a line.",
)
_seed = click.option("--seed", default=0, show_default=True, help="Equal seeds choose equally.")


@click.group()
def manifest() -> None:
    """Look at lists of videos, rewrite, thin and divide them.

    FILE is any list that 'pipeline list manifests' names (Kinetics CSV or JSON, Sports-1M, UCF101,
    HMDB51, ActivityNet, mmaction2, a table, failures.csv) or a folder of videos.
    """


@manifest.command("inspect")
@_list
@_dataset
@click.option("--per-class", is_flag=True, help="Show every class with its index and count.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for programs.")
@click.option(
    "--rejects",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Write every refused row to this CSV file.",
)
def inspect_list(
    file: Path, dataset: str | None, per_class: bool, as_json: bool, rejects: Path | None
) -> None:
    """Count the segments of a list per split and class, and show what is wrong with it."""
    import manifests

    found = manifests.inspect(file, dataset)
    if rejects is not None:
        manifests.write_rejects(_other(file, rejects), manifests.rejects(file, dataset))
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
        return
    for line in _summary(found):
        click.echo(line)
    if per_class:
        for index, name in enumerate(found.order):
            click.echo(f"{index:5d}  {found.classes[name]:8,d}  {name}")


@manifest.command("convert")
@_list
@_dataset
@_form
@_output
def convert_list(file: Path, dataset: str | None, form: str, output: Path) -> None:
    """Rewrite any list as a Kinetics-style CSV, a generic CSV, or JSON lines.

    Rows that cannot be used are left out and counted. Times are kept to the millisecond. The
    columns of Kinetics have no place for group and url; ids are written as they are.
    """
    import manifests

    refused = 0

    def segments() -> Iterator[Segment]:
        nonlocal refused
        for item in manifests.stream(file, dataset):
            if isinstance(item, manifests.Reject):
                refused += 1
            else:
                yield item

    written = _write(form, _other(file, output), segments())
    click.echo(f"{written:,} segments in {output}; {refused:,} rows left out")


@manifest.command("sample")
@_list
@_dataset
@click.option("--per-class", required=True, type=int, help="Segments wanted of each class.")
@click.option("--split", "only", default=None, help="Draw from this split alone.")
@_seed
@_form
@_output
def sample_list(
    file: Path, dataset: str | None, per_class: int, only: str | None, **options: Any
) -> None:
    """Draw a class-balanced subset.

    The draw depends on the keys of the segments and the seed alone, not on their order in the
    list. Of a class with fewer segments than asked for all are taken.
    """
    import manifests

    listed = _loaded(file, dataset)
    pool = [s for s in listed if only is None or s.split == only]
    if not pool:
        splits = ", ".join(sorted({s.split or "(none)" for s in listed}))
        raise UsageError(f"no segment of {file} is in split {only!r}; its splits are {splits}")
    drawn = manifests.balanced(pool, per_class, options["seed"])
    _write(options["form"], _other(file, options["output"]), drawn)
    labels = {label for segment in drawn for label in segment.labels}
    click.echo(f"{len(drawn):,} segments of {len(labels):,} classes in {options['output']}")


@manifest.command("split")
@_list
@_dataset
@click.option(
    "--parts",
    default="train=0.8,val=0.2",
    show_default=True,
    help="Name and share of each split; the shares add up to 1.",
)
@_seed
@_form
@_output
def split_list(
    file: Path, dataset: str | None, parts: str, seed: int, form: str, output: Path
) -> None:
    """Give every segment a new split, every class in near the same shares.

    Segments of one group (of one video, where the list has no groups) stay together: what a model
    saw in training must not stand in its test.
    """
    import manifests

    divided = manifests.split(_loaded(file, dataset).segments, _shares(parts), seed)
    _write(form, _other(file, output), divided)
    counts: dict[str, int] = {}
    for segment in divided:
        counts[segment.split] = counts.get(segment.split, 0) + 1
    said = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))
    click.echo(f"{said} segments in {output}")


def _loaded(file: Path, dataset: str | None) -> Manifest:
    import manifests

    found = manifests.load(file, dataset)
    if found.rejects:
        click.echo(
            f"{len(found.rejects):,} rows of {file} are left out, the first: "
            f"{found.rejects[0].where}: {found.rejects[0].found}",
            err=True,
        )
    return found


def _other(file: Path, output: Path) -> Path:
    """Return the output, which must not be the list itself and whose folder must be there."""
    if not output.parent.is_dir():
        raise UsageError(f"{output.parent}: there is no such folder for {output.name}; make it")
    if output.exists() and file.exists() and output.samefile(file):
        raise UsageError(f"{output} is the list that is read; name another file")
    return output


def _write(form: str, path: Path, segments: Iterable[Segment]) -> int:
    import manifests

    writers = {
        "kinetics": manifests.write_kinetics,
        "generic": manifests.write_generic,
        "jsonl": manifests.write_jsonl,
    }
    return writers[form](path, segments)


def _shares(text: str) -> dict[str, float]:
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        try:
            shares[name.strip()] = float(share)
        except ValueError as error:
            raise UsageError(
                f"--parts {text!r}: {part!r} is not NAME=SHARE; write train=0.8,val=0.2"
            ) from error
    return shares


def _summary(found: Summary) -> Iterator[str]:
    yield f"dataset     {found.dataset}"
    yield f"segments    {found.segments:,}"
    for name, count in sorted(found.splits.items()):
        yield f"  {name or '(no split)':10s}{count:,}"
    if found.segments > found.whole:
        hours = found.seconds / 3600
        yield (
            f"length      {hours:,.1f} h in all; "
            f"{found.shortest:g} to {found.longest:g} s a segment"
        )
    if found.whole:
        yield f"whole       {found.whole:,} segments run to the end of their video"
    if found.unlabelled:
        yield f"unlabelled  {found.unlabelled:,}"
    if found.multi_label:
        yield f"multi-label {found.multi_label:,}"
    if found.groups:
        yield f"groups      {found.groups:,}"
    yield from _class_lines(found)
    yield f"refused     {found.rejected:,} rows; {found.repeated:,} repeat an earlier segment"
    for reject in found.rejects[:REJECTS_SHOWN]:
        yield f"  {reject.where}: {reject.found}; {reject.remedy}"
    if found.rejected > REJECTS_SHOWN:
        yield "  ... --rejects FILE writes every refused row"


def _class_lines(found: Summary) -> Iterator[str]:
    if not found.order:
        return
    counts = sorted((count, name) for name, count in found.classes.items() if count)
    middle = counts[len(counts) // 2][0] if counts else 0
    yield f"classes     {len(found.order):,}, of which {len(counts):,} occur; median {middle:,}"
    for count, name in counts[:CLASSES_SHOWN]:
        yield f"  {count:,} {name}"
    if len(counts) > CLASSES_SHOWN:
        yield f"  ... up to {counts[-1][0]:,} {counts[-1][1]}"


COMMANDS = (manifest,)
