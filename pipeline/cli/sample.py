"""``pipeline sample``: a small labelled set of real pixels, without the internet."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--per-class", default=2, show_default=True, help="Videos of each of five classes.")
@click.option("--seconds", default=2, show_default=True, help="Length of each video, 1 to 60.")
@click.option("--seed", default=0, show_default=True, help="Equal seeds make equal files.")
def sample(folder: Path, per_class: int, seconds: int, seed: int) -> None:
    """Make a small labelled set of videos in FOLDER, without the internet.

    Photographs that ship in scikit-image are moved by known motions, the five classes (pan left,
    pan right, zoom in, zoom out, rotate), and encoded as H.264, 320x240 at 25 fps. One frame does
    not tell the class, the motion does.

    \b
    FOLDER/videos/ID_000000_000002.mp4    trimmed videos, named as the Kinetics mirrors do
    FOLDER/sample.csv                     the list, with the columns of Kinetics
    FOLDER/sample_groups.csv              the same with the photograph as group
    FOLDER/motions.json                   photograph and true motion of each video

    \b
    Then, for example:
      cd FOLDER && pipeline extract --manifest sample.csv
    """
    from pipeline.sample import SampleOptions, make_sample

    options = SampleOptions(per_class=per_class, seconds=seconds, seed=seed)
    made = sum(1 for _ in make_sample(folder, options))
    click.echo(f"{made} videos in {folder / 'videos'}, listed in {folder / 'sample.csv'}")


COMMANDS = (sample,)
