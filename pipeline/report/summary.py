"""What was to do and what came of it, in words and as plain JSON values."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.job import Job
from pipeline.plan import Plan
from pipeline.provenance import hardware, versions
from pipeline.report.progress import Progress
from pipeline.report.quantities import duration, size
from pipeline.store.flow_cache import bytes_per_hour


def plan_text(plan: Plan, job: Job) -> str:
    """Return what the plan found, one line for each extractor."""
    lines = [f"{plan.segments} segments: {plan.present} with a video, {len(plan.absent)} without"]
    for target, counts in zip(job.targets, plan.counts, strict=True):
        parts = [f"{counts.done} done", f"{counts.todo} to do"]
        notes = {
            "failed before and given up (--retry-failed tries again)": counts.given_up,
            "tried again": counts.retried,
            "with a replaced video": counts.replaced,
        }
        parts += [f"{number} {note}" for note, number in notes.items() if number]
        lines.append(f"  {target.recipe.folder}: {', '.join(parts)}")
    return "\n".join(lines)


def dry_run_text(plan: Plan, job: Job) -> str:
    """Return the rows and bytes that the plan will cost."""
    lines = []
    for target, counts in zip(job.targets, plan.counts, strict=True):
        unknown = f", and {counts.open_ended} of unknown length" if counts.open_ended else ""
        lines.append(f"  {target.spec.name}: {counts.expected_rows} rows expected{unknown}")
    expected = plan.expected_bytes(job.targets, job.settings.store_dtype)
    return "\n".join([*lines, f"  {size(expected)} expected"])


@dataclass(slots=True)
class Summary:
    """The end of a run: what was done, and what was not.

    Attributes
    ----------
    plan : Plan
        What was to do.
    progress : Progress
        What came back.
    job : Job
        The run.
    interrupted : bool
        Whether a stop was asked for.
    stopped : str
        The error that ended the run early; empty when none did.
    """

    plan: Plan
    progress: Progress
    job: Job
    interrupted: bool = False
    stopped: str = ""
    _absent: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        self._absent = Counter(absent.code for absent in self.plan.absent)

    @property
    def failed(self) -> int:
        """Segments that have a failure instead of vectors, by this run."""
        return self.progress.codes.total()

    @property
    def left(self) -> int:
        """Segments to do that have neither vectors nor a failure."""
        return max(0, len(self.plan.items) - self.progress.done - self.failed)

    def text(self) -> str:
        """Return the summary for people."""
        progress = self.progress
        if not self.plan.items:
            return f"nothing to do; {len(self.plan.absent)} segments are without a video"
        lines = [
            f"{progress.done} segments done, {self.failed} failed, {self.left} left, "
            f"{len(self.plan.absent)} without a video; {progress.rows} rows, "
            f"{size(progress.bytes)} in {duration(progress.elapsed_seconds)}"
        ]
        busy = sum(progress.seconds.values())
        if busy:
            shares = [f"{name} {s / busy:.0%}" for name, s in progress.seconds.most_common()]
            lines.append(f"  worker time: {', '.join(shares)}")
        if progress.counts["flow_bytes"]:
            lines.append(f"  {self._flow_text()}")
        for code, number in progress.codes.most_common():
            example = progress.examples[code][0]
            first = ", the first" if number > 1 else ""
            lines.append(f"  {number} x {code}{first}: {example.key}: {example.detail}")
        if self.failed > len(progress.codes):
            lines.append(f"  all of them: {self.job.out / 'failures.csv'}")
        return "\n".join(lines)

    def _flow_text(self) -> str:
        counts = self.progress.counts
        flows = counts["flows"] - counts["cached_flows"]
        rates = {t.spec.sampling.fps for t in self.job.targets if t.spec.modality == "flow"}
        text = f"{flows} flows kept in {size(counts['flow_bytes'])}"
        if len(rates) == 1 and None not in rates:
            fps = float(rates.pop() or 0)
            hour = bytes_per_hour(counts["flow_bytes"], flows, fps)
            text += f", {size(hour)} an hour of video at {fps:g} fps"
        return text

    def to_json(self) -> dict[str, Any]:
        """Return the summary as plain JSON values."""
        progress, settings = self.progress, self.job.settings
        targets = self.job.targets
        return {
            "run": self.job.run,
            "segments": self.plan.segments,
            "to_do": len(self.plan.items),
            "done": progress.done,
            "failed": dict(progress.codes),
            "failed_examples": {c: [asdict(f) for f in fs] for c, fs in progress.examples.items()},
            "left": self.left,
            "without_video": len(self.plan.absent),
            "absent": dict(self._absent),
            "interrupted": self.interrupted,
            "stopped": self.stopped,
            "rows": progress.rows,
            "bytes": progress.bytes,
            "shards": progress.shards,
            "elapsed_seconds": round(progress.elapsed_seconds, 3),
            "worker_seconds": {name: round(s, 3) for name, s in progress.seconds.items()},
            "counts": dict(progress.counts),
            "recipes": [target.recipe.folder for target in targets],
            "digests": {target.recipe.folder: target.recipe.digest for target in targets},
            "planned": {
                target.recipe.folder: asdict(counts)
                for target, counts in zip(targets, self.plan.counts, strict=True)
            },
            "settings": {
                "device": settings.device,
                "precision": settings.precision,
                "threads": settings.threads,
            },
            "versions": versions(),
            "hardware": hardware(),
        }
