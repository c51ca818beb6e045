"""``pipeline diff``: our rows beside those of another tool."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

EXIT_DIFFERENT = 1
MOST_LISTED = 10


@click.command(short_help="Compare our features with those of another tool.")
@click.argument("out", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.argument("other", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--recipe", default=None,
    help="Recipe folder or extractor of OUT; needed when OUT has several.",
)  # fmt: skip
@click.option(
    "--suffix", default="", metavar="TEXT",
    help="What their names have after the segment's or video's, e.g. _rgb.",
)  # fmt: skip
@click.option(
    "--array", default="", metavar="NAME",
    help="Of several arrays of one video, the one that also has this name, e.g. rgb.",
)  # fmt: skip
@click.option(
    "--columns", default="", metavar="FIRST:END",
    help="Those of their columns that are ours, e.g. 0:1024 of joined RGB and flow.",
)  # fmt: skip
@click.option(
    "--min-cosine", type=click.FloatRange(-1, 1), default=None,
    help="Exit with status 1 if the mean cosine of a segment is lower.",
)  # fmt: skip
def diff(
    out: Path,
    other: Path,
    recipe: str | None,
    suffix: str,
    array: str,
    columns: str,
    min_cosine: float | None,
) -> int:
    """Compare the rows of the store OUT with OTHER: .npy files, or HDF5 of any layout.

    Segments are matched by name: our key or its exported name, else the video's, when it has one
    segment. Each is compared at the shift of rows that suits best; a shift means other sampling,
    a cosine of 1 with a distance means other scaling, a low cosine another network or
    preprocessing.

    \b
    Examples:
      pipeline diff features video_features/i3d --recipe i3d-rgb --suffix _rgb
      pipeline diff features sub_activitynet_v1-3.c3d.hdf5 --recipe c3d --array c3d_features
      pipeline diff features wtal --recipe i3d-rgb --columns 0:1024
    """
    from pipeline.diff import differences, verdict
    from pipeline.store import FeatureStore
    from pipeline.store.foreign import ForeignFeatures

    ours = FeatureStore(out).chosen(recipe)
    found = differences(ours, ForeignFeatures(other, array), suffix=suffix, columns=columns)
    worst = sorted(found.compared, key=lambda c: c.cosine)
    click.echo("  cosine  lowest  rel. L2   scale  offset  rows ours/theirs  segment")
    for c in worst[:MOST_LISTED]:
        rows = f"{c.rows[0]}/{c.rows[1]}"
        click.echo(
            f"{c.cosine:8.5f} {c.lowest_cosine:7.4f} {c.distance:8.2e} {c.scale:7.4g} "
            f"{c.offset:+7d}  {rows:>16}  {c.key}"
        )
    if len(worst) > MOST_LISTED:
        click.echo(f"  ... and {len(worst) - MOST_LISTED} closer ones")
    middle = np.median([[c.cosine, c.distance] for c in worst], axis=0)
    click.echo(
        f"{len(worst)} segments compared, {len(found.absent)} of ours not there; "
        f"median cosine {middle[0]:.6f}, median relative L2 {middle[1]:.2e}"
    )
    click.echo(verdict(found))
    too_low = min_cosine is not None and worst[0].cosine < min_cosine
    return EXIT_DIFFERENT if too_low else 0


COMMANDS = (diff,)
