"""One run of ``extract``, from the plan to the report, and its exit status."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import manifests
from manifests import Manifest, Segment
from pipeline import report
from pipeline.cluster import open_pool
from pipeline.errors import DiskFull, SegmentFailure, UsageError
from pipeline.flow_caching import open_cache
from pipeline.job import Job, Target
from pipeline.monitor import Event
from pipeline.plan import Plan, make_batches, make_plan
from pipeline.pool import ClusterSpec
from pipeline.run import Driver
from pipeline.sources import Located, Sources
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
            self.say(
                f"{self.manifest.path}: {len(self.manifest.rejects)} rows refused, first: "
                f"{self.manifest.rejects[0].where}: {self.manifest.rejects[0].found}"
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
        segment, failure = plan.absent[0]
        return (
            f"--videos {' '.join(sources.texts)}: not one of {plan.segments} videos is there; the "
            f"first one wanted is {segment.video} ({failure.detail}); name the folder of the "
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
        """
        bucket_of = self._prepare()
        progress = report.Progress(len(plan.items))
        interrupted = False
        summary = report.Summary(plan, progress, self.job)
        if plan.items:
            try:
                interrupted = self._drive(plan, bucket_of, cluster, progress, stall_seconds)
            except DiskFull as full:
                summary.notes.append(f"error: {full}")
            finally:
                progress.close()
        summary.interrupted = interrupted
        self._write(summary, command)
        self.say(summary.text())
        if interrupted:
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
                self.say(f"dashboard: {pool.dashboard}")
            driver = Driver(pool, self.job, progress, stall_seconds)
            drivers.append(driver)
            driver.run(make_batches(plan.items, bucket_of, pool.window()))
            return driver.interrupted

    def _write(self, summary: report.Summary, command: Sequence[str]) -> None:
        about = {
            "path": str(self.manifest.path),
            "sha256": self.manifest.sha256,
            "dataset": self.manifest.dataset,
            "command": " ".join(command),
        }
        folder = report.write_run(summary, about)
        if self.manifest.rejects:
            manifests.write_rejects(folder / "rejects.csv", self.manifest.rejects)
        if not self.job.flow_only:
            report.write_state(self.segments, self.job, self._known())
            if self.manifest.classes:
                report.write_json(self.job.out / "classes.json", list(self.manifest.classes))


def _locator(sources: Sources, remote: bool) -> Callable[[Segment], Located | None]:
    """Return the plan-time look-up: local sources answer now, remote ones on a worker."""

    def locate(segment: Segment) -> Located | None:
        try:
            return sources.locate_on_disk(segment)
        except SegmentFailure:
            if remote:
                return None
            raise

    return locate
