"""What the driver knows of the place where batches run: a `Pool`, opened from a `ClusterSpec`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pipeline.job import Batch, Job, Receipt
from pipeline.monitor import Event, Monitor

DASHBOARD_PORT = 8787

Extract = Callable[[Job, Batch, Monitor], Receipt]
OnEvent = Callable[[Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """Where to run.

    Attributes
    ----------
    workers : int
        Worker processes to start on this machine; 0 runs everything in this process.
    threads : int
        Threads of each worker's numeric libraries.
    gpus : int
        Start one worker per GPU, pinned to it, instead of `workers`.
    scheduler : str
        Address of an existing scheduler (``tcp://``, ``tls://``), or ``file:PATH`` of a
        scheduler file; workers are then not ours to start.
    dashboard_port : int
        Port wanted for the dashboard on 127.0.0.1; another is taken when it is in use.
    """

    workers: int = 1
    threads: int = 1
    gpus: int = 0
    scheduler: str = ""
    dashboard_port: int = DASHBOARD_PORT


@dataclass(frozen=True, slots=True)
class Answer:
    """How a batch came back.

    Attributes
    ----------
    batch : Batch
        The batch.
    receipt : Receipt or None
        What was committed; None when its worker was lost.
    """

    batch: Batch
    receipt: Receipt | None


class Pool(Protocol):
    """Something that runs batches.

    Attributes
    ----------
    dashboard : str
        Address of the dashboard, empty when there is none.
    rescues : bool
        Whether a worker that hangs or dies can be replaced.
    """

    dashboard: str
    rescues: bool

    def window(self) -> int:
        """How many batches should be in flight now."""
        ...

    def submit(self, batch: Batch) -> None:
        """Take a batch."""
        ...

    def wait(self, seconds: float) -> Iterable[Answer]:
        """Give each batch that came back, after at most `seconds` when there is none.

        What a batch raised is raised in its turn, so that those before it are not lost.
        """
        ...

    def drain(self) -> None:
        """Ask every running batch to finish the segment in hand, commit, and come back.

        Called by a signal handler: it must not wait, least of all for a worker that hangs.
        """
        ...

    def places(self) -> Mapping[str, str]:
        """Return the worker of each batch in flight that has one, by the batch's name."""
        ...

    def restart(self, batch: Batch) -> None:
        """End the worker that a batch hangs on; the batch comes back as lost."""
        ...
