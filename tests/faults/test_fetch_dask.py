"""``pipeline fetch`` on Dask workers: the same folder, the same files, as with threads."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import LocalCluster

from pipeline.cli.fetch import fetch as command
from tests.faults import http_server
from tests.faults.http_server import Server
from tests.faults.small_videos import marked


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCluster]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
    ) as running:
        yield running


def test_workers_fetch_what_threads_would(cluster: LocalCluster, tmp_path: Path) -> None:
    listed, into = tmp_path / "list.csv", tmp_path / "videos"
    listed.write_text("video,start,end\n" + "".join(f"v{n},0,1\n" for n in range(12)))
    with Server() as server:
        for n in range(12):
            server.files[f"/v{n}_000000_000001.mp4"] = marked(f"v{n}")
        server.faults["/v3_000000_000001.mp4"] = [http_server.cut(100)]
        server.faults["/v4_000000_000001.mp4"] = [http_server.status(404)]
        status = command.main(
            [
                *("-m", str(listed), "--into", str(into), "--allow-private", "--rate", "10000"),
                *("--videos", server.url + "/{id}_{start:06d}_{end:06d}.mp4"),
                *("--scheduler", cluster.scheduler_address),
            ],
            standalone_mode=False,
        )
    assert status == 0
    assert json.loads((into / "coverage.json").read_text())["state"] == {"done": 11, "gone": 1}
    there = {path.stem: path.read_bytes() for path in into.glob("*.mp4")}
    assert there == {f"v{n}_000000_000001": marked(f"v{n}") for n in range(12) if n != 4}
