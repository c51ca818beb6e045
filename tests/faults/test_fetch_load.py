"""Many segments, one in ten of them in trouble: all accounted for, no byte wrong.

Every tenth path misbehaves in one of ten ways; what each must come to is written beside it. The
second run asks only for what may yet come.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.cli.fetch import fetch as command
from pipeline.errors import FAILURES
from tests.faults import http_server
from tests.faults.http_server import Fault, Server
from tests.faults.small_videos import marked

FOREVER = 1000
ATTEMPTS = 2

TROUBLES: tuple[tuple[str, Callable[[], list[Fault]], str, str], ...] = (
    # What the server does, and the state after the first and after the second run.
    ("404", lambda: [http_server.status(404)] * FOREVER, "gone", "gone"),
    ("403", lambda: [http_server.status(403)] * FOREVER, "forbidden", "forbidden"),
    ("429", lambda: [http_server.status(429, Retry_After="0")], "done", "done"),
    ("500 twice", lambda: [http_server.status(500)] * ATTEMPTS, "network", "done"),
    ("500 once", lambda: [http_server.status(500)], "done", "done"),
    ("cut", lambda: [http_server.cut(500)] * ATTEMPTS, "cut_short", "done"),
    ("cut once", lambda: [http_server.cut(700)], "done", "done"),
    ("page", lambda: [http_server.page] * FOREVER, "not_video", "not_video"),
    ("private", lambda: [http_server.redirect("ftp://10.0.0.1/")] * FOREVER, "blocked", "blocked"),
    ("stall", lambda: [http_server.stall(300)] * ATTEMPTS, "timeout", "done"),
)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with Server() as running:
        yield running


def name(number: int) -> str:
    return f"-id{number:08d}_000010_000020.mp4"


def prepare(server: Server, listed: Path, segments: int) -> dict[int, int]:
    """Fill the server and the list; return which trouble each tenth segment has."""
    rows = ["label,youtube_id,time_start,time_end,split"]
    troubled = {}
    for number in range(segments):
        server.files[f"/{name(number)}"] = marked(f"{number}")
        rows.append(f"label {number % 7},-id{number:08d},10,20,{'val' if number % 3 else 'train'}")
        if number % 10 == 7:
            troubled[number] = number // 10 % len(TROUBLES)
            server.faults[f"/{name(number)}"] = TROUBLES[troubled[number]][1]()
    listed.write_text("\n".join(rows) + "\n")
    return troubled


def arguments(server: Server, listed: Path, into: Path, jobs: int = 16) -> list[str]:
    return [
        *("--manifest", str(listed), "--into", str(into), "--allow-private", "--rate", "100000"),
        *("--videos", server.url + "/{id}_{start:06d}_{end:06d}.mp4", "--dataset", "kinetics"),
        *("--jobs", str(jobs), "--per-host", str(jobs), "--attempts", str(ATTEMPTS)),
        *("--stall", "0.3"),
    ]


def may_yet_come(state: str) -> bool:
    return state != "done" and FAILURES[state].max_attempts > 1


def states(into: Path) -> Counter[str]:
    found = json.loads((into / "coverage.json").read_text())
    for kind in ("split", "class"):
        added: Counter[str] = Counter()
        for counts in found[kind].values():
            added.update(counts)
        assert added == Counter(found["state"])
    return Counter(found["state"])


@pytest.mark.parametrize(
    "segments", [200, pytest.param(5000, marks=pytest.mark.slow)], ids=["200", "5000"]
)
def test_every_segment_is_accounted_for(server: Server, tmp_path: Path, segments: int) -> None:
    listed, into = tmp_path / "list.csv", tmp_path / "videos"
    troubled = prepare(server, listed, segments)
    command_line = arguments(server, listed, into)
    for number in (0, 1):
        started, asked = time.monotonic(), len(server.requests)
        assert command.main(command_line, standalone_mode=False) == 0
        took = time.monotonic() - started
        expected = Counter(TROUBLES[kind][2 + number] for kind in troubled.values())
        expected["done"] += segments - len(troubled)
        assert states(into) == expected
        print(f"run {number + 1}: {segments} segments in {took:.1f} s, {dict(expected)}")
        if number == 1:
            transient = {n for n, kind in troubled.items() if may_yet_come(TROUBLES[kind][2])}
            again = {path for path, _ in server.requests[asked:]}
            assert again == {f"/{name(n)}" for n in transient}
    with (into / "failures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["video"]: row["code"] for row in rows} == {
        f"-id{n:08d}": TROUBLES[kind][3]
        for n, kind in troubled.items()
        if TROUBLES[kind][3] != "done"
    }
    there = {path.name for path in into.glob("*.mp4")}
    assert there == {
        name(n) for n in range(segments) if n not in troubled or TROUBLES[troubled[n]][3] == "done"
    }
    assert all((into / n).read_bytes() == server.files[f"/{n}"] for n in there)


def test_a_killed_fetch_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    listed, into = tmp_path / "list.csv", tmp_path / "videos"
    prepare(server, listed, 60)
    server.faults.clear()
    for number in (20, 21, 22):
        server.faults[f"/{name(number)}"] = [http_server.stall(1000)] * 2
    command_line = arguments(server, listed, into, jobs=3)
    command_line[command_line.index("0.3")] = "30"
    child = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "fetch", *command_line],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        cwd=Path(__file__).parents[2],
        stderr=subprocess.DEVNULL,
    )
    with child:
        until = time.monotonic() + 30
        while len(list(into.glob("*.mp4"))) < 20 and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(child.pid, signal.SIGKILL)
    there = {path.name for path in into.glob("*.mp4")}
    assert len(there) == 20
    server.faults.clear()
    asked = len(server.requests)
    assert command.main(command_line, standalone_mode=False) == 0
    assert states(into) == {"done": 60}
    again = server.requests[asked:]
    assert not {path[1:] for path, _ in again} & there
    resumed = {path[1:] for path, headers in again if headers.get("Range") == "bytes=1000-"}
    assert resumed == {name(number) for number in (20, 21, 22)}
    assert all(path.read_bytes() == server.files[f"/{path.name}"] for path in into.glob("*.mp4"))
    assert not list((into / ".fetch" / "parts").iterdir())


def test_ctrl_c_keeps_what_came_and_accounts_for_it(server: Server, tmp_path: Path) -> None:
    listed, into = tmp_path / "list.csv", tmp_path / "videos"
    prepare(server, listed, 60)
    server.faults.clear()
    for number in range(20, 60):
        server.faults[f"/{name(number)}"] = [http_server.stall(1000)]
    command_line = arguments(server, listed, into, jobs=3)
    child = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "fetch", *command_line],
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        until = time.monotonic() + 30
        while len(list(into.glob("*.mp4"))) < 20 and time.monotonic() < until:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        said, complained = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "the same command goes on" in complained
    assert "left" in said
    there = {path.stem for path in into.glob("*.mp4")}
    assert 20 <= len(there) < 60
    assert states(into)["done"] >= 20
    assert set((into / "committed.txt").read_text().split()) <= there
    server.faults.clear()
    assert command.main(command_line, standalone_mode=False) == 0
    assert states(into) == {"done": 60}
