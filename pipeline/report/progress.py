"""What came back of a run so far: its tallies, and one line that shows them."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from typing import Any, TextIO

from pipeline.job import Failed, Receipt
from pipeline.monitor import Event
from pipeline.report.quantities import duration

SECONDS_BETWEEN_LOG_LINES = 30.0
EXAMPLES_KEPT = 5
"""Failures of each code that are kept for the summary; the store holds all of them."""


class Progress:
    """One line that moves on a terminal, one line now and then in a log file.

    Parameters
    ----------
    total : int
        Segments to do.
    stream : text file
        Where to write; standard error by default.

    Attributes
    ----------
    done, rows, bytes : int
        Segments, rows and bytes that were committed.
    codes : Counter of str
        Segments that failed, by code.
    examples : dict of str to list of Failed
        The first few failures of each code.
    seconds, counts : Counter of str
        Time of the workers by activity; frames, flows and windows.
    shards : list of str
        Files that were written, relative to the store.
    """

    def __init__(self, total: int, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._total = total
        self.done = self.rows = self.bytes = 0
        self.codes: Counter[str] = Counter()
        self.examples: defaultdict[str, list[Failed]] = defaultdict(list)
        self.seconds: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.shards: list[str] = []
        self._frames = self._finished = self._failed = 0
        self._began = self._last_line = time.monotonic()
        self._ended: float | None = None
        self._bar: Any = None
        if total and self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit=" segments", file=self._stream, dynamic_ncols=True)

    def event(self, event: Event) -> None:
        """Count frames and finished segments, and show them."""
        self._frames += event.frames
        if event.kind in ("done", "failed"):
            self._count(event.kind == "failed")
        self._show()

    def _count(self, failed: bool) -> None:
        self._finished += 1
        self._failed += failed
        if self._bar is not None:
            self._bar.update(1)

    def receipt(self, receipt: Receipt) -> None:
        """Add up what was committed."""
        self.done += len(receipt.done)
        self.rows += receipt.rows
        self.bytes += receipt.bytes
        self.shards += receipt.shards
        for failed in receipt.failed:
            self._keep(failed)
        for activity, seconds in receipt.seconds.items():
            self.seconds[activity] += seconds  # type: ignore[assignment]
        self.counts.update(receipt.counts)

    def failed(self, failed: Failed) -> None:
        """Add a failure that the driver recorded."""
        self._keep(failed)
        self._count(failed=True)

    def _keep(self, failed: Failed) -> None:
        self.codes[failed.code] += 1
        if len(self.examples[failed.code]) < EXAMPLES_KEPT:
            self.examples[failed.code].append(failed)

    def say(self, text: str) -> None:
        """Write one line without breaking the moving one."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """End the moving line, and the clock."""
        self._ended = time.monotonic()
        if self._bar is not None:
            self._bar.close()

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the run began, until `close`."""
        return (self._ended or time.monotonic()) - self._began

    def _show(self) -> None:
        rate = self._frames / max(self.elapsed_seconds, 1e-9)
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._failed} failed, {rate:.3g} frames/s", refresh=False)
            return
        now = time.monotonic()
        if now - self._last_line < SECONDS_BETWEEN_LOG_LINES:
            return
        self._last_line = now
        # A segment whose worker died after it counts twice: the line must not show less than none.
        left = max(0, self._total - self._finished)
        ahead = self.elapsed_seconds / max(self._finished, 1) * left
        self.say(
            f"{time.strftime('%H:%M:%S')} {self._finished}/{self._total} segments, "
            f"{self._failed} failed, {rate:.3g} frames/s, about {duration(ahead)} left"
        )
