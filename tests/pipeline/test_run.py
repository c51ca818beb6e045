"""The driver against a pool that answers as it is told: order, blame, quarantine, stops."""

import os
import signal
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

import extractors
from manifests import Segment
from pipeline.errors import DiskFull, WorkersLost
from pipeline.job import Batch, Failed, Item, Job, Receipt, Settings, Target, make_recipe
from pipeline.monitor import Event
from pipeline.plan import make_batches
from pipeline.pool import Answer
from pipeline.run import Driver
from pipeline.store import RecipeShards, Store


@dataclass
class ScriptedPool:
    """Runs batches in order; a segment named in `deadly` takes the worker with it."""

    deadly: dict[str, int] = field(default_factory=dict)
    silent: bool = False
    rescues: bool = True
    dashboard: str = ""
    driver: Driver | None = None
    waiting: deque = field(default_factory=deque)
    submitted: list = field(default_factory=list)
    drained: bool = False
    most_in_flight: int = 0

    def window(self) -> int:
        return 3

    def submit(self, batch: Batch) -> None:
        self.submitted.append(batch)
        self.waiting.append(batch)
        self.most_in_flight = max(self.most_in_flight, len(self.waiting))

    def wait(self, seconds: float) -> list[Answer]:
        if not self.waiting:
            return []
        batch = self.waiting.popleft()
        done = []
        for item in batch.items:
            key = item.segment.key
            if not self.silent:
                self.driver.on_event(Event(batch.name, "started", key))
            if self.deadly.get(item.segment.video, 0) > 0:
                self.deadly[item.segment.video] -= 1
                return [Answer(batch, None)]
            if self.drained:
                break
            done.append(key)
        left = tuple(i.segment.key for i in batch.items)[len(done) :]
        return [Answer(batch, Receipt(batch=batch.name, done=tuple(done), failed=(), left=left))]

    def drain(self) -> None:
        self.drained = True

    def places(self) -> dict[str, str]:
        return {batch.name: "worker" for batch in self.waiting}

    def restart(self, batch: Batch) -> None:
        raise AssertionError("nothing hangs here")


@dataclass
class Heard:
    done: list = field(default_factory=list)
    failures: list = field(default_factory=list)
    lines: list = field(default_factory=list)

    def event(self, event: Event) -> None:
        pass

    def receipt(self, receipt: Receipt) -> None:
        self.done.extend(receipt.done)

    def failed(self, failed: Failed) -> None:
        self.failures.append(failed)

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    spec = extractors.spec("efficientnet-lite0").with_settings({"weights": "random"})
    settings = Settings()
    recipe = make_recipe(spec, settings)
    Store.create(tmp_path, 2)
    RecipeShards.create(tmp_path, recipe)
    return Job(out=tmp_path, targets=(Target(spec, recipe),), settings=settings, run="r")


def batches_of(job: Job, count: int) -> list[Batch]:
    items = [Item(Segment(video=f"v{n}", end_ms=10_000), None, (0,)) for n in range(count)]
    return list(make_batches(items, Store.open(job.out).bucket, slots=1))


def drive(job: Job, pool: ScriptedPool, count: int = 12) -> tuple[Driver, Heard]:
    heard = Heard()
    pool.driver = Driver(pool, job, heard)
    pool.driver.run(batches_of(job, count))
    return pool.driver, heard


def keys(*numbers: int) -> list[str]:
    return sorted(f"v{n}_000000_000010" for n in numbers)


def test_every_batch_is_run_once_and_few_are_in_flight(job: Job) -> None:
    pool = ScriptedPool()
    _, heard = drive(job, pool)
    assert sorted(heard.done) == keys(*range(12))
    assert pool.most_in_flight == 3


def test_a_segment_that_kills_its_worker_twice_alone_is_poison(job: Job) -> None:
    _, heard = drive(job, ScriptedPool(deadly={"v5": 99}))
    assert sorted(heard.done) == keys(*(set(range(12)) - {5}))
    assert [(f.key, f.code) for f in heard.failures] == [("v5_000000_000010", "poison")]
    recorded = RecipeShards.open(job.out, job.targets[0].recipe.folder).committed().failures
    assert recorded["v5_000000_000010"].code == "poison"


def test_a_worker_that_dies_once_costs_nobody_anything(job: Job) -> None:
    _, heard = drive(job, ScriptedPool(deadly={"v5": 2}))
    assert sorted(heard.done) == keys(*range(12))
    assert not heard.failures


def test_quarantine_runs_alone(job: Job) -> None:
    pool = ScriptedPool(deadly={"v5": 99, "v7": 99})
    _, heard = drive(job, pool)
    alone = [batch for batch in pool.submitted if batch.alone]
    assert all(len(batch.items) == 1 for batch in alone)
    assert {batch.items[0].segment.video for batch in alone} == {"v5", "v7"}
    assert pool.submitted[-len(alone) :] == alone
    assert len(heard.failures) == 2


def test_workers_that_die_before_they_begin_stop_the_run(job: Job) -> None:
    with pytest.raises(WorkersLost, match="--workers 0"):
        drive(job, ScriptedPool(deadly={f"v{n}": 99 for n in range(12)}, silent=True))


