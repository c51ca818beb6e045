"""``pipeline status``, ``verify``, ``export`` and ``compact``: looking after a feature store."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pipeline.store import FeatureSet

EXIT_DAMAGE = 3
MOST_LISTED = 8

_out = click.argument("out", type=click.Path(path_type=Path, file_okay=False, exists=True))


@click.command(short_help="Say what a store holds.")
@_out
def status(out: Path) -> None:
    """List the recipes of the store OUT: segments done and failed, rows, labels, splits.

    The last line is what the latest run left: segments to do, and segments without a video.

    \b
    Example:
      pipeline status features
    """
    from pipeline.store import FeatureStore

    store = FeatureStore(out)
    click.echo(f"{out}: {_counted(len(store), 'recipe')}, {_counted(store.buckets, 'bucket')}")
    for name in store:
        for line in _described(store[name]):
            click.echo(line)
    for line in _last_run(out):
        click.echo(line)


def _last_run(out: Path) -> list[str]:
    """Describe the newest of ``OUT/runs/<id>/summary.json``; nothing when there is none.

    Runs are named by the time they began, so their names are in order.
    """
    found = sorted(out.glob("runs/*/summary.json"))
    if not found:
        return []
    try:
        run = dict(json.loads(found[-1].read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        return ["", f"last run: {found[-1]} cannot be read ({error})"]
    return [
        "",
        f"last run {run.get('run')}: {run.get('done')} done, {run.get('left')} left, "
        f"{run.get('without_video')} without a video of {run.get('segments')} segments",
    ]


def _described(features: FeatureSet) -> list[str]:
    items = features.items
    rows = int(items["rows"].sum())
    size = rows * features.dim * features.reader.dtype.itemsize
    lines = [
        "",
        features.name,
        f"  segments  {len(features)} done, {len(features.failures)} failed",
        f"  rows      {rows} x {features.dim} {features.reader.dtype.name}, "
        f"{size / 1e6:.1f} MB in {_counted(features.shards, 'shard')}",
    ]
    for title, values in (("splits", items["split"]), ("labels", items["label"])):
        counts = Counter(name for value in values for name in value.split("|") if name)
        if counts:
            lines.append(f"  {title:9} {_listed(counts)}")
    if features.failures:
        codes = Counter(row.code for row in features.failures)
        lines.append(f"  failures  {_listed(codes)}")
    return lines


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _listed(counts: Counter[str]) -> str:
    shown = ", ".join(f"{name} {number}" for name, number in counts.most_common(MOST_LISTED))
    more = len(counts) - MOST_LISTED
    return f"{shown} and {more} more" if more > 0 else shown


@click.command(short_help="Check a store for damage; exit status 3 when there is any.")
@_out
def verify(out: Path) -> int:
    """Read the whole store OUT and compare it with its own checksums.

    Every finding says file, what was found, what was expected, and what to do. Damage (a shard
    that is truncated, altered or foreign, a segment stored twice) ends in exit status 3; notes
    (leftovers of killed processes, superseded rows) do not.

    \b
    Example:
      pipeline verify features && echo sound
    """
    from pipeline import store

    report = store.verify(out)
    for finding in report.findings:
        click.echo(str(finding))
    damage = sum(finding.damage for finding in report.findings)
    click.echo(
        f"{_counted(report.recipes, 'recipe')}, {_counted(report.shards, 'shard')}, "
        f"{_counted(report.segments, 'segment')}, {_counted(report.failures, 'failure')}, "
        f"{_counted(report.rows, 'row')}, {report.size / 1e6:.1f} MB: "
        f"{damage} damaged, {_counted(len(report.findings) - damage, 'note')}"
    )
    return EXIT_DAMAGE if report.damaged else 0


@click.command(short_help="Write features for other people's code.")
@_out
@click.argument("destination", type=click.Path(path_type=Path))
@click.option(
    "--recipe", default=None, help="Recipe folder or extractor; needed when OUT has several."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["hdf5", "npy"]),
    default="hdf5",
    show_default=True,
    help="One HDF5 with a dataset per segment, or a folder of .npy.",
)
@click.option(
    "--per-video",
    is_flag=True,
    help="One vector per video instead: the average of its rows, L2-normalised (C3D).",
)
def export(out: Path, destination: Path, recipe: str | None, form: str, per_video: bool) -> None:
    """Write the features of a recipe of the store OUT to DESTINATION, a new file or folder.

    Names are made from segment keys and are safe as file names; DESTINATION.csv maps each name to
    its segment, video, times, label and split.

    \b
    Examples:
      pipeline export features i3d.h5 --recipe i3d-rgb
      pipeline export features c3d.npy --recipe c3d --format npy --per-video
    """
    from pipeline import store

    chosen = store.FeatureStore(out).chosen(recipe)
    write = store.export_descriptors if per_video else store.export
    done = write(chosen, destination, "npy" if form == "npy" else "hdf5")
    written = _counted(done.written, "video" if per_video else "segment")
    click.echo(f"{done.path}: {written}; names in {done.mapping}")
    if done.empty:
        empty = _counted(len(done.empty), "segment")
        click.echo(f"{empty} without a row, first: {done.empty[0]}")


@click.command(short_help="Merge small shards.")
@_out
def compact(out: Path) -> None:
    """Merge the parts of every bucket of the store OUT into one shard.

    Worth it after many interrupted or retried runs. It may be killed, and runs may go on
    meanwhile; programs that have the store open for reading should open it again.

    \b
    Example:
      pipeline compact features
    """
    from pipeline import store

    for name in store.FeatureStore(out):
        done = store.compact(store.RecipeShards.open(out, name))
        swept = f", {_counted(done.swept, 'leftover')} swept" if done.swept else ""
        click.echo(f"{name}: {_counted(done.before, 'shard')} -> {done.after}{swept}")


COMMANDS = (status, verify, export, compact)
