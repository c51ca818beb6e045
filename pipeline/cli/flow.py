"""``pipeline flow``: TV-L1 flow to look at, and to exchange with other code."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.flow.backends import Field
    from pipeline.frames import Pixels

SHOWN_SECONDS = 4.0
SMALLEST_SIDE_PX = 16


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Which frames of which video, at what size, by which backend."""

    video: Path
    start: float
    seconds: float | None
    fps: Fraction | None
    short_side: int
    backend: str
    preset: str


def _number(text: Any) -> float:
    """Return a finite number from 0; `nan` and `inf`, which are floats too, mean nothing here."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise click.BadParameter(f"found {text!r}, expected a number from 0")
    return number


def _positive(text: Any) -> float:
    """Return a finite number above 0."""
    if not _number(text):
        raise click.BadParameter(f"found {text!r}, expected a number above 0")
    return float(text)


def _rate(text: Any) -> Fraction:
    """Return frames per second, from a number or a ratio like 30000/1001."""
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise click.BadParameter(
            f"found {text!r}, expected a positive number or a ratio like 30000/1001"
        )
    return rate


def _video_options(command: Any) -> Any:
    for option in (
        click.option("--preset", default="faithful", show_default=True, help="TV-L1 parameters."),
        click.option("--backend", default="native", show_default=True,
                     help="native, opencv (the reference) or torch."),
        click.option("--short-side", default=256, show_default=True, metavar="PX",
                     type=click.IntRange(SMALLEST_SIDE_PX),
                     help="Resize so that the shorter side has this length; flow is made after."),
        click.option("--fps", type=_rate, metavar="RATE",
                     help="Sample at this rate; every frame otherwise."),
        click.option("--start", default=0.0, show_default=True, metavar="SECONDS",
                     type=_number, help="Begin here."),
        click.argument("video", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
    ):  # fmt: skip
        command = option(command)
    return command


@click.group(
    invoke_without_command=True,
    short_help="Compute TV-L1 flow alone; look at it; exchange it with other code.",
)
@click.option("--manifest", "-m", type=click.Path(path_type=Path, exists=True),
              help="The list whose flow is to be computed and kept.")  # fmt: skip
@click.option("--flow-cache", type=click.Path(path_type=Path, file_okay=False),
              help="Folder to keep it in; 'extract --flow-cache' reads it.")  # fmt: skip
@click.option("--videos", "-v", multiple=True, metavar="SOURCE", help="As in extract.")
@click.option("--extractor", "-e", "extractors_wanted", multiple=True, metavar="NAME",
              default=("efficientnet-lite0-flow",), show_default=True,
              help="Flow extractors whose rate and size decide the flow.")  # fmt: skip
@click.option("--workers", "-w", type=click.IntRange(0), help="Worker processes; 0 is this one.")
@click.option("--dataset", help="Which list it is, when name and content do not tell.")
@click.option("--split", help="Only the segments of this split.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many segments.")
@click.pass_context
def flow(context: click.Context, /, **flags: Any) -> int:
    """Compute dense TV-L1 optical flow alone, on machines without a GPU, and keep it.

    \b
    Example:
      pipeline flow --manifest kinetics400.csv --flow-cache flow --extractor i3d-flow
      pipeline extract --manifest kinetics400.csv --flow-cache flow --extractor i3d-flow

    The same command again does only what is missing. The subcommands show flow and exchange it.
    """
    if context.invoked_subcommand is not None:
        return 0
    if flags["manifest"] is None or flags["flow_cache"] is None:
        raise click.UsageError("expected --manifest FILE with --flow-cache FOLDER, or a subcommand")
    from pipeline.cli.extract import compute_flow

    arguments = ["--manifest", str(flags["manifest"])]
    for option in ("--flow-cache", "--out"):
        arguments += [option, str(flags["flow_cache"])]
    for source in flags["videos"]:
        arguments += ["--videos", source]
    for name in ("workers", "dataset", "split", "limit"):
        if flags[name] is not None:
            arguments += [f"--{name}", str(flags[name])]
    return compute_flow(arguments, flags["extractors_wanted"])


@flow.command(short_help="Write a picture and an mp4 of a video's flow.")
@_video_options
@click.option("--seconds", type=_positive, default=SHOWN_SECONDS, show_default=True,
              help="How long a stretch.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("."),
              show_default=True, help="Folder for the two files.")  # fmt: skip
def show(out: Path, **chosen: Any) -> None:
    """Write VIDEO.flow.png and VIDEO.flow.mp4: frame, coloured flow and speed side by side.

    Hue is direction (the wheel in the corner), saturation is speed. The picture is the pair with
    the most motion.

    \b
    Example:
      pipeline flow show bike.mp4 --start 2 --seconds 3
    """
    from pipeline.flow import pictures

    stretch = _Stretch(**chosen)
    pairs = list(_flows(stretch))
    if not pairs:
        raise click.UsageError(f"{stretch.video}: fewer than two frames in that stretch")
    range_px = max(pictures.speed_range(moved) for _, moved in pairs)
    panels = [pictures.side_by_side(frame, moved, range_px) for frame, moved in pairs]
    liveliest = max(range(len(pairs)), key=lambda k: float(abs(pairs[k][1]).mean()))
    out.mkdir(parents=True, exist_ok=True)
    picture, film = (out / f"{stretch.video.stem}.flow{suffix}" for suffix in (".png", ".mp4"))
    pictures.write_picture(panels[liveliest], picture)
    pictures.write_video(panels, film, _shown_fps(stretch))
    click.echo(f"{picture}: flow {liveliest + 1} of {len(pairs)}, full colour at {range_px:.1f} px")
    click.echo(f"{film}: {len(pairs)} flows")


@flow.command("export", short_help="Write a video's flow as dense_flow JPEG pairs.")
@_video_options
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--seconds", type=_positive, help="How long a stretch; to the end otherwise.")
@click.option("--rule", default="dense_flow", show_default=True,
              help="dense_flow (rounds), truncated (MediaPipe) or centred (ours).")  # fmt: skip
@click.option("--bound", default=20.0, show_default=True, metavar="PX",
              help="Displacement that becomes 0 or 255.")  # fmt: skip
def export_folder(folder: Path, rule: str, bound: float, **chosen: Any) -> None:
    """Write flow_x_00001.jpg, flow_y_00001.jpg, ... of VIDEO into FOLDER. JPEG is lossy.

    \b
    Example:
      pipeline flow export bike.mp4 bike_flow --short-side 256 --bound 20
    """
    from pipeline.flow.folders import write_folder

    moved = (flow for _, flow in _flows(_Stretch(**chosen)))
    count = write_folder(moved, folder, rule, bound)
    click.echo(f"{folder}: {count} flows by rule {rule}, bound {bound:g} px")


@flow.command("import", short_help="Read a dense_flow folder into one .npy file.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("target", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--rule", default="dense_flow", show_default=True,
              help="The rule by which FOLDER was written.")  # fmt: skip
@click.option("--bound", default=20.0, show_default=True, metavar="PX",
              help="The bound by which FOLDER was written.")  # fmt: skip
def import_folder(folder: Path, target: Path, rule: str, bound: float) -> None:
    """Write the flow of FOLDER to TARGET: (N, H, W, 2) uint8 by this project's rule.

    For your own code. Extract does not take it: JPEG is lossy and a folder does not say which
    frames of which size it was made of, so its features would be other numbers than a recipe says.

    \b
    Example:
      pipeline flow import tsn/bike bike.npy --rule dense_flow --bound 20
    """
    import numpy as np

    from pipeline.errors import UsageError
    from pipeline.flow import quantise
    from pipeline.flow.folders import read_folder

    if not target.parent.is_dir():
        raise UsageError(f"{target}: there is no folder {target.parent}; make it first")
    levels = np.stack([quantise(moved) for moved in read_folder(folder, rule, bound)])
    with target.open("wb") as file:  # np.save itself would add .npy to another name
        np.save(file, levels)
    click.echo(f"{target}: {len(levels)} flows of {levels.shape[2]}x{levels.shape[1]}")


def _flows(stretch: _Stretch) -> Iterator[tuple[Pixels, Field]]:
    """Yield the first RGB frame of each pair and the pair's flow."""
    from pipeline import decode, flow
    from pipeline.frames import View
    from pipeline.sampling import Grid

    parameters = flow.PRESETS.get(stretch.preset)
    if parameters is None:
        raise click.UsageError(f"no preset {stretch.preset!r}; one of {', '.join(flow.PRESETS)}")
    backend = flow.open_backend(stretch.backend, parameters)
    info = decode.probe(stretch.video)
    factor = stretch.short_side / min(info.height_px, info.width_px)
    size = round(info.height_px * factor), round(info.width_px * factor)
    colour, grey = View(*size), View(*size, mode="gray")
    start = Fraction(stretch.start)
    end = None if stretch.seconds is None else start + Fraction(stretch.seconds)
    grid = Grid(start, end, stretch.fps)
    frames: list[Pixels] = []

    def greys() -> Iterator[Pixels]:
        for sample in decode.frames(
            stretch.video, [decode.Request(grid, (colour, grey))], info=info
        ):
            for _ in sample.samples[0]:
                frames.append(sample.images[colour])
                yield sample.images[grey]

    for moved in flow.stream(greys(), backend):
        yield frames.pop(0), moved


def _shown_fps(stretch: _Stretch) -> float:
    from pipeline import decode

    return float(stretch.fps or decode.probe(stretch.video).nominal_fps)


COMMANDS = (flow,)
