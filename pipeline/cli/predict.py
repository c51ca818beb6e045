"""``pipeline predict``: the classes that a network sees in one video, with their times."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from manifests._segment import MILLISECONDS_PER_SECOND
from pipeline.cli.extract import chosen_specs
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.predict import Prediction, VideoRows


@click.command(short_help="Print the classes that a network sees in one video.")
@click.argument("video", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--extractor", "-e", "extractors_wanted", multiple=True, metavar="NAME",
    default=("efficientnet-lite0",), show_default=True,
    help="A network with logits ('pipeline list extractors'); the logits of several are added, "
    "as two-stream networks do.",
)  # fmt: skip
@click.option(
    "--set", "settings", multiple=True, metavar="NAME.KEY=VALUE",
    help="A setting of one extractor, e.g. i3d-rgb.weights=rgb_imagenet.pt, i3d-rgb.mode=whole.",
)  # fmt: skip
@click.option(
    "--head", type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of a head that 'pipeline train' made: its classes are printed, from the very "
    "extractors it was trained on.",
)  # fmt: skip
@click.option("--start", type=click.FloatRange(0), default=0.0, show_default=True,
              help="From this second of the video.")  # fmt: skip
@click.option("--end", type=click.FloatRange(0, min_open=True), default=None,
              help="Up to this second.  [default: the video's end]")  # fmt: skip
@click.option("--top", type=click.IntRange(1), default=5, show_default=True,
              help="How many classes.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.option("--weights", type=click.Path(path_type=Path, file_okay=False), default=None,
              help="Folder of downloaded weights ('pipeline weights list').")  # fmt: skip
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda.")
@click.option("--decoder", default="pyav", show_default=True, help="Video decoder.")
@click.option("--flow", "flow_backend", default="native", show_default=True,
              help="TV-L1 implementation: native, opencv or torch.")  # fmt: skip
def predict(video: Path, **flags: Any) -> None:
    """Print the best classes of VIDEO, for the whole of it and for each window.

    The first thing to do with new weights: a video whose action you know shows at once whether
    weights, channel order and preprocessing belong together.

    \b
      pipeline predict cricket.mp4
      pipeline predict cricket.mp4 -e i3d-rgb -e i3d-flow --set i3d-rgb.mode=whole \\
                                   --set i3d-flow.mode=whole
      pipeline predict cricket.mp4 --head head
    """
    if flags["head"] is not None:
        _predict_with_head(video, flags)
        return
    from pipeline.job import Settings
    from pipeline.predict import best_classes, fused, video_rows, with_logits

    specs = [with_logits(s) for s in chosen_specs(flags["extractors_wanted"], flags["settings"])]
    if any(spec.weights_choice == "random" for spec in specs):
        click.echo("weights are random: these classes mean nothing", err=True)
    settings = Settings(
        decoder=flags["decoder"],
        flow_backend=flags["flow_backend"],
        device=flags["device"],
        weights=flags["weights"],
    )
    found = video_rows(video, specs, settings, _stretch_ms(flags["start"], flags["end"]))
    whole, windows = best_classes(fused(found.streams), found.class_names, flags["top"])
    if found.damage:
        click.echo(f"decoding stopped early: {found.damage}", err=True)
    if flags["as_json"]:
        answer = {
            "video": str(video),
            "whole": asdict(whole),
            "windows": list(map(asdict, windows)),
        }
        click.echo(json.dumps(answer, indent=1))
        return
    click.echo(_heading(video, found, [spec.name for spec in specs]))
    for line in _lines(whole, windows):
        click.echo(line)


def _predict_with_head(video: Path, flags: dict[str, Any]) -> None:
    """Print the classes of a trained head, instead of the networks' own."""
    from pipeline.heads.checkpoint import load
    from pipeline.job import Settings
    from pipeline.predict_head import predict_video, set_up

    chosen: dict[str, str] = {}
    for text in flags["settings"]:
        target, _, value = text.partition("=")
        name, _, key = target.rpartition(".")
        if key != "weights":
            raise UsageError(f"--set {text}: a head fixes all settings but NAME.weights=FILE")
        chosen[name] = value
    trained = load(flags["head"])
    settings = Settings(device=flags["device"], weights=flags["weights"])
    specs, settings = set_up(trained, settings, chosen)
    stretch = _stretch_ms(flags["start"], flags["end"])
    found = predict_video(video, trained, specs, settings, stretch, flags["top"])
    if flags["as_json"]:
        click.echo(json.dumps({"video": str(video), "whole": asdict(found.whole)}, indent=1))
        return
    names = " + ".join(spec.name for spec in specs)
    whole = found.whole
    click.echo(f"{video.name}: {trained.note.head} on {found.rows} rows of {names}")
    click.echo(f"{whole.start_seconds:g} s to {whole.end_seconds:g} s")
    for name, probability, _ in whole.classes:
        click.echo(f"{probability:11.4f}  {name}")


def _stretch_ms(start: float, end: float | None) -> tuple[int, int | None]:
    if end is not None and end <= start:
        raise UsageError(f"--end {end:g} is not after --start {start:g}")
    start_ms = round(start * MILLISECONDS_PER_SECOND)
    return start_ms, None if end is None else round(end * MILLISECONDS_PER_SECOND)


def _heading(video: Path, found: VideoRows, names: list[str]) -> str:
    info = found.info
    size = f"{info.width_px}x{info.height_px}, {float(info.nominal_fps):.6g} fps"
    return f"{video.name}: {size}; {' + '.join(names)}"


def _lines(whole: Prediction, windows: list[Prediction]) -> list[str]:
    lines = ["", "probability      logit  class of the whole video"]
    lines += [f"{p:11.4f}  {logit:9.4f}  {name}" for name, p, logit in whole.classes]
    lines += ["", "    seconds        best classes of each window"]
    for window in windows:
        best = ", ".join(f"{name} {p:.2f}" for name, p, _ in window.classes[:3])
        lines.append(f"{window.start_seconds:8.2f} - {window.end_seconds:<8.2f}{best}")
    return lines


COMMANDS = (predict,)
