"""Where batches run: in this process, on workers started for the run, or on a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from pipeline.job import Batch, Job
from pipeline.monitor import Monitor, allow, request_stop
from pipeline.pool import Answer, ClusterSpec, Extract, OnEvent, Pool


@contextmanager
def open_pool(spec: ClusterSpec, extract: Extract, job: Job, on_event: OnEvent) -> Iterator[Pool]:
    """Start or join the workers of a run, and leave nothing behind.

    Raises
    ------
    UsageError
        When the scheduler cannot be reached or its workers run another release.
    """
    if not spec.scheduler and not spec.gpus and spec.workers == 0:
        yield InProcessPool(extract, job, on_event)
        return
    from pipeline.dask_pool import DaskPool, connected

    with connected(spec) as client:
        yield DaskPool(client, extract, job, on_event)


class InProcessPool:
    """Runs each batch in this process when it is waited for; for debugging, without rescue."""

    dashboard = ""
    rescues = False

    def __init__(self, extract: Extract, job: Job, on_event: OnEvent) -> None:
        self._extract, self._job, self._on_event = extract, job, on_event
        self._waiting: list[Batch] = []
        allow(job.run)

    def window(self) -> int:
        """Return 1: there is one process."""
        return 1

    def submit(self, batch: Batch) -> None:
        """Keep a batch until it is waited for."""
        self._waiting.append(batch)

    def wait(self, seconds: float) -> Iterable[Answer]:
        """Run what was submitted."""
        batches, self._waiting = self._waiting, []
        for batch in batches:
            monitor = Monitor(batch.name, self._on_event)
            yield Answer(batch, self._extract(self._job, batch, monitor))

    def drain(self) -> None:
        """Let the running batch stop after the segment in hand."""
        request_stop(self._job.run)

    def places(self) -> Mapping[str, str]:
        """Return nothing: there are no workers."""
        return {}

    def restart(self, batch: Batch) -> None:
        """Refuse: this process cannot replace itself."""
        raise AssertionError("an in-process pool cannot restart itself")


def default_workers(threads: int) -> int:
    """Return as many workers of so many threads as this process has processors for."""
    return max(1, len(os.sched_getaffinity(0)) // threads)
