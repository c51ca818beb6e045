"""One suite over every kind of place where batches run: the same answers, bit for bit."""

import json
import socket
import urllib.request
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import extractors
from manifests import load
from pipeline.cluster import open_pool
from pipeline.dask_pool import connected
from pipeline.errors import UsageError
from pipeline.job import Job, Settings, Target, make_recipe
from pipeline.plan import make_batches, make_plan
from pipeline.pool import ClusterSpec
from pipeline.run import Driver
from pipeline.sources import SourceOptions, Sources
from pipeline.store import Committed, FeatureStore, RecipeShards, Store
from pipeline.work import extract_batch
from tests.pipeline.test_run import Heard
from tests.truth.numbered_video import NumberedVideo, constant, write

KINDS = ("in-process", "local", "address", "file")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name in "abc":
        write(folder / f"{name}.mp4", NumberedVideo(name, **constant(3, Fraction(5))))
    return folder


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ClusterSpec]]:
    """Each kind, with one cluster already up for those that join one."""
    with connected(ClusterSpec(workers=1)) as client:
        file = tmp_path_factory.mktemp("scheduler") / "scheduler.json"
        file.write_text(json.dumps(client.scheduler_info(n_workers=-1)))
        address = client.scheduler.address
        yield {
            "in-process": ClusterSpec(workers=0),
            "local": ClusterSpec(workers=2),
            "address": ClusterSpec(scheduler=address),
            "file": ClusterSpec(scheduler=f"file:{file}"),
        }


def run(out: Path, videos: Path, spec: ClusterSpec) -> tuple[str, dict]:
    chosen = extractors.spec("efficientnet-lite0").with_settings({"weights": "random"})
    settings = Settings()
    target = Target(chosen, make_recipe(chosen, settings))
    job = Job(out=out, targets=(target,), settings=settings, run="r")
    store = Store.create(out, 1)
    RecipeShards.create(out, target.recipe)
    sources = Sources([str(videos)], SourceOptions())
    nothing = Committed(done={}, failures={})
    plan = make_plan(load(videos).segments, [target], [nothing], sources.locate_on_disk)
    drivers: list[Driver] = []
    heard = Heard()
    with open_pool(spec, extract_batch, job, lambda e: [d.on_event(e) for d in drivers]) as pool:
        drivers.append(Driver(pool, job, heard))
        drivers[0].run(make_batches(plan.items, store.bucket, 1))
        dashboard = pool.dashboard
        if dashboard:
            assert urllib.request.urlopen(dashboard).status == 200
    features = FeatureStore(out)[target.recipe.folder]
    assert len(heard.done) == 3
    return dashboard, {key: tuple(features[key]) for key in features.keys()}  # noqa: SIM118


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> dict:
    return run(tmp_path_factory.mktemp("reference"), videos, ClusterSpec(workers=0))[1]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_bits(
    kind: str, tmp_path: Path, videos: Path, running: dict, reference: dict
) -> None:
    dashboard, found = run(tmp_path, videos, running[kind])
    assert found.keys() == reference.keys()
    for key in reference:
        np.testing.assert_array_equal(found[key][0], reference[key][0])
    assert dashboard.startswith("http://127.0.0.1:") or kind == "in-process"


def test_a_taken_dashboard_port_is_no_clash() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with connected(ClusterSpec(workers=1, dashboard_port=port)) as client:
            assert f":{port}/" not in client.dashboard_link


def test_nothing_listens_beyond_loopback() -> None:
    with connected(ClusterSpec(workers=1)) as client:
        port = int(client.dashboard_link.split(":")[2].split("/")[0])
        assert client.scheduler.address.startswith("tcp://127.0.0.1:")
        with socket.socket() as beyond:
            beyond.settimeout(2)
            host = socket.gethostbyname(socket.gethostname())
            if host.startswith("127."):
                host = "127.0.0.2"  # another loopback address: an all-interfaces socket answers it
            assert beyond.connect_ex((host, port)) != 0


@pytest.mark.parametrize("address", ["file:nowhere.json", "tcp:host", "tcp://host", "host:8786"])
def test_an_address_that_is_none_is_refused_and_not_waited_for(address: str) -> None:
    with (
        pytest.raises(UsageError, match="expected tcp://HOST:PORT"),
        connected(ClusterSpec(scheduler=address)),
    ):
        pass


def test_no_scheduler_at_the_address_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.dask_pool.SECONDS_TO_CONNECT", 1)
    spec = ClusterSpec(scheduler="tcp://127.0.0.1:1")
    with pytest.raises(UsageError, match="no scheduler answers there"), connected(spec):
        pass
