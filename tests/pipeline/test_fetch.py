"""``pipeline fetch`` from the outside: what stands in the folder and in its files afterwards."""

import csv
import errno
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import manifests
from manifests import Segment
from pipeline import decode, fetch, fetch_work
from pipeline.cli.fetch import fetch as command
from pipeline.errors import DiskFull, TooShort, UsageError
from pipeline.fetch import Journal, Known
from pipeline.fetch_work import FetchJob, Outcome
from pipeline.frames import View
from pipeline.sampling import Grid
from pipeline.sources import SourceOptions, Sources
from pipeline.trim import trim
from tests.faults import http_server
from tests.faults.http_server import Server
from tests.faults.small_videos import marked
from tests.truth import numbered_video

TRIMMED = "/{id}_{start:06d}_{end:06d}.mp4"


@pytest.fixture(autouse=True)
def own_accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the accounts with servers, which belong to the machine, inside the test."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "list.csv"
    rows = ["video,start,end,label,split"]
    rows += [
        f"-v{n},1,2,{'yoga' if n % 2 else 'archery'},{'val' if n < 3 else 'train'}"
        for n in range(6)
    ]
    path.write_text("\n".join(rows) + "\n")
    return path


def run(listed: Path, into: Path, *videos: str, **flags: Any) -> int:
    arguments = ["--manifest", str(listed), "--into", str(into), "--allow-private"]
    quick = {"rate": 10_000, "attempts": 2, "stall": 0.5, "jobs": 4, **flags}
    for name, value in quick.items():
        arguments.append(f"--{name.replace('_', '-')}")
        arguments += [] if value is True else [str(value)]
    for text in videos:
        arguments += ["--videos", text]
    status: int = command.main(arguments, standalone_mode=False)
    return status


def serve(server: Server, numbers: range) -> None:
    for n in numbers:
        server.files[f"/-v{n}_000001_000002.mp4"] = marked(f"v{n}")