@pytest.mark.parametrize("heard_of", [True, False])
def test_a_silent_worker_is_restarted(
    job: Job, monkeypatch: pytest.MonkeyPatch, heard_of: bool
) -> None:
    class Hanging(ScriptedPool):
        """The batch that holds v1 never comes back by itself, and may not even be heard of."""

        def wait(self, seconds: float) -> list[Answer]:
            stuck = [b for b in self.waiting if any(i.segment.video == "v1" for i in b.items)]
            if not stuck:
                return super().wait(seconds)
            lost = [batch for batch in self.waiting if batch in restarted]
            if lost:
                self.waiting.clear()
                return [Answer(batch, None) for batch in lost]
            if heard_of and stuck[0].name not in begun:
                begun.add(stuck[0].name)
                self.driver.on_event(Event(stuck[0].name, "started", "v1_000000_000010"))
            clock[0] += 1.0
            return []

        def restart(self, batch: Batch) -> None:
            restarted.extend(self.waiting)  # a worker takes all its batches with it

    clock, restarted, begun = [0.0], [], set()
    monkeypatch.setattr("pipeline.run.time.monotonic", lambda: clock[0])
    heard = Heard()
    pool = Hanging()
    pool.driver = Driver(pool, job, heard, stall_seconds=10.0)
    pool.driver.run(batches_of(job, 6))
    assert [f.code for f in heard.failures] == ["poison"]
    assert sorted(heard.done) == keys(0, 2, 3, 4, 5)
    said = "v1_000000_000010" if heard_of else "batch "
    assert any(f"no sign of life on {said}" in line for line in heard.lines)


def test_what_a_closing_worker_hands_back_goes_on_elsewhere(job: Job) -> None:
    class Closing(ScriptedPool):
        """The first worker closes after one segment of its batch."""

        def wait(self, seconds: float) -> list[Answer]:
            if len(self.submitted) > 3:
                return super().wait(seconds)
            batch = self.waiting.popleft()
            first, *others = [item.segment.key for item in batch.items]
            receipt = Receipt(batch=batch.name, done=(first,), failed=(), left=tuple(others))
            return [Answer(batch, receipt)]

    heard = Heard()
    pool = Closing()
    pool.driver = Driver(pool, job, heard)
    items = [Item(Segment(video=f"v{n}", end_ms=10_000), None, (0,)) for n in range(12)]
    pool.driver.run([Batch(f"b{k}", 0, tuple(items[k : k + 4])) for k in (0, 4, 8)])
    assert sorted(heard.done) == keys(*range(12))


def test_workers_that_hand_everything_back_stop_the_run(job: Job) -> None:
    class Unwilling(ScriptedPool):
        def wait(self, seconds: float) -> list[Answer]:
            batch = self.waiting.popleft()
            left = tuple(item.segment.key for item in batch.items)
            return [Answer(batch, Receipt(batch=batch.name, done=(), failed=(), left=left))]

    with pytest.raises(WorkersLost):
        drive(job, Unwilling())


def test_a_receipt_is_taken_although_the_next_batch_breaks(job: Job) -> None:
    class Breaking(ScriptedPool):
        def wait(self, seconds: float) -> Iterator[Answer]:
            yield from super().wait(seconds)
            raise DiskFull("no room")

    heard = Heard()
    pool = Breaking()
    pool.driver = Driver(pool, job, heard)
    with pytest.raises(DiskFull):
        pool.driver.run(batches_of(job, 12))
    assert heard.done


def test_poison_needs_no_store_where_flow_alone_is_made(job: Job, tmp_path: Path) -> None:
    flow = replace(job, out=tmp_path / "cache", flow_only=True)
    heard = Heard()
    pool = ScriptedPool(deadly={"v5": 99})
    pool.driver = Driver(pool, flow, heard)
    pool.driver.run(batches_of(job, 12))
    assert [f.code for f in heard.failures] == ["poison"]


def test_a_batch_in_this_process_may_take_longer_than_workers_are_waited_for(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(ScriptedPool):
        def wait(self, seconds: float) -> list[Answer]:
            clock[0] += 1000.0
            return super().wait(seconds)

    clock = [0.0]
    monkeypatch.setattr("pipeline.run.time.monotonic", lambda: clock[0])
    _, heard = drive(job, Slow(rescues=False))
    assert len(heard.done) == 12


def test_workers_that_go_after_an_interrupt_are_waited_for(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of missing workers runs from their going, not from the interrupt."""

    class Leaving(ScriptedPool):
        def window(self) -> int:
            return 0 if clock[0] == 201.0 else 3

        def wait(self, seconds: float) -> list[Answer]:
            if not self.drained:
                os.kill(os.getpid(), signal.SIGINT)
            clock[0] += 100.5
            return [] if clock[0] < 300 else super().wait(seconds)

    clock = [0.0]
    monkeypatch.setattr("pipeline.run.time.monotonic", lambda: clock[0])
    driver, _ = drive(job, Leaving(rescues=False))
    assert driver.interrupted


def test_the_first_interrupt_drains_and_the_run_ends_softly(job: Job) -> None:
    class Interrupting(ScriptedPool):
        def wait(self, seconds: float) -> list[Answer]:
            if not self.drained:
                os.kill(os.getpid(), signal.SIGINT)
            return super().wait(seconds)

    pool = Interrupting()
    before = signal.getsignal(signal.SIGINT)
    driver, heard = drive(job, pool)
    assert driver.interrupted
    assert pool.drained
    assert len(pool.submitted) == 3
    assert len(heard.done) < 12
    assert signal.getsignal(signal.SIGINT) is before
