"""What a running batch tells the outside: time per activity, signs of life, and when to stop.

`Monitor` works in this process; `pipeline.dask_pool` has one that also speaks to Dask. A batch only
ever sees this interface, so the same functions run under both.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

SECONDS_BETWEEN_SIGNS_OF_LIFE = 2.0

EVERY_RUN = ""

_stopping: set[str] = set()


def request_stop(run: str = EVERY_RUN) -> None:
    """Ask the batches of a run in this process to finish the segment in hand, commit, and return.

    A worker of a shared cluster serves several runs; a Ctrl-C is meant for one of them.
    """
    _stopping.add(run)


def stop_requested(run: str) -> bool:
    """Whether the batches of a run should come to an end in this process."""
    return run in _stopping or EVERY_RUN in _stopping


def allow(run: str) -> None:
    """Take back a request to stop, for a run that begins (again) in this process."""
    _stopping.discard(run)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing a batch tells the driver.

    Attributes
    ----------
    batch : str
        Name of the batch.
    kind : {"started", "alive", "done", "failed"}
        What happened to `segment`.
    segment : str
        Key of the segment in hand.
    frames : int
        Frames sampled since the batch's last event.
    """

    batch: str
    kind: Literal["started", "alive", "done", "failed"]
    segment: str
    frames: int = 0


class Monitor:
    """Counts and clocks of one batch.

    Parameters
    ----------
    batch : str
        Name of the batch.
    publish : callable
        Takes each `Event`.
    """

    def __init__(self, batch: str, publish: Callable[[Event], None]) -> None:
        self.batch = batch
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.counts: Counter[str] = Counter()
        self._publish = publish
        self._segment = ""
        self._frames = 0
        self._last_sign = time.monotonic()

    @contextmanager
    def meter(self, activity: str) -> Iterator[None]:
        """Add the time spent inside the block to `activity`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[activity] += time.perf_counter() - began

    def count(self, what: str, number: int = 1) -> None:
        """Add to a counter; sampled frames also drive the progress line."""
        self.counts[what] += number
        if what == "frames":
            self._frames += number

    def started(self, segment: str) -> None:
        """Say that a segment begins."""
        self._segment = segment
        self._send("started")

    def alive(self) -> None:
        """Say, at most every few seconds, that a frame, a flow or a network call came through."""
        if time.monotonic() - self._last_sign >= SECONDS_BETWEEN_SIGNS_OF_LIFE:
            self._send("alive")

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Give signs of life during a wait that has a deadline of its own, such as a download."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(SECONDS_BETWEEN_SIGNS_OF_LIFE):
                self._send("alive")

        thread = threading.Thread(target=beat, name="signs-of-life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def ended(self, segment: str, failed: bool) -> None:
        """Say that a segment has its vectors, or its failure."""
        self._segment = segment
        self._send("failed" if failed else "done")

    def _send(self, kind: Literal["started", "alive", "done", "failed"]) -> None:
        self._last_sign = time.monotonic()
        frames, self._frames = self._frames, 0
        self._publish(Event(self.batch, kind, self._segment, frames))
