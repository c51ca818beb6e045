"""What the pool makes of a task's end, against a client that answers as it is told."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Status

from pipeline import monitor
from pipeline.dask_pool import RECEIPTS, DaskPool, WorkerSetup
from pipeline.errors import DiskFull, WorkersLost
from pipeline.job import Batch, Job, Receipt, Settings

JOB = Job(out=None, targets=(), settings=Settings(), run="r")


@dataclass(eq=False)
class Task:
    key: str
    status: str = "pending"
    error: BaseException | None = None

    def add_done_callback(self, call: Any) -> None:
        self.done = lambda: call(self)

    def exception(self) -> BaseException | None:
        return self.error

    def release(self) -> None:
        self.status = "cancelled"


@dataclass
class Client:
    dashboard_link: str = ""
    tasks: dict[str, Task] = field(default_factory=dict)
    heard: dict[str, Any] = field(default_factory=dict)

    def register_plugin(self, plugin: object) -> None:
        pass

    def subscribe_topic(self, topic: str, call: Any) -> None:
        self.heard[topic] = call

    def submit(self, *_: object, key: str, **__: object) -> Task:
        return self.tasks.setdefault(key, Task(key))


def ended(status: str, receipt: bool, error: BaseException | None = None) -> DaskPool:
    """A pool whose one batch ended so, with or without its receipt."""
    client = Client()
    pool = DaskPool(client, lambda *_: None, JOB, lambda _: None)
    pool.submit(Batch("b", 0, ()))
    (task,) = client.tasks.values()
    if receipt:
        plain = Receipt(batch="b", done=("k",), failed=()).to_plain()
        client.heard[RECEIPTS]((0.0, {"key": task.key, "receipt": plain}))
    task.status, task.error = status, error
    task.done()
    return pool


@pytest.mark.parametrize("status", ["finished", "lost", "cancelled", "pending"])
def test_a_receipt_counts_even_if_its_worker_died_since(status: str) -> None:
    (answer,) = ended(status, receipt=True).wait(0.1)
    assert answer.receipt is not None
    assert answer.receipt.done == ("k",)


def test_without_a_receipt_the_batch_is_lost() -> None:
    (answer,) = ended("cancelled", receipt=False).wait(0.1)
    assert answer.receipt is None


def test_what_a_worker_raised_is_raised_here() -> None:
    with pytest.raises(DiskFull, match="no room"):
        list(ended("error", receipt=False, error=DiskFull("no room")).wait(0.1))


def test_nothing_back_is_nothing() -> None:
    pool = DaskPool(Client(), lambda *_: None, JOB, lambda _: None)
    assert list(pool.wait(0.01)) == []


def test_a_scheduler_that_is_gone_ends_the_run_with_a_sentence() -> None:
    class Gone(Client):
        def nthreads(self) -> dict[str, int]:
            raise OSError("Timed out trying to connect to tcp://127.0.0.1:8786 after 30 s")

    pool = DaskPool(Gone(), lambda *_: None, JOB, lambda _: None)
    with pytest.raises(WorkersLost, match="start the scheduler"):
        pool.window()


@pytest.mark.parametrize(
    ("status", "stops"),
    [(Status.running, False), (Status.paused, False), (Status.closing, True)],
)
def test_only_a_closing_worker_stops_what_it_runs(
    status: Status, stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin is also taken down when another run joins the cluster with its own."""
    monkeypatch.setattr(monitor, "_stopping", set())
    WorkerSetup().teardown(SimpleNamespace(status=status))
    assert monitor.stop_requested("any run") is stops
