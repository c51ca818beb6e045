"""``pipeline list`` and ``pipeline doctor``: what there is, and what this machine can do."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import tempfile
from collections import defaultdict
from importlib import metadata
from pathlib import Path

import click

from extractors import Spec
from pipeline.errors import WeightsError


@click.group("list", short_help="List extractors, manifests or sources.")
def list_() -> None:
    """List what can be named on the command line."""


@list_.command("extractors")
@click.option("--markdown", is_flag=True, help="As a Markdown table.")
@click.option("--weights", type=click.Path(path_type=Path, file_okay=False), default=None,
              help="Folder of downloaded weights.")  # fmt: skip
def list_extractors(markdown: bool, weights: Path | None) -> None:
    """Show the networks for --extractor, with their protocol and whether their weights are here."""
    import extractors

    head = ("name", "input", "window/stride", "fps", "layer (D)", "weights", "paper")
    rows: list[tuple[str, ...]] = [head]
    for name in extractors.names():
        spec = extractors.spec(name)
        sampling = spec.sampling
        shape = {"whole": "whole", "uniform": f"{sampling.window} x {sampling.count}"}.get(
            sampling.mode, f"{sampling.window}/{sampling.stride}"
        )
        fps = "native" if sampling.fps is None else str(sampling.fps)
        layer = f"{spec.layer} ({spec.dim})"
        rows.append((name, spec.modality, shape, fps, layer, _weights(spec, weights), spec.paper))
    click.echo(_table(rows, markdown))
    if not markdown:
        click.echo(f"and by prefix: {', '.join(p + 'NAME' for p in extractors.prefixes())}")


def _weights(spec: Spec, folder: Path | None) -> str:
    import extractors

    try:
        extractors.digest_weights(spec, folder)
    except WeightsError:
        return "to fetch" if spec.weights else "none published"
    return "here"


@list_.command("manifests")
def list_manifests() -> None:
    """Show the lists that are understood, for --dataset."""
    import manifests

    for name in manifests.names():
        click.echo(name)


@list_.command("sources")
def list_sources() -> None:
    """Show the places that videos can come from, for --videos."""
    from pipeline import sources

    for name, syntax in sources.syntax().items():
        click.echo(f"{name:10} {syntax}")


def _table(rows: list[tuple[str, ...]], markdown: bool) -> str:
    if markdown:
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


@click.command(short_help="Check this machine: versions, devices, decoders, weights, ports.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("features"),
              show_default=True, help="Folder to be written to.")  # fmt: skip
@click.option("--weights", type=click.Path(path_type=Path, file_okay=False), default=None,
              help="Folder of downloaded weights.")  # fmt: skip
def doctor(out: Path, weights: Path | None) -> int:
    """Say what this machine has, and what would go wrong; exit status 1 if something would."""
    troubles: list[str] = []
    _report_packages(troubles)
    _report_devices()
    _report_decoders(troubles)
    _report_weights(weights)
    _report_disk(out, troubles)
    _report_dashboard(troubles)
    for trouble in troubles:
        click.echo(f"TROUBLE  {trouble}")
    click.echo("all well" if not troubles else f"{len(troubles)} troubles")
    return 1 if troubles else 0


def _report_packages(troubles: list[str]) -> None:
    from pipeline.provenance import versions

    click.echo("versions   " + ", ".join(f"{name} {v}" for name, v in versions().items()))
    owners = metadata.packages_distributions()
    for name in ("pipeline", "extractors", "manifests"):
        place = Path(str(importlib.import_module(name).__file__)).parent
        click.echo(f"package    {name}: {place}")
        others = set(owners.get(name, [])) - {"action-features"}
        if others:
            troubles.append(
                f"package {name} is also installed by {', '.join(sorted(others))}; "
                "uninstall that distribution, the names collide"
            )


def _report_devices() -> None:
    import torch

    gpus = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    cores = len(os.sched_getaffinity(0))
    click.echo(f"devices    {cores} processors, {', '.join(gpus) or 'no GPU'}")


def _report_decoders(troubles: list[str]) -> None:
    from pipeline import decode, flow

    for name in decode.names():
        try:
            importlib.import_module({"pyav": "av"}.get(name, name))
            click.echo(f"decoder    {name}: here")
        except ImportError as error:
            click.echo(f"decoder    {name}: not here ({error})")
            if name == "pyav":
                troubles.append("PyAV is missing: pip install av")
    click.echo(f"flow       {', '.join(flow.names())}")
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        troubles.append(
            f"OpenCV does not load ({error}): install libgl1 and libglib2.0-0, or exchange "
            "opencv-contrib-python for opencv-contrib-python-headless"
        )


def _report_weights(folder: Path | None) -> None:
    import extractors

    names: defaultdict[str, list[str]] = defaultdict(list)
    for name in extractors.names():
        names[_weights(extractors.spec(name), folder)].append(name)
    for state, found in sorted(names.items()):
        click.echo(f"weights    {state}: {', '.join(found)}")


def _report_disk(out: Path, troubles: list[str]) -> None:
    from pipeline.report import size

    folder = out.resolve()
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            click.echo(f"output     {out}: writable, {size(shutil.disk_usage(folder).free)} free")
    except OSError as error:
        troubles.append(f"cannot write to {folder} ({error.strerror}); choose another --out")


def _report_dashboard(troubles: list[str]) -> None:
    try:
        importlib.import_module("bokeh")
    except ImportError:
        troubles.append("bokeh is missing, so the dashboard stays empty: pip install bokeh")
    from pipeline.pool import DASHBOARD_PORT

    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", DASHBOARD_PORT)) == 0
    state = "taken, another port will be used" if taken else "free"
    click.echo(f"dashboard  127.0.0.1:{DASHBOARD_PORT}: {state}")


COMMANDS = (list_, doctor)