def coverage(into: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((into / "coverage.json").read_text())
    return found


def failures(into: Path) -> dict[str, dict[str, str]]:
    with (into / "failures.csv").open(newline="") as file:
        return {row["video"]: row for row in csv.DictReader(file)}


def test_what_is_served_is_there_under_names_that_extract_knows(
    server: Server, listed: Path, tmp_path: Path
) -> None:
    serve(server, range(4))
    into = tmp_path / "videos"
    assert run(listed, into, server.url + TRIMMED) == 0
    videos = Sources([str(into)], SourceOptions())
    for segment in manifests.load(listed).segments[:4]:
        located = videos.locate(segment)
        assert located.trimmed
        assert located.path.read_bytes() == marked(segment.video[1:])
    found = coverage(into)
    assert (found["segments"], found["done"]) == (6, 4)
    assert found["split"] == {"val": {"done": 3}, "train": {"done": 1, "gone": 2}}
    assert found["class"] == {"archery": {"done": 2, "gone": 1}, "yoga": {"done": 2, "gone": 1}}
    assert (into / "committed.txt").read_text().split() == found["done_keys"]
    assert found["manifest_sha256"] == manifests.load(listed).sha256


def test_a_second_run_asks_for_nothing_that_is_there_or_gone(
    server: Server, listed: Path, tmp_path: Path
) -> None:
    serve(server, range(4))
    into = tmp_path / "videos"
    run(listed, into, server.url + TRIMMED)
    asked = len(server.requests)
    assert run(listed, into, server.url + TRIMMED) == 0
    assert len(server.requests) == asked
    serve(server, range(6))
    assert run(listed, into, server.url + TRIMMED, retry_failed=True) == 0
    assert coverage(into)["done"] == 6
    assert failures(into) == {}


def test_failures_are_a_manifest_to_run_again(server: Server, listed: Path, tmp_path: Path) -> None:
    serve(server, range(4))
    into = tmp_path / "videos"
    run(listed, into, server.url + TRIMMED)
    rows = failures(into)
    assert set(rows) == {"-v4", "-v5"}
    assert rows["-v4"]["code"] == "gone"
    assert rows["-v4"]["will_be_retried"] == "False"
    again = manifests.load(into / "failures.csv")
    assert [segment.key for segment in again] == ["-v4_000001_000002", "-v5_000001_000002"]
    serve(server, range(6))
    assert run(into / "failures.csv", tmp_path / "rest", server.url + TRIMMED) == 0
    assert coverage(tmp_path / "rest")["done"] == 2


def test_transient_failures_are_tried_again_three_times_and_given_up(
    server: Server, listed: Path, tmp_path: Path
) -> None:
    serve(server, range(6))
    path = "/-v0_000001_000002.mp4"
    server.faults[path] = [http_server.status(500)] * 100
    for attempts, again in ((1, "True"), (2, "True"), (3, "False")):
        assert run(listed, tmp_path / "videos", server.url + TRIMMED, attempts=1) == 0
        row = failures(tmp_path / "videos")["-v0"]
        assert (row["code"], row["attempts"], row["will_be_retried"]) == (
            "network", str(attempts), again,
        )  # fmt: skip
    run(listed, tmp_path / "videos", server.url + TRIMMED)
    assert len(server.asked(path)) == 3


def test_a_pause_hands_back_uncounted_and_is_work_left(
    server: Server, listed: Path, tmp_path: Path
) -> None:
    serve(server, range(6))
    server.faults["/-v0_000001_000002.mp4"] = [http_server.status(429, Retry_After="900")]
    into = tmp_path / "videos"
    assert run(listed, into, server.url + TRIMMED, jobs=1) == 1
    rows = failures(into)
    assert {row["code"] for row in rows.values()} == {"rate_limited"}
    assert {(row["attempts"], row["will_be_retried"]) for row in rows.values()} == {("0", "True")}
    assert len(server.requests) == 1
    for account in (tmp_path / "tmp").rglob("*.pace"):
        account.unlink()
    assert run(listed, into, server.url + TRIMMED) == 0
    assert coverage(into)["done"] == 6


def test_what_one_source_lacks_is_asked_of_the_next(
    server: Server, listed: Path, tmp_path: Path
) -> None:
    serve(server, range(2, 6))
    server.files["/-v5_000001_000002.mp4"] = b"not a video" * 100
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "-v0.mp4").write_bytes(marked("whole", frames=30))
    with tarfile.open(tmp_path / "part.tar.gz", "w:gz") as archive:
        for n in (1, 5):
            info = tarfile.TarInfo(f"-v{n}_000001_000002.mp4")
            content = marked(f"tar{n}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    into = tmp_path / "videos"
    sources = [str(folder), server.url + TRIMMED, f"tar:{tmp_path / 'part.tar.gz'}"]
    assert run(listed, into, *sources) == 0
    assert coverage(into)["done"] == 6
    assert (into / "-v0.mp4").read_bytes() == (folder / "-v0.mp4").read_bytes()
    assert (into / "-v1_000001_000002.mp4").read_bytes() == marked("tar1")
    assert (into / "-v2_000001_000002.mp4").read_bytes() == marked("v2")
    assert (into / "-v5_000001_000002.mp4").read_bytes() == marked("tar5")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "not_video"),
        (b"GIF89a nonsense" * 50, "not_video"),
        (marked("half")[:-900], "truncated"),
    ],
)
def test_a_file_that_does_not_decode_never_gets_its_name(
    server: Server, listed: Path, tmp_path: Path, content: bytes, code: str
) -> None:
    serve(server, range(6))
    server.files["/-v2_000001_000002.mp4"] = content
    into = tmp_path / "videos"
    assert run(listed, into, server.url + TRIMMED) == 0
    assert coverage(into)["done"] == 5
    assert failures(into)["-v2"]["code"] in (code, "decode_error")
    assert not list(into.rglob("-v2*"))


def test_a_full_video_is_asked_for_once_and_serves_all_its_segments(
    server: Server, tmp_path: Path
) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("video,start,end\nabc,0,1\nabc,1,2\nabc,7,9\n")
    server.files["/abc.mp4"] = marked("abc", frames=30)
    into = tmp_path / "videos"
    for _ in range(2):
        assert run(listed, into, server.url + "/{id}.mp4") == 0
        assert len(server.requests) == 1
        assert (into / "abc.mp4").read_bytes() == marked("abc", frames=30)
        assert failures(into)["abc"]["start"] == "7.0"
        assert failures(into)["abc"]["code"] == "too_short"
        assert coverage(into)["done_keys"] == ["abc_000000_000001", "abc_000001_000002"]


