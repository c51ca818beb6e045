"""Batches as Dask tasks: the client, the workers of this machine, and what survives their deaths.

Dask carries control only: paths and settings go out, receipts come back. It may run a batch twice
and may lose a worker; a lost batch is an answer without a receipt, never an exception. Its own
retries are off, because it blames every task that waited beside the one that killed a worker.

Nothing listens beyond loopback: the dashboard's default is every interface of the machine.
"""

from __future__ import annotations

import logging
import queue
import re
import signal
import socket
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dask
from distributed import (
    Client,
    LocalCluster,
    Nanny,
    Scheduler,
    Status,
    WorkerPlugin,
    get_worker,
    span,
)
from distributed.deploy.spec import SpecCluster
from distributed.metrics import context_meter
from distributed.scheduler import KilledWorker

from pipeline import __version__
from pipeline.errors import UsageError, WorkersLost
from pipeline.job import NUMERICS_VERSION, Batch, Job, Receipt
from pipeline.monitor import Event, Monitor, request_stop
from pipeline.pool import Answer, ClusterSpec, Extract, OnEvent

SECONDS_TO_CONNECT = 30
TOPIC = "pipeline"
RECEIPTS = "pipeline-receipts"
QUARANTINE_PRIORITY = -10


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
        client.register_plugin(WorkerSetup())
        self._receipts: dict[str, Receipt] = {}
        client.subscribe_topic(TOPIC, lambda stamped: on_event(_event(stamped[1])))
        client.subscribe_topic(RECEIPTS, lambda stamped: self._keep(stamped[1]))

    def _keep(self, message: dict[str, Any]) -> None:
        self._receipts[message["key"]] = Receipt.from_plain(message["receipt"])

    def window(self) -> int:
        """One and a half batches per slot, so that no worker waits for the driver.

        Raises
        ------
        WorkersLost
            When the scheduler does not answer any more.
        """
        try:
            slots: int = sum(self._client.nthreads().values())
        except OSError as error:
            raise WorkersLost(
                f"the Dask scheduler does not answer any more ({error}); what was committed is "
                "kept; start the scheduler, then run the same command again"
            ) from error
        return slots + (slots + 1) // 2

    def submit(self, batch: Batch) -> None:
        """Send a batch as one task; a new attempt is a new task."""
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

    def wait(self, seconds: float) -> Iterable[Answer]:
        """Give every batch that is back; a worker's own exception is raised here."""
        try:
            came = self._answers.get(timeout=seconds)
            while True:
                batch, future = came
                if self._futures.get(batch.name) is future:  # else `restart` has answered for it
                    del self._futures[batch.name]
                    yield self._answer(batch, future)
                came = self._answers.get_nowait()
        except queue.Empty:
            return

    def _answer(self, batch: Batch, future: Any) -> Answer:
        """Return what became of a task; a receipt counts even if its worker has died since."""
        receipt = self._receipts.pop(future.key, None)
        if receipt is None and future.status == "error":
            error = future.exception()
            if not isinstance(error, KilledWorker):
                raise error
        future.release()
        return Answer(batch, receipt)

    def drain(self) -> None:
        """Set the run's stop flag in every worker process, without waiting for their answers."""
        ask = partial(self._client.run, request_stop, self._job.run, on_error="ignore")
        self._client.loop.add_callback(ask)

    def places(self) -> dict[str, str]:
        """Return the worker that each batch was given to."""
        workers = self._client.processing()
        of_key = {key: worker for worker, keys in workers.items() for key in keys}
        return {
            name: of_key[future.key]
            for name, future in self._futures.items()
            if future.key in of_key
        }

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
        with context_meter.meter(activity), super().meter(activity):
            yield


def _event(fields: dict[str, Any]) -> Event:
    """Return the event that a worker logged; Dask adds the worker's address."""
    return Event(**{name: fields[name] for name in Event.__slots__})


def _run_on_worker(extract: Extract, job: Job, batch: Batch) -> None:
    """Run one batch as a Dask task.

    The receipt is sent, not returned: a result stays on its worker until it is asked for, and by
    then the worker may hang on the next batch. Messages arrive before the task counts as done.
    """
    worker = get_worker()

    def publish(event: Event) -> None:
        fields = {name: getattr(event, name) for name in Event.__slots__}
        worker.log_event(TOPIC, fields)

    receipt = extract(job, batch, _DaskMonitor(batch.name, publish))
    message = {"key": worker.get_current_task(), "receipt": receipt.to_plain()}
    worker.log_event(RECEIPTS, message)


class WorkerSetup(WorkerPlugin):  # type: ignore[misc]
    """Keeps Ctrl-C from the segment in hand, and turns a closing worker into a soft stop."""

    name = "pipeline-worker-setup"

    def setup(self, worker: Any) -> None:
        """Ignore the SIGINT that a terminal sends to every process of the group."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def teardown(self, worker: Any) -> None:
        """Let the running batch commit what it has before the worker is gone.

        Another run that joins the cluster puts its own plugin in this one's place: no reason to
        stop.
        """
        if worker.status not in (Status.running, Status.paused):
            request_stop()


@contextmanager
def connected(spec: ClusterSpec) -> Iterator[Any]:
    """Yield a client of the cluster that `spec` asks for; close what was started."""
    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.comm.timeouts.connect": SECONDS_TO_CONNECT,
        # The nanny's own MALLOC_TRIM_THRESHOLD_ gives every frame buffer back to the system and
        # faults it in anew: decoding took a fifth longer.
        "distributed.nanny.pre-spawn-environ": _thread_limits(spec.threads),
    }
    with dask.config.set(settings):
        if spec.scheduler:
            with _existing(spec.scheduler) as client:
                yield client
            return
        with warnings.catch_warnings():
            # Another run may take the port after it was probed; the address is printed anyway.
            warnings.filterwarnings("ignore", message="Port .* is already in use")
            local = _local_cluster(spec)
        with local as cluster, Client(cluster) as client:
            yield client


@contextmanager
def _existing(address: str) -> Iterator[Any]:
    where = _where(address)
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


def _where(address: str) -> dict[str, str]:
    """Return how Dask names a scheduler; a file that is not there would be waited for forever."""
    scheme, _, rest = address.partition(":")
    if scheme in ("tcp", "tls") and re.fullmatch(r"//.+:\d+", rest):
        return {"address": address}
    if scheme == "file" and Path(rest).is_file():
        return {"scheduler_file": rest}
    found = f"there is no file {rest}" if scheme == "file" else "that is no address"
    raise UsageError(
        f"--scheduler {address}: {found}; expected tcp://HOST:PORT, tls://HOST:PORT, or file:PATH "
        "of the file that 'dask scheduler --scheduler-file PATH' writes"
    )


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


def _thread_limits(threads: int) -> dict[str, str]:
    """Return the environment that caps the pools numeric libraries open by themselves."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {name: str(threads) for name in names}


def _local_cluster(spec: ClusterSpec) -> Any:
    """Return worker processes on this machine, all on loopback."""
    environment = _thread_limits(spec.threads)
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
        silence_logs=logging.CRITICAL,
    )


def _gpu_cluster(gpus: int, environment: dict[str, str], dashboard: str) -> Any:
    """Return one worker per GPU, which sees only that GPU."""
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
    return SpecCluster(workers=workers, scheduler=scheduler, silence_logs=logging.CRITICAL)


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
