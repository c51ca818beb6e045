"""Where batches run: in this process, on workers started for the run, or on a Dask cluster.

One `ClusterSpec` opens one `Pool`; the driver knows nothing else. Dask carries control only:
paths and settings go out, receipts come back. It may run a batch twice and may lose a worker; a
lost batch is an answer (`Answer.lost`), never an exception, and never blamed on its videos here.

Nothing listens beyond loopback unless an address says so.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline import __version__
from pipeline.errors import UsageError
from pipeline.job import NUMERICS_VERSION, Batch, Job, Receipt
from pipeline.monitor import Event, Monitor, stop_requested

DASHBOARD_PORT = 8787
SECONDS_TO_CONNECT = 30
TOPIC = "pipeline"
QUARANTINE_PRIORITY = -10

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

    @property
    def lost(self) -> bool:
        """Whether the worker died or was restarted under the batch."""
        return self.receipt is None


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

    def wait(self, seconds: float) -> list[Answer]:
        """Return the batches that came back, after at most `seconds` when there is none."""
        ...

    def drain(self) -> None:
        """Ask every running batch to finish the segment in hand, commit, and come back."""
        ...

    def restart(self, batch: Batch) -> None:
        """End the worker that a batch hangs on; the batch comes back as lost."""
        ...


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
    with ExitStack() as stack:
        client = stack.enter_context(_client(spec))
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

    def restart(self, batch: Batch) -> None:
        """Refuse: this process cannot replace itself."""
        raise AssertionError("an in-process pool cannot restart itself")


class DaskPool:
    """Runs batches as Dask tasks, one task each."""

    rescues = True

    def __init__(self, client: Any, extract: Extract, job: Job, on_event: OnEvent) -> None:
        self._client = client
        self._extract, self._job = extract, job
        self._futures: dict[str, Any] = {}
        self._answers: queue.SimpleQueue[tuple[Batch, Any]] = queue.SimpleQueue()
        self._attempt = 0
        self.dashboard = client.dashboard_link
        client.register_plugin(_worker_setup())
        client.subscribe_topic(TOPIC, lambda event: on_event(Event(**event[1])))

    def window(self) -> int:
        """One and a half batches per slot, so that no worker waits for the driver."""
        slots = sum(self._client.nthreads().values())
        return slots + (slots + 1) // 2

    def submit(self, batch: Batch) -> None:
        """Send a batch as one task; a new attempt is a new task."""
        from distributed import span

        self._attempt += 1
        with span("extract", *(target.spec.name for target in self._job.targets)):
            future = self._client.submit(
                _run_on_worker,
                self._extract,
                self._job,
                batch,
                key=f"extract-{self._job.run}-{batch.name}-a{self._attempt}",
                priority=QUARANTINE_PRIORITY if batch.alone else 0,
                pure=False,
                retries=0,
            )
        self._futures[batch.name] = future
        future.add_done_callback(lambda done: self._answers.put((batch, done)))

    def wait(self, seconds: float) -> list[Answer]:
        """Return every batch that is back; a worker's own exception is raised here."""
        found: list[Answer] = []
        try:
            found.extend(self._answer(*self._answers.get(timeout=seconds)))
            while True:
                found.extend(self._answer(*self._answers.get_nowait()))
        except queue.Empty:
            return found

    def _answer(self, batch: Batch, future: Any) -> list[Answer]:
        from distributed.scheduler import KilledWorker

        if self._futures.get(batch.name) is not future:
            return []  # an older attempt, already answered for by `restart`
        del self._futures[batch.name]
        if future.status == "finished":
            receipt: Receipt = future.result()
            future.release()
            return [Answer(batch, receipt)]
        if future.status == "error" and not isinstance(future.exception(), KilledWorker):
            future.result()
        return [Answer(batch, None)]

    def drain(self) -> None:
        """Set the stop flag in every worker process; their event loops are free to hear it."""
        self._client.run(stop_requested.set)

    def restart(self, batch: Batch) -> None:
        """End the hanging worker through its nanny, and answer for the batch."""
        future = self._futures.pop(batch.name)
        workers = [w for w, keys in self._client.processing().items() if future.key in keys]
        future.cancel(force=True)
        if workers:
            self._client.restart_workers(workers, raise_for_error=False)
        self._answers.put((batch, future))
        self._futures[batch.name] = future