def test_trim_cuts_exactly_and_keeps_only_the_segments(server: Server, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    numbered_video.write(
        film,
        numbered_video.NumberedVideo(
            "film.mp4", **numbered_video.constant(100), options={"g": "30", "bf": "2"}
        ),
    )
    server.files["/abc.mp4"] = film.read_bytes()
    listed = tmp_path / "list.csv"
    listed.write_text("video,start,end\nabc,1,2\nabc,1.5,2.1\nabc,7,9\n")
    into = tmp_path / "videos"
    assert run(listed, into, server.url + "/{id}.mp4", trim=True) == 0
    assert sorted(path.name for path in into.glob("*.mp4")) == [
        "abc_000001_000002.mp4",
        "abc_1500ms_2100ms.mp4",
    ]
    assert numbers_in(into / "abc_000001_000002.mp4") == list(range(25, 50))
    assert numbers_in(into / "abc_1500ms_2100ms.mp4") == list(range(38, 53))
    assert failures(into)["abc"]["code"] == "too_short"
    assert run(listed, into, server.url + "/{id}.mp4", trim=True) == 0
    assert len(server.requests) == 1


def numbers_in(path: Path) -> list[int]:
    info = decode.probe(path)
    assert info.first_frame_seconds == 0
    view = View(info.height_px, info.width_px)
    frames = decode.frames(path, [decode.Request(Grid(Fraction(0), None, None), (view,))])
    return [numbered_video.number_in(np.asarray(frame.images[view])) for frame in frames]


def test_trim_keeps_the_times_of_an_uneven_video_and_turns_it_upright(tmp_path: Path) -> None:
    ticks = (0, 1, 2, 10, 11, 30, 31, 32, 33, 60)
    film = numbered_video.NumberedVideo(
        "film.mp4", ticks, Fraction(1, 30), size=(66, 98), turned_degrees=90
    )
    numbered_video.write(tmp_path / "film.mp4", film)
    cut = tmp_path / "cut.mp4"
    assert trim(tmp_path / "film.mp4", cut, Fraction(1, 3), Fraction(32, 30)) == 4
    info = decode.probe(cut)
    assert (info.height_px, info.width_px) == (66, 98)
    view = View(info.height_px, info.width_px)
    stream = decode.frames(cut, [decode.Request(Grid(Fraction(0), None, None), (view,))])
    seen = [(frame.pts_seconds, numbered_video.number_in(frame.images[view])) for frame in stream]
    wanted = [(Fraction(ticks[n] - 10, 30), n) for n in (3, 4, 5, 6)]
    assert [n for _, n in seen] == [n for _, n in wanted]
    assert all(abs(a - b) < Fraction(1, 1000) for (a, _), (b, _) in zip(seen, wanted, strict=True))
    with pytest.raises(TooShort):
        trim(tmp_path / "film.mp4", cut, Fraction(5, 2), Fraction(3))


def test_ids_that_are_no_safe_names_never_become_paths(server: Server, tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("video,start,end\n../up,0,1\na;b,0,1\nyoga/x,0,1\n")
    server.files["/yoga/x.mp4"] = marked("x")
    server.files["/../up.mp4"] = marked("up")
    into = tmp_path / "videos"
    assert run(listed, into, server.url + "/{id}.mp4") == 0
    assert {video: row["code"] for video, row in failures(into).items()} == {
        "../up": "blocked",
        "a;b": "blocked",
    }
    assert (into / "yoga" / "x.mp4").exists()
    assert not (tmp_path / "up.mp4").exists()


def test_a_plan_without_a_run_changes_nothing(
    server: Server, listed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(listed, tmp_path / "videos", server.url + TRIMMED, dry_run=True) == 0
    assert "6 to fetch" in capsys.readouterr().err
    assert not server.requests
    assert not (tmp_path / "videos").exists()


def test_a_wrong_source_is_known_before_the_run(listed: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not there"):
        run(listed, tmp_path / "videos", str(tmp_path / "nothing"))


def test_the_journal_survives_a_line_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.note(Outcome("a", "network", "down"))
        journal.note(Outcome("b", "gone", "404"))
        journal.note(Outcome("c", "bot_check", "are you"))
        journal.note(Outcome("a", "network", "down"))
        journal.note(Outcome("b"))
    path.write_text(path.read_text() + '["d", "network", "cut o')
    with Journal(path) as journal:
        assert journal.known == {
            "a": Known("network", "down", 2),
            "c": Known("bot_check", "are you", 0),
        }
        journal.note(Outcome("e", "gone", "404"))
    with Journal(path) as journal:
        assert set(journal.known) == {"a", "c", "e"}


def test_segments_without_an_end_are_full_videos_even_when_cutting(
    server: Server, tmp_path: Path
) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("video\nabc\n")
    server.files["/abc.mp4"] = marked("abc")
    assert run(listed, tmp_path / "videos", server.url + "/{id}.mp4", trim=True) == 0
    assert (tmp_path / "videos" / "abc.mp4").read_bytes() == marked("abc")
    assert Segment(video="abc").key in coverage(tmp_path / "videos")["done_keys"]


def two_segments(tmp_path: Path) -> Path:
    listed = tmp_path / "two.csv"
    listed.write_text("video,start,end\nabc,0,1\nabc,1,2\nd,0,1\n")
    return listed


@pytest.mark.parametrize("kind", ["folder", "web", "tar"])
def test_one_trimmed_file_never_stands_for_two_segments(
    server: Server, tmp_path: Path, kind: str
) -> None:
    videos, into = tmp_path / "from", tmp_path / "videos"
    videos.mkdir()
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("abc", "d"):
            (videos / f"{name}.mp4").write_bytes(marked(name))
            server.files[f"/{name}.mp4"] = marked(name)
            archive.add(videos / f"{name}.mp4", f"{name}.mp4")
    texts = {"folder": videos, "web": server.url + "/{id}.mp4", "tar": f"tar:{tmp_path}/a.tar"}
    run(two_segments(tmp_path), into, f"trimmed:{texts[kind]}")
    assert {path.name for path in into.glob("*.mp4")} == {"d_000000_000001.mp4"}
    assert coverage(into)["state"] == {"ambiguous": 2, "done": 1}
    assert "could be any of them" in failures(into)["abc"]["detail"]
    run(two_segments(tmp_path), tmp_path / "one", f"trimmed:{texts[kind]}", limit=1)
    assert coverage(tmp_path / "one")["state"] == {"done": 1}, "one segment is no riddle"


@pytest.mark.parametrize("flags", [{}, {"trim": True}])
def test_a_full_disk_is_said_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: dict[str, Any]
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    listed = tmp_path / "list.csv"
    listed.write_text("video,start,end\nabc,0,1\n")
    videos = tmp_path / "from"
    videos.mkdir()
    (videos / "abc.mp4").write_bytes(marked("abc"))
    monkeypatch.setattr(fetch_work.shutil, "copyfile", no_room)
    monkeypatch.setattr(fetch_work, "trim", no_room)
    into = tmp_path / "videos"
    with pytest.raises(DiskFull, match="no room on the disk of"):
        run(listed, into, str(videos), **flags)
    assert {path.name for path in into.iterdir()} == {
        ".fetch", "coverage.json", "committed.txt", "failures.csv"
    }  # fmt: skip
    assert [path.name for path in (into / ".fetch").iterdir()] == ["journal.jsonl"]


def test_what_a_killed_fetch_left_half_written_is_swept(
    server: Server, listed: Path, tmp_path: Path
) -> None:
    serve(server, range(6))
    job = FetchJob(into=tmp_path / "videos", options=SourceOptions())
    job.workplace.mkdir(parents=True)
    old, new = (fetch_work._unfinished(job) for _ in range(2))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert run(listed, job.into, server.url + TRIMMED) == 0
    assert not old.exists()
    assert new.exists(), "it may be another process's, at work"


def test_the_summary_speaks_of_this_list_only(
    listed: Path, tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "videos"
    with Journal(into / ".fetch" / "journal.jsonl") as journal:
        for number in range(5):
            journal.note(Outcome(f"other{number}", "forbidden", "403"))
    server.faults["/-v0_000001_000002.mp4"] = [http_server.status(403)]
    serve(server, range(1, 6))
    run(listed, into, server.url + TRIMMED)
    assert "1 x forbidden (val 1): 1 will be tried again" in capsys.readouterr().out


def test_a_list_of_wanted_members_goes_even_when_a_run_stops(
    tmp_path: Path, listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise UsageError("enough")

    monkeypatch.setattr(fetch, "fetch_part", stop)
    with tarfile.open(tmp_path / "a.tar", "w"):
        pass
    with pytest.raises(UsageError, match="enough"):
        run(listed, tmp_path / "videos", f"tar:{tmp_path}/a.tar")
    assert not list((tmp_path / "videos" / ".fetch").glob("wanted-*"))


def test_one_member_never_stands_for_two_videos(tmp_path: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text("video,start,end\na/x,0,1\nb/x,0,1\nb/y,0,1\n")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("x", "y"):
            (tmp_path / name).write_bytes(marked(name))
            archive.add(tmp_path / name, f"{name}.mp4")
    into = tmp_path / "videos"
    run(listed, into, f"tar:{tmp_path}/a.tar")
    assert [str(path.relative_to(into)) for path in into.rglob("*.mp4")] == ["b/y.mp4"]
    assert coverage(into)["state"] == {"ambiguous": 2, "done": 1}
    assert "answers to a/x and b/x" in failures(into)["a/x"]["detail"]
