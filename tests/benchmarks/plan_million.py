"""What a list of a million segments costs before and after the work itself, step by step.

    python -m tests.benchmarks.plan_million [--segments 1000000] [--keep FOLDER]

A synthetic Kinetics CSV and three states of the world, each in a process of its own: ``dead``
(the store is empty and one video in a thousand is there), ``fresh`` (every video is there, as an
empty file, and nothing is committed) and ``done`` (every video is there and every segment is
committed under one recipe). Printed are seconds of the processor for each step and the peak
resident memory of the process at its end; the last steps write what a run leaves behind. FOLDER
keeps list, videos and store for another time; making them takes some minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import extractors
import manifests
from pipeline import report
from pipeline.frames import Features
from pipeline.job import Job, Settings, Target, make_recipe
from pipeline.outcome import described
from pipeline.plan import make_batches, make_plan
from pipeline.sources import SourceOptions, Sources
from pipeline.store import Committed, RecipeShards, SegmentRow, Store, buckets_for
from tests.memory import peak_resident_bytes

STATES = ("dead", "fresh", "done")
CLASSES = 400
ONE_THERE_OF = 1000
SLOTS = 8
MEBIBYTE = 1 << 20


def identity(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:11]


def write_list(path: Path, segments: int) -> None:
    with path.open("w") as file:
        file.write("label,youtube_id,time_start,time_end,split\n")
        for n in range(segments):
            start = n % 600
            file.write(f"class {n % CLASSES},{identity(n)},{start},{start + 10},train\n")


def write_videos(folder: Path, segments: int, step: int) -> None:
    for n in range(0, segments, step):
        place = folder / f"class_{n % CLASSES}"
        if n < CLASSES * step:
            place.mkdir(parents=True, exist_ok=True)
        (place / f"{identity(n)}_{n % 600:06d}_{n % 600 + 10:06d}.mp4").touch()


def target() -> Target:
    spec = extractors.spec("efficientnet-lite0")
    return Target(spec, make_recipe(spec, Settings()))


def commit_all(out: Path, listed: manifests.Manifest, videos: Path) -> None:
    """Commit one short vector for every segment, of the files that are there."""
    store, recipe = Store.open(out), target().recipe
    shards = RecipeShards.create(out, recipe)
    sources = Sources([str(videos)], SourceOptions())
    features = Features(np.zeros((1, 4), np.float32), np.array([[10.0, 20.0]]))
    buckets: defaultdict[int, list[manifests.Segment]] = defaultdict(list)
    for segment in listed:
        buckets[store.bucket(segment.key)].append(segment)
    for bucket, members in buckets.items():
        located = [sources.locate_on_disk(segment) for segment in members]
        rows = [
            SegmentRow(
                **described(segment),
                source_size=video.size,
                source_mtime_ns=video.mtime_ns,
                features=features,
            )
            for segment, video in zip(members, located, strict=True)
        ]
        shards.commit(bucket, rows, [], {})


def prepare(folder: Path, segments: int) -> None:
    """Make the list, the videos and the stores that are not there yet."""
    path = folder / "list.csv"
    if not path.exists():
        write_list(path, segments)
    for name, step in (("few", ONE_THERE_OF), ("all", 1)):
        if not (folder / name).exists():
            write_videos(folder / name, segments, step)
    for state in STATES:
        if not (folder / state).exists():
            Store.create(folder / state, buckets_for(segments))
            if state == "done":
                commit_all(folder / state, manifests.load(path), folder / "all")


class Steps:
    """Prints what each step took."""

    def __init__(self) -> None:
        self._clock = 0.0  # the process's own beginning: imports count

    def ended(self, title: str) -> None:
        now = time.process_time()
        peak = peak_resident_bytes() / MEBIBYTE
        print(f"  {title:34} {now - self._clock:7.2f} s {peak:8.0f} MiB", flush=True)
        self._clock = time.process_time()


def committed(out: Path, wanted: Target) -> Committed:
    if not (out / wanted.recipe.folder).is_dir():
        return Committed(done={}, failures={})
    return RecipeShards.open(out, wanted.recipe.folder).committed()


def measure(folder: Path, state: str) -> None:
    """Take one state through the steps of a run, but for the work."""
    out, wanted = folder / state, target()
    job = Job(out=out, targets=(wanted,), settings=Settings(), run="bench")
    steps = Steps()
    steps.ended("imports, networks' digests")
    listed = manifests.load(folder / "list.csv")
    steps.ended("list read")
    videos = folder / ("few" if state == "dead" else "all")
    sources = Sources([str(videos)], SourceOptions())
    sources.locate_on_disk(listed.segments[0])
    steps.ended("folder of videos read")
    known = committed(out, wanted)
    steps.ended("what is committed, from the index")
    plan = make_plan(listed.segments, [wanted], [known], sources.locate_on_disk)
    steps.ended("plan")
    batches = sum(1 for _ in make_batches(plan.items, Store.open(out).bucket, SLOTS))
    steps.ended(f"cut into {batches} batches")
    summary = report.Summary(plan, report.Progress(0), job)
    run = report.write_run(summary, {})
    steps.ended("summary.json, absent.csv")
    coverage = report.write_state(listed.segments, job, [known])
    steps.ended("failures.csv, coverage.json")
    about = {**dict.fromkeys(("command", "path", "dataset", "sha256"), ""), "rejects": 0}
    report.write_page(run / "report.html", {**summary.to_json(), "manifest": about}, coverage)
    steps.ended("report.html")
    print(f"  {len(plan.items)} to do, {len(plan.absent)} absent, {plan.counts[0].done} done")


def states(folder: Path, segments: int) -> Iterator[str]:
    prepare(folder, segments)
    index = folder / "done" / target().recipe.folder / "index.npz"
    index.unlink(missing_ok=True)
    yield from (*STATES, "done")  # once with the index to be made, once with it there


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segments", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--measure", choices=STATES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.keep, options.measure)
        return
    folder = options.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for state in states(folder, options.segments):
            print(state, flush=True)
            command = [sys.executable, "-m", "tests.benchmarks.plan_million", "--measure", state]
            subprocess.run([*command, "--keep", str(folder)], check=True)
    finally:
        if options.keep is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