class _DaskMonitor(Monitor):
    """Also feeds the stock dashboard's *Fine Performance Metrics* page."""

    @contextmanager
    def meter(self, activity: str) -> Iterator[None]:
        """Time an activity for the receipt and for the dashboard."""
        from distributed.metrics import context_meter

        with context_meter.meter(activity), super().meter(activity):
            yield


def _run_on_worker(extract: Extract, job: Job, batch: Batch) -> Receipt:
    """Run one batch as a Dask task."""
    from distributed import get_worker

    worker = get_worker()

    def publish(event: Event) -> None:
        fields = {name: getattr(event, name) for name in Event.__slots__}
        worker.log_event(TOPIC, fields)

    return extract(job, batch, _DaskMonitor(batch.name, publish))


def _worker_setup() -> Any:
    from distributed import WorkerPlugin

    class WorkerSetup(WorkerPlugin):  # type: ignore[misc]
        """Keeps Ctrl-C from the segment in hand, and turns a closing worker into a soft stop."""

        name = "pipeline-worker-setup"

        def setup(self, worker: Any) -> None:
            stop_requested.clear()
            signal.signal(signal.SIGINT, signal.SIG_IGN)

        def teardown(self, worker: Any) -> None:
            stop_requested.set()

    return WorkerSetup()


@contextmanager
def _client(spec: ClusterSpec) -> Iterator[Any]:
    import dask
    from distributed import Client

    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.comm.timeouts.connect": SECONDS_TO_CONNECT,
    }
    with dask.config.set(settings):
        if spec.scheduler:
            with _existing(spec.scheduler) as client:
                yield client
            return
        with _local_cluster(spec) as cluster, Client(cluster) as client:
            yield client


@contextmanager
def _existing(address: str) -> Iterator[Any]:
    from distributed import Client

    where = {"scheduler_file": address[5:]} if address.startswith("file:") else {"address": address}
    try:
        client = Client(**where)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--scheduler {address}: no scheduler answers there ({error}); start one with "
            "'dask scheduler --host 127.0.0.1', or leave --scheduler away to start workers here"
        ) from error
    with client:
        _check_releases(client)
        yield client


def _release() -> tuple[str, int]:
    return __version__, NUMERICS_VERSION


def _check_releases(client: Any) -> None:
    """Refuse workers that would give other numbers than the driver believes."""
    for worker, release in client.run(_release).items():
        if release != _release():
            raise UsageError(
                f"worker {worker} runs release {release}, this is {_release()}; install the same "
                "release of action-features on every machine"
            )


def _local_cluster(spec: ClusterSpec) -> Any:
    """Return worker processes on this machine, all on loopback."""
    from distributed import LocalCluster

    environment = {
        name: str(spec.threads)
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    }
    dashboard = f"127.0.0.1:{_free_port(spec.dashboard_port)}"
    if spec.gpus:
        return _gpu_cluster(spec.gpus, environment, dashboard)
    return LocalCluster(
        n_workers=spec.workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=dashboard,
        env=environment,
        silence_logs=40,
    )


def _gpu_cluster(gpus: int, environment: dict[str, str], dashboard: str) -> Any:
    """Return one worker per GPU, which sees only that GPU."""
    from distributed import Nanny, Scheduler
    from distributed.deploy.spec import SpecCluster

    workers = {
        number: {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "host": "127.0.0.1",
                "resources": {"GPU": 1},
                "env": {
                    **environment,
                    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
                    "CUDA_VISIBLE_DEVICES": str(number),
                },
            },
        }
        for number in range(gpus)
    }
    scheduler = {
        "cls": Scheduler,
        "options": {"host": "127.0.0.1", "dashboard_address": dashboard},
    }
    return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=40)


def _free_port(wanted: int) -> int:
    """Return `wanted` when nothing listens on it, else a free port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def default_workers() -> int:
    """Return one worker for each processor this process may use."""
    return len(os.sched_getaffinity(0))
