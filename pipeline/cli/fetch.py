"""``pipeline fetch``: bring the videos of a list into a folder, before or without extraction."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pipeline.cli.remote_options import GIBIBYTE, remote_options, source_settings

EXIT_WORK_LEFT = 1
EXIT_INTERRUPTED = 130

HELP = """Bring the videos of a manifest into a folder.

\b
Sources:
  https://HOST/{id}_{start:06d}_{end:06d}.mp4   a web server (no {start}: full videos)
  tar:DIR                                       archives, each read once (CVDF's .tar.gz)
  tar:https://HOST/list.txt                     the same, from a server's list of them
  s3://BUCKET/{id}_{start:06d}_{end:06d}.mp4    object storage (extra [s3]); also gs, az, hf
  youtube:                                      by YouTube id (extra [youtube])
  DIR, trimmed:DIR                              a folder: its files are checked and copied

\b
  pipeline fetch -m kinetics400.csv -v tar:k400/val -v youtube: --into videos
  pipeline extract -m kinetics400.csv --videos videos

The same command again does what is left: unfinished downloads are resumed, files that are
there are not asked for, failures that may pass are tried again a few times. A file gets its
name when it is whole and decodes. INTO/failures.csv lists what failed and why (it is a
manifest), coverage.json counts by split and class, committed.txt is the exact list.
"""


@click.command(help=HELP, short_help="Bring the videos of a manifest into a folder.")
@click.option(
    "--manifest", "-m", required=True, type=click.Path(path_type=Path, exists=True),
    help="The list: any that 'pipeline list manifests' names. A failures.csv asks for just what "
    "failed.",
)  # fmt: skip
@click.option("--dataset", help="Which list it is, when name and content do not tell.")
@click.option(
    "--videos", "-v", "videos", multiple=True, required=True, metavar="SOURCE",
    help="Where the videos come from, asked in the order given; see above.",
)  # fmt: skip
@click.option(
    "--into", "-o", required=True, type=click.Path(path_type=Path, file_okay=False),
    help="Folder that receives them, under names that 'pipeline extract --videos' knows.",
)  # fmt: skip
@click.option("--trim", is_flag=True,
              help="Cut full videos to their segments, exactly, encoding anew; by default they "
              "are kept as they came and cut while decoding.")  # fmt: skip
@click.option("--split", help="Only the segments of this split (train, val, test).")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many segments.")
@click.option("--dry-run", is_flag=True, help="Show the plan, do nothing.")
@click.option("--retry-failed", is_flag=True, help="Ask again for what was given up.")
@click.option("--strict", is_flag=True, help="Stop at the first bad row of the manifest.")
@click.option("--jobs", "-j", type=click.IntRange(1), default=8, show_default=True,
              help="Videos at a time.")  # fmt: skip
@click.option("--scheduler", metavar="ADDRESS", default="",
              help="Fetch on this Dask cluster instead: tcp://HOST:PORT or file:SCHEDULER.json. "
              "Workers must see the same folder; each machine has its own rate.")  # fmt: skip
@click.option("--stall", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True,
              help="Most seconds of a server's silence.")  # fmt: skip
@click.option("--scratch-bytes", type=click.IntRange(1), default=20 * GIBIBYTE, show_default=True,
              help="Disk budget for what is on its way, below the target folder.")  # fmt: skip
@click.option("--min-coverage", type=click.FloatRange(0, 1), default=0.9, show_default=True,
              help="Share of each segment that must decode before a file is kept; 0 looks at "
              "the header only.")  # fmt: skip
@remote_options
def fetch(**flags: Any) -> int:
    """Bring the videos of a manifest into a folder."""
    return _fetch(flags)


def _options(flags: dict[str, Any], into: Path) -> Any:
    from pipeline.fetch_work import WORKPLACE
    from pipeline.sources import SourceOptions

    return SourceOptions(
        scratch=into / WORKPLACE / "scratch",
        parts=into / WORKPLACE / "parts",
        scratch_bytes=flags["scratch_bytes"],
        stall_seconds=flags["stall"],
        **source_settings(flags),
    )


def _fetch(flags: dict[str, Any]) -> int:
    import manifests
    from pipeline.fetch import JOURNAL, Journal, known_failures, make_plan
    from pipeline.fetch_report import plan_text
    from pipeline.fetch_work import FetchJob, clean
    from pipeline.plan import limited
    from pipeline.sources import open_source

    into = flags["into"].resolve()
    options = _options(flags, into)
    for text in flags["videos"]:
        open_source(text, options)  # a wrong one is better known before a long run
    manifest = manifests.load(flags["manifest"], flags["dataset"], strict=flags["strict"])
    segments = tuple(limited(manifest.segments, flags["split"], flags["limit"]))
    manifest = replace(manifest, segments=segments)
    job = FetchJob(
        into=into, options=options, trim=flags["trim"], min_coverage=flags["min_coverage"]
    )
    path = job.workplace / JOURNAL
    plan = make_plan(segments, job, known_failures(path), retry_failed=flags["retry_failed"])
    click.echo(plan_text(plan), err=True)
    if flags["dry_run"]:
        return 0
    with Journal(path) as journal:
        clean(job.workplace)
        return _run(flags, job, manifest, plan, journal)


def _run(flags: dict[str, Any], job: Any, manifest: Any, plan: Any, journal: Any) -> int:
    """Fetch with a moving line, and write the files however it ends."""
    from tqdm import tqdm

    from pipeline.fetch import fetch as run
    from pipeline.fetch import make_plan
    from pipeline.fetch_report import summary, work_is_left, write_files

    done, written, whole, interrupted = set(plan.done), 0, False, False
    with tqdm(total=len(plan.todo), unit="segment", mininterval=1.0, disable=None) as bar:

        def note(outcome: Any) -> None:
            nonlocal written
            journal.note(outcome)
            bar.update(1)
            if not outcome.code:
                done.add(outcome.key)
                written += outcome.size

        try:
            with _executor(flags) as (executor, width):
                run(plan, job, flags["videos"], executor, note, width=width)
            whole = True
        except KeyboardInterrupt:
            interrupted = True
        finally:
            if not whole:  # what was in hand came, and nobody was told
                done = make_plan(manifest, job, journal.known, retry_failed=False).done
            found = write_files(job.into, manifest, done, journal.known)
    click.echo(summary(found, written))
    if interrupted:
        click.echo("interrupted: what came is kept; the same command goes on", err=True)
        return EXIT_INTERRUPTED
    return EXIT_WORK_LEFT if work_is_left(found) else 0


@contextmanager
def _executor(flags: dict[str, Any]) -> Iterator[tuple[Executor, int]]:
    """Yield what runs the tasks, and how many at a time."""
    if not flags["scheduler"]:
        with ThreadPoolExecutor(flags["jobs"], thread_name_prefix="fetch") as threads:
            try:
                yield threads, flags["jobs"]
            except KeyboardInterrupt:
                click.echo("interrupted: what is in hand is brought first", err=True)
                raise
        return
    from pipeline.dask_pool import connected
    from pipeline.pool import ClusterSpec

    with connected(ClusterSpec(scheduler=flags["scheduler"])) as client:
        width = sum(client.nthreads().values())
        yield client.get_executor(pure=False, retries=2), width


COMMANDS = (fetch,)
