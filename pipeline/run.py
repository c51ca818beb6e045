"""The driver: keeps a window of batches in flight, collects receipts, and rescues what is stuck.

Order of blame: a batch whose worker died or hung is split. The segment that was in hand is the
suspect and goes to the quarantine lane; the others go back as a batch of their own. In quarantine
a segment runs alone, with nothing else in flight, and only one that fails its worker twice there
is `Poison`. No death of a worker is ever booked on a segment that merely waited beside it.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Protocol

from pipeline.errors import Poison, WorkersLost
from pipeline.job import Batch, Failed, Item, Job, Receipt
from pipeline.monitor import Event
from pipeline.outcome import described
from pipeline.pool import Answer, Pool
from pipeline.store import FailureRow, RecipeShards

STALL_SECONDS = 300.0
"""No frame, flow or network call came through for so long: the worker hangs."""
SECONDS_TO_START = 20.0
"""A worker that never spoke may still be importing torch, from a slow disk or on a busy machine."""
POLL_SECONDS = 0.25
DEATHS_ALONE = 2
DEATHS_UNHEARD = 2
DEATHS_BEFORE_START = 8
SECONDS_WITHOUT_WORKERS = 120.0


class Listener(Protocol):
    """Who is told what happens: the progress line, and tests."""

    def event(self, event: Event) -> None:
        """Take a sign of life of a batch."""
        ...

    def receipt(self, receipt: Receipt) -> None:
        """Take what a worker committed."""
        ...

    def failed(self, failed: Failed) -> None:
        """Take a failure that the driver itself recorded."""
        ...

    def say(self, text: str) -> None:
        """Show one line to the user."""
        ...


@dataclass(slots=True)
class _Life:
    """What is known of a batch in flight."""

    batch: Batch
    heard: float
    segment: str = ""


@dataclass(slots=True)
class Driver:
    """Runs batches on a pool until all are accounted for, or a stop is asked for.

    Attributes
    ----------
    pool : Pool
        Where batches run.
    job : Job
        For recording failures of segments that no worker survived.
    listener : Listener
        Told of everything.
    stall_seconds : float
        Silence after which a worker is taken to hang.
    interrupted : bool
        True once a stop was asked for.
    """

    pool: Pool
    job: Job
    listener: Listener
    stall_seconds: float = STALL_SECONDS
    interrupted: bool = False
    _lives: dict[str, _Life] = field(default_factory=dict)
    _again: deque[Batch] = field(default_factory=deque)
    _quarantine: deque[Batch] = field(default_factory=deque)
    _deaths: dict[str, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _splits: int = 0
    _deaths_before_start: int = 0
    _workers_seen: float = field(default_factory=time.monotonic)

    def on_event(self, event: Event) -> None:
        """Take an event of any worker; may be called from another thread."""
        with self._lock:
            life = self._lives.get(event.batch)
            if life is not None:
                life.heard = time.monotonic()
                life.segment = event.segment
            self._deaths_before_start = 0
        self.listener.event(event)

    def run(self, batches: Iterable[Batch]) -> None:
        """Submit every batch, a few ahead of the workers, until all came back.

        Raises
        ------
        WorkersLost
            When workers die before their first segment, or none appears.
        """
        waiting = iter(batches)
        with self._interruptible():
            while self._refill(waiting) or self._lives:
                for answer in self.pool.wait(POLL_SECONDS):
                    self._take(answer)
                self._watch()

    def _refill(self, waiting: Iterator[Batch]) -> bool:
        """Submit up to the window; return whether anything was submitted."""
        window = self._slots()
        if self.interrupted:
            return False
        before = len(self._lives)
        while len(self._lives) < max(1, window):
            batch = self._next(waiting)
            if batch is None:
                break
            with self._lock:
                self._lives[batch.name] = _Life(batch, time.monotonic())
            self.pool.submit(batch)
        return len(self._lives) > before

    def _slots(self) -> int:
        """Return how many batches the pool wants in flight, and note when it last wanted any."""
        window = self.pool.window()
        if window:
            self._workers_seen = time.monotonic()
        return window

    def _next(self, waiting: Iterator[Batch]) -> Batch | None:
        """Return what to submit next; a quarantined segment only when nothing else is there."""
        if any(life.batch.alone for life in self._lives.values()):
            return None
        if self._again:
            return self._again.popleft()
        batch = next(waiting, None)
        if batch is None and self._quarantine and not self._lives:
            return self._quarantine.popleft()
        return batch

    def _take(self, answer: Answer) -> None:
        with self._lock:
            life = self._lives.pop(answer.batch.name)
        if answer.receipt is None:
            if not self.interrupted:
                self._split(answer.batch, life.segment)
            return
        self.listener.receipt(answer.receipt)
        if answer.receipt.left and not self.interrupted:
            self._resume(answer.batch, answer.receipt)

    def _resume(self, batch: Batch, receipt: Receipt) -> None:
        """Queue what a worker handed back because it closes, not because the run ends."""
        if not receipt.done and not receipt.failed:
            self._count_death()
        left = set(receipt.left)
        items = tuple(item for item in batch.items if item.segment.key in left)
        self._again.append(replace(batch, name=self._renamed(batch), items=items))

    def _split(self, batch: Batch, suspect: str) -> None:
        """Deal with a batch whose worker was lost."""
        if batch.alone:
            self._alone_again(batch, suspect)
        elif suspect:
            self.listener.say(
                f"a worker was lost on {suspect}; it goes on alone, the rest of its batch as before"
            )
            self._put_back(batch, [item for item in batch.items if item.segment.key == suspect])
        elif self._lost_unheard(batch):
            self._put_back(batch, batch.items)
        else:
            self._put_back(batch, [])

    def _put_back(self, batch: Batch, blamed: Sequence[Item]) -> None:
        """Queue the blamed segments of a batch alone, and the others as a batch of their own."""
        for item in blamed:
            name = f"q{batch.bucket:05d}-{self._bump()}"
            self._quarantine.append(Batch(name, batch.bucket, (item,), alone=True))
        others = tuple(item for item in batch.items if item not in blamed)
        if others:
            self._again.append(replace(batch, name=self._renamed(batch), items=others))

    def _lost_unheard(self, batch: Batch) -> bool:
        """Count a loss without a sign of life; return whether it is this batch's second.

        A decoder that hangs at once, with the interpreter's lock held, stops even the message that
        its segment began. The first such loss may be a neighbour's fault.
        """
        self._count_death()
        origin = batch.name.partition("~")[0]
        self._deaths[origin] = self._deaths.get(origin, 0) + 1
        return self._deaths[origin] >= DEATHS_UNHEARD

    def _count_death(self) -> None:
        self._deaths_before_start += 1
        if self._deaths_before_start >= DEATHS_BEFORE_START:
            raise WorkersLost(
                f"workers were lost {DEATHS_BEFORE_START} times in a row before they began a "
                "segment; memory may be short, or a library fails to load: try --workers 0 to see "
                "the error itself"
            )

    def _alone_again(self, batch: Batch, suspect: str) -> None:
        if not suspect:
            self._count_death()
        item = batch.items[0]
        key = item.segment.key
        self._deaths[key] = self._deaths.get(key, 0) + 1
        if self._deaths[key] < DEATHS_ALONE:
            self._quarantine.append(replace(batch, name=self._renamed(batch)))
            return
        failure = Poison(
            f"it ended or hung its worker {DEATHS_ALONE} times while it ran alone; look at the "
            "file, or leave it out"
        )
        self._record(batch.bucket, item, failure)
        self.listener.failed(Failed(key, failure.code, failure.detail))

    def _record(self, bucket: int, item: Item, failure: Poison) -> None:
        """Commit a failure row that no worker lived to commit."""
        if self.job.flow_only:
            return  # there is no store
        located = item.located
        row = FailureRow(
            **described(item.segment),
            code=failure.code,
            detail=failure.detail,
            attempts=item.attempts + 1,
            source_size=located.size if located else 0,
            source_mtime_ns=located.mtime_ns if located else 0,
        )
        for number in item.targets:
            folder = self.job.targets[number].recipe.folder
            RecipeShards.open(self.job.out, folder).commit(bucket, [], [row], {"run": self.job.run})

    def _renamed(self, batch: Batch) -> str:
        return f"{batch.name.partition('~')[0]}~{self._bump()}"

    def _bump(self) -> int:
        self._splits += 1
        return self._splits

    def _watch(self) -> None:
        """Restart workers that fell silent; give up when there are no workers."""
        now = time.monotonic()
        if now - self._workers_seen > SECONDS_WITHOUT_WORKERS and not self._slots():
            raise WorkersLost(
                f"no worker for {SECONDS_WITHOUT_WORKERS:g} s; start some, then run again"
            )
        if self.pool.rescues:
            for life in self._hanging(now):
                where = life.segment or f"batch {life.batch.name}"
                self.listener.say(
                    f"no sign of life on {where} for {self._patience([life]):g} s; "
                    "its worker is restarted"
                )
                self.pool.restart(life.batch)

    def _hanging(self, now: float) -> list[_Life]:
        """Return one batch of each worker of whose batches none has been heard for too long.

        A batch may wait in silence behind another one of its worker, but not behind a silent one.
        """
        with self._lock:
            lives = list(self._lives.values())
        if all(now - life.heard <= self.stall_seconds for life in lives):
            return []  # nobody needs to be asked who runs where
        places = self.pool.places()
        workers: dict[str, list[_Life]] = {}
        for life in lives:
            if life.batch.name in places:
                workers.setdefault(places[life.batch.name], []).append(life)
        found = []
        for group in workers.values():
            if all(now - life.heard > self._patience(group) for life in group):
                found.append(next((life for life in group if life.segment), group[0]))
                for life in group:
                    life.heard = now
        return found

    def _patience(self, group: list[_Life]) -> float:
        """Longest silence of a worker, by what is known of its batches."""
        has_spoken = any(life.segment for life in group)
        return self.stall_seconds if has_spoken else max(self.stall_seconds, SECONDS_TO_START)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Turn the first Ctrl-C (or SIGTERM) into a soft stop; a second one ends at once.

        The handler runs between any two instructions of this thread, which may hold `_lock` just
        then: it waits for nobody.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: FrameType | None) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
            self.listener.say(
                "stopping: the segment in hand is finished and committed; Ctrl-C again ends at once"
            )
            self.pool.drain()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
