"""Where batches run: in this process, on workers started for the run, or on a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pipeline.job import Batch, Job
from pipeline.monitor import Monitor, stop_requested
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
        stop_requested.clear()

    def window(self) -> int:
        """Return 1: there is one process."""
        return 1

    def submit(self, batch: Batch) -> None:
        """Keep a batch until it is waited for."""
        self._waiting.append(batch)

    def wait(self, seconds: float) -> list[Answer]:
        """Run what was submitted."""
        batches, self._waiting = self._waiting, []
        return [
            Answer(batch, self._extract(self._job, batch, Monitor(batch.name, self._on_event)))
            for batch in batches
        ]

    def drain(self) -> None:
        """Let the running batch stop after the segment in hand."""
        stop_requested.set()

    def places(self) -> Mapping[str, str]:
        """Return nothing: there are no workers."""
        return {}

    def restart(self, batch: Batch) -> None:
        """Refuse: this process cannot replace itself."""
        raise AssertionError("an in-process pool cannot restart itself")


def default_workers() -> int:
    """Return one worker for each processor this process may use."""
    return len(os.sched_getaffinity(0))
