"""``pipeline extract``: the one command from a manifest to features in HDF5."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from pipeline.cli.remote_options import GIBIBYTE, remote_options, source_settings
from pipeline.errors import UsageError

DEFAULT_VIDEOS = "videos"
DEFAULT_EXTRACTORS = ("efficientnet-lite0", "efficientnet-lite0-flow")


@click.command(short_help="Extract features for every segment of a manifest.")
@click.option(
    "--manifest", "-m", required=True, type=click.Path(path_type=Path, exists=True),
    help="The list: an original Kinetics CSV, any list 'pipeline list manifests' names, or a "
    "folder of videos.",
)  # fmt: skip
@click.option("--dataset", help="Which list it is, when name and content do not tell.")
@click.option(
    "--videos", "-v", "videos", multiple=True, metavar="SOURCE",
    help="Where the videos are, tried in the order given. A folder (ID.mp4 is the full video, "
    "ID_000010_000020.mp4 is already cut), trimmed:FOLDER (already cut, under bare ids), or a "
    "remote source ('pipeline list sources').  [default: the folder 'videos', or the manifest "
    "itself where it is a folder]",
)  # fmt: skip
@click.option(
    "--out", "-o", type=click.Path(path_type=Path, file_okay=False), default=Path("features"),
    show_default=True,
    help="Folder of the features; the same command again does only what is missing.",
)  # fmt: skip
@click.option(
    "--extractor", "-e", "extractors_wanted", multiple=True, metavar="NAME",
    help="A network ('pipeline list extractors'); several share one decoding pass.  "
    f"[default: {' and '.join(DEFAULT_EXTRACTORS)}]",
)  # fmt: skip
@click.option(
    "--set", "settings", multiple=True, metavar="NAME.KEY=VALUE",
    help="A setting of one extractor, e.g. i3d-rgb.stride=16, c3d.layer=fc7, "
    "i3d-flow.weights=random. A changed setting is another recipe and another folder.",
)  # fmt: skip
@click.option("--split", help="Only the segments of this split (train, val, test).")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many segments.")
@click.option("--dry-run", is_flag=True, help="Show the plan, do nothing.")
@click.option(
    "--workers", "-w", type=click.IntRange(0), default=None,
    help="Worker processes on this machine; 0 runs in this process, for debugging (without "
    "rescue from videos that hang or crash).  [default: one per GPU, or processors / threads]",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True,
              help="Threads of each worker.")  # fmt: skip
@click.option(
    "--scheduler", metavar="ADDRESS", default="",
    help="Run on this Dask cluster: tcp://HOST:PORT, tls://HOST:PORT or file:SCHEDULER.json. "
    "Workers must see the same folders.",
)  # fmt: skip
@click.option("--device", default="auto", show_default=True,
              help="cpu, cuda, or auto: every GPU of this machine if there is one.")  # fmt: skip
@click.option("--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32",
              show_default=True, help="Arithmetic of the networks.")  # fmt: skip
@click.option("--compile", "compile_networks", is_flag=True, help="torch.compile the networks.")
@click.option("--weights", type=click.Path(path_type=Path, file_okay=False), default=None,
              help="Folder of downloaded weights ('pipeline weights list').")  # fmt: skip
@click.option("--decoder", default="pyav", show_default=True,
              help="Video decoder: pyav or decord.")  # fmt: skip
@click.option("--flow", "flow_backend", default="native", show_default=True,
              help="TV-L1 implementation: native, opencv or torch.")  # fmt: skip
@click.option("--flow-preset", default="faithful", show_default=True,
              help="TV-L1 parameters; others are faster and give other features.")  # fmt: skip
@click.option("--flow-depth", type=click.Choice(["uint8", "float32"]), default="uint8",
              show_default=True, help="Depth that flow passes through.")  # fmt: skip
@click.option("--flow-cache", type=click.Path(path_type=Path, file_okay=False), default=None,
              help="Keep 8-bit flow in this folder, and read it from there next time.")  # fmt: skip
@click.option("--dtype", type=click.Choice(["float32", "float16"]), default="float32",
              show_default=True, help="How vectors are stored.")  # fmt: skip
@click.option("--min-coverage", type=click.FloatRange(0, 1), default=0.9, show_default=True,
              help="Share of a segment that must decode.")  # fmt: skip
@click.option("--retry-failed", is_flag=True, help="Try failed segments again, whatever failed.")
@click.option("--strict", is_flag=True, help="Stop at the first bad row of the manifest.")
@click.option("--stall-seconds", type=click.FloatRange(1), default=300.0, show_default=True,
              help="Restart a worker that gives no sign of life for so long.")  # fmt: skip
@click.option("--scratch", type=click.Path(path_type=Path, file_okay=False), default=None,
              help="Folder for downloads of remote sources.")  # fmt: skip
@click.option("--scratch-bytes", type=click.IntRange(1), default=20 * GIBIBYTE, show_default=True,
              help="Disk budget for downloads; files are deleted after use.")  # fmt: skip
@remote_options
def extract(**flags: Any) -> int:
    """Extract features for every segment of a manifest, and commit them to HDF5.

    \b
      pipeline extract --manifest kinetics400.csv
      pipeline extract --manifest kinetics400.csv --videos trimmed:/data/k400/val --split val \\
                       --extractor i3d-rgb --extractor i3d-flow --set i3d-rgb.preset=64/8

    Run it again to do what is missing: videos that appeared, segments that were added, failures
    that may pass. Ctrl-C once finishes the segment in hand and commits; nothing is lost.
    """
    return _extract(flags)


def chosen_specs(names: Sequence[str], settings: Sequence[str]) -> list[Any]:
    """Return the Specs that ``--extractor`` and ``--set`` ask for.

    Raises
    ------
    UsageError
        On a ``--set`` that is not NAME.KEY=VALUE, or names no extractor of the run.
    """
    import extractors

    wanted = {name: extractors.spec(name) for name in names}
    for text in settings:
        target, equals, value = text.partition("=")
        name, dot, key = target.rpartition(".")
        if not equals or not dot:
            raise UsageError(f"--set {text}: expected NAME.KEY=VALUE, e.g. i3d-rgb.stride=16")
        if name not in wanted:
            raise UsageError(
                f"--set {text}: {name!r} is no extractor of this run ({', '.join(wanted)}); "
                f"add --extractor {name}"
            )
        wanted[name] = wanted[name].with_settings({key: value})
    return list(wanted.values())


def _gpus(flags: dict[str, Any]) -> int:
    """Settle the device, and return how many GPUs get a worker each.

    Raises
    ------
    UsageError
        When a GPU of this machine is asked for and it has none.
    """
    import torch

    if flags["device"] == "auto":
        flags["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    elif flags["device"].startswith("cuda") and not flags["scheduler"]:
        _require_gpu(flags["device"])
    gpus = torch.cuda.device_count() if flags["device"] == "cuda" else 0
    if flags["workers"] is not None:
        gpus = min(gpus, flags["workers"])
    return gpus


def _require_gpu(device: str) -> None:
    import torch

    if not torch.cuda.is_available():
        raise UsageError(
            f"--device {device}: torch {torch.__version__} finds no GPU on this machine; take "
            "--device cpu, or the --scheduler of a cluster that has GPUs ('pipeline doctor' shows "
            "what is here)"
        )


def _job(flags: dict[str, Any], remote: tuple[str, ...], source_options: Any) -> Any:
    from pipeline import flow
    from pipeline.job import Job, Settings, Target, make_recipe

    if flags["flow_preset"] not in flow.PRESETS:
        raise UsageError(
            f"--flow-preset is {flags['flow_preset']!r}, expected one of {', '.join(flow.PRESETS)}"
        )
    settings = Settings(
        decoder=flags["decoder"],
        min_coverage=flags["min_coverage"],
        flow_backend=flags["flow_backend"],
        flow_preset=flags["flow_preset"],
        flow_depth=flags["flow_depth"],
        store_dtype=flags["dtype"],
        device=flags["device"],
        precision=flags["precision"],
        compile=flags["compile_networks"],
        threads=flags["threads"],
        weights=_absolute(flags["weights"]),
    )
    specs = chosen_specs(flags["extractors_wanted"] or DEFAULT_EXTRACTORS, flags["settings"])
    targets = tuple(Target(spec, make_recipe(spec, settings)) for spec in specs)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return Job(
        out=flags["out"].resolve(),
        targets=targets,
        settings=settings,
        sources=remote,
        source_options=source_options,
        run=f"{stamp}-{uuid.uuid4().hex[:6]}",
        flow_cache=_absolute(flags["flow_cache"]),
    )


def _sources(flags: dict[str, Any]) -> tuple[Any, tuple[str, ...], Any]:
    """Return the opened sources, those a worker must ask, and their options."""
    from pipeline.sources import SourceOptions, Sources, open_source

    manifest = flags["manifest"]
    texts = flags["videos"] or ((str(manifest),) if manifest.is_dir() else (DEFAULT_VIDEOS,))
    if not flags["videos"] and not Path(texts[0]).is_dir():
        raise UsageError(
            f"no --videos was given, and there is no folder {DEFAULT_VIDEOS!r} here; name the "
            "folder or the source of the videos: --videos DIR"
        )
    options = SourceOptions(
        scratch=_absolute(flags["scratch"]),
        scratch_bytes=flags["scratch_bytes"],
        **source_settings(flags),
    )
    sources = Sources(texts, options)
    remote = tuple(text for text in texts if not open_source(text, options).local)
    return sources, remote, options


def _absolute(path: Path | None) -> Path | None:
    """Return a path as a worker with another working directory understands it."""
    return None if path is None else path.resolve()


def compute_flow(arguments: Sequence[str], names: Sequence[str]) -> int:
    """Run what ``pipeline flow`` asks for: extract's own way, without the networks.

    Parameters
    ----------
    arguments : sequence of str
        Flags of extract.
    names : sequence of str
        Flow extractors, whose rate and size decide the flow.

    Raises
    ------
    UsageError
        When an extractor is not on flow.
    """
    import extractors

    flags: list[str] = []
    for name in names:
        if extractors.spec(name).modality != "flow":
            raise UsageError(f"--extractor {name} looks at rgb; expected one on flow")
        flags += ["--extractor", name, "--set", f"{name}.weights=random"]  # no network is run
    with extract.make_context("flow", [*arguments, *flags, "--device", "cpu"]) as context:
        return _extract(context.params, flow_only=True)


def _extract(flags: dict[str, Any], flow_only: bool = False) -> int:
    import manifests
    from pipeline.plan import limited
    from pipeline.session import Session

    gpus = _gpus(flags)
    manifest = manifests.load(flags["manifest"], flags["dataset"], strict=flags["strict"])
    sources, remote, options = _sources(flags)
    job = replace(_job(flags, remote, options), flow_only=flow_only)
    segments = tuple(limited(manifest.segments, flags["split"], flags["limit"]))
    session = Session(job, manifest, segments, partial(click.echo, err=True))
    plan = session.plan(sources, retry_failed=flags["retry_failed"])
    if flags["dry_run"]:
        click.echo(session.dry_run_text(plan))
        return 0
    return session.run(plan, _cluster(flags, gpus), flags["stall_seconds"], sys.argv[1:])


def _cluster(flags: dict[str, Any], gpus: int) -> Any:
    from pipeline.cluster import default_workers
    from pipeline.pool import ClusterSpec

    workers = flags["workers"]
    return ClusterSpec(
        workers=default_workers(flags["threads"]) if workers is None else workers,
        threads=flags["threads"],
        gpus=gpus,
        scheduler=flags["scheduler"],
    )


COMMANDS = (extract,)
