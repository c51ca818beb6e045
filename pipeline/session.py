"""One run of ``extract``, from the plan to the report, and its exit status."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import manifests
from manifests import Manifest, Segment
from pipeline import report
from pipeline.cluster import open_pool
from pipeline.errors import PipelineError, StoreError, UsageError, VideoMissing
from pipeline.flow_caching import open_cache
from pipeline.job import Job, Target
from pipeline.monitor import Event
from pipeline.plan import Plan, make_batches, make_plan
from pipeline.pool import ClusterSpec
from pipeline.run import Driver
from pipeline.sources import Located, Sources
from pipeline.sources._address import redacted
from pipeline.store import Committed, RecipeShards, Store, buckets_for
from pipeline.work import extract_batch

EXIT_DONE = 0
EXIT_WORK_LEFT = 1
EXIT_INTERRUPTED = 130


@dataclass(slots=True)
class Session:
    """A run: its job, its list, and where it speaks.

    Attributes
    ----------
    job : Job
        Extractors, settings, store.
    manifest : Manifest
        The list, for its digest and its rejects.
    segments : sequence of Segment
        The part of it that is wanted.
    say : callable
        Takes one line for the user.
    """

    job: Job
    manifest: Manifest
    segments: Sequence[Segment]
    say: Callable[[str], None]

    def plan(self, sources: Sources, retry_failed: bool = False) -> Plan:
        """Compare the list with the store and with the videos at hand.

        Raises
        ------
        UsageError
            When not one video is found.
        """
        plan = make_plan(
            self.segments,
            self.job.targets,
            self._known(),
            _locator(sources, bool(self.job.sources)),
            retry_failed,
        )
        if self.manifest.rejects:
            first = self.manifest.rejects[0]
            self.say(
                f"{self.manifest.path}: rows refused: {len(self.manifest.rejects)}; the first, "
                f"{first.where}: {first.found}; {first.remedy}"
            )
        if not self.segments:
            raise UsageError(
                f"{self.manifest.path}: no segment is left to do; check --split and the list "
                "('pipeline manifest inspect' shows what it holds)"
            )
        if not plan.present and not any(counts.done for counts in plan.counts):
            raise UsageError(self._nothing_found(plan, sources))
        self.say(report.plan_text(plan, self.job))
        return plan

    def _known(self) -> list[Committed]:
        """Return what is committed, or cached, for each extractor."""
        return [self._known_of(target) for target in self.job.targets]

    def _known_of(self, target: Target) -> Committed:
        job = self.job
        if job.flow_only:
            assert job.flow_cache is not None
            cache = open_cache(job.flow_cache, target.spec, job.settings)
            return Committed(done=cache.done(), failures={})
        if not (job.out / target.recipe.folder).is_dir():
            return Committed(done={}, failures={})
        return RecipeShards.open(job.out, target.recipe.folder).committed()

    def _nothing_found(self, plan: Plan, sources: Sources) -> str:
        first = plan.absent[0]
        return (
            f"--videos {' '.join(sources.texts)}: not one of {plan.segments} videos is there; the "
            f"first one wanted is {first.segment.video} ({first.detail}); name the folder of the "
            "videos with --videos"
        )

    def dry_run_text(self, plan: Plan) -> str:
        """Return the plan with the rows and bytes that it would cost."""
        return report.dry_run_text(plan, self.job)

    def run(
        self, plan: Plan, cluster: ClusterSpec, stall_seconds: float, command: Sequence[str]
    ) -> int:
        """Do what the plan found; return the exit status.

        Returns
        -------
        int
            0 when every segment is accounted for, 1 when work is left, 130 when interrupted.

        Raises
        ------
        UsageError
            When the store cannot be made, or the workers cannot be had.
        PipelineError
            Of any other kind when the run stopped early; its summary is written all the same.
        """
        bucket_of = self._prepare()
        progress = report.Progress(len(plan.items))
        summary = report.Summary(plan, progress, self.job)
        stopped: PipelineError | None = None
        try:
            if plan.items:
                driven = self._drive(plan, bucket_of, cluster, progress, stall_seconds)
                summary.interrupted = driven
        except UsageError:
            raise  # nothing ran
        except PipelineError as error:
            stopped, summary.stopped = error, str(error)
        finally:
            progress.close()
        self.say(summary.text())
        try:
            self.say(f"  report: {self._write(summary, command)}")
        except OSError as error:
            stopped = stopped or StoreError(
                f"{error.filename or self.job.out}: no report of this run could be written "
                f"({error.strerror}); what was extracted is safe, run the same command again"
            )
        if stopped is not None:
            raise stopped
        if summary.interrupted:
            self.say("interrupted: what was done is committed; run the same command to go on")
            return EXIT_INTERRUPTED
        return EXIT_WORK_LEFT if summary.left else EXIT_DONE

    def _prepare(self) -> Callable[[str], int]:
        if self.job.flow_only:
            return lambda key: 0
        store = Store.create(self.job.out, buckets_for(len(self.segments)))
        for target in self.job.targets:
            RecipeShards.create(self.job.out, target.recipe)
        return store.bucket

    def _drive(
        self,
        plan: Plan,
        bucket_of: Callable[[str], int],
        cluster: ClusterSpec,
        progress: report.Progress,
        stall_seconds: float,
    ) -> bool:
        drivers: list[Driver] = []

        def on_event(event: Event) -> None:
            for driver in drivers:
                driver.on_event(event)

        with open_pool(cluster, extract_batch, self.job, on_event) as pool:
            if pool.dashboard:
                progress.say(f"dashboard: {pool.dashboard}")
            driver = Driver(pool, self.job, progress, stall_seconds)
            drivers.append(driver)
            driver.run(make_batches(plan.items, bucket_of, pool.window()))
            return driver.interrupted

    def _write(self, summary: report.Summary, command: Sequence[str]) -> Path:
        """Write the files of the run; return its page."""
        about = {
            "path": str(self.manifest.path),
            "sha256": self.manifest.sha256,
            "dataset": self.manifest.dataset,
            "command": shlex.join(map(_shown, command)),
            "rejects": len(self.manifest.rejects),
        }
        folder = report.write_run(summary, about)
        coverage: dict[str, Any] = {}
        if self.manifest.rejects:
            manifests.write_rejects(folder / "rejects.csv", self.manifest.rejects)
        if not self.job.flow_only:
            coverage = report.write_state(self.segments, self.job, self._known())
            if self.manifest.classes:
                report.write_json(self.job.out / "classes.json", list(self.manifest.classes))
        page = folder / "report.html"
        report.write_page(page, {**summary.to_json(), "manifest": about}, coverage)
        return page


def _shown(argument: str) -> str:
    """Return a word of the command line without what a URL may hold of secrets."""
    return redacted(argument) if "//" in argument else argument


def _locator(sources: Sources, remote: bool) -> Callable[[Segment], Located | None]:
    """Return the plan-time look-up: local sources answer now, remote ones on a worker."""

    def locate(segment: Segment) -> Located | None:
        try:
            return sources.locate_on_disk(segment)
        except VideoMissing:
            if remote:
                return None
            raise

    return locate
