import io
import logging
import pickle
import random
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from manifests._segment import Segment
from pipeline.errors import CutShort, NotInMirror, NotVideo, TooLarge, UsageError
from pipeline.sources import SourceOptions, Sources, open_source, tar
from pipeline.sources._source import Sequential
from pipeline.sources.tar import TarSource
from tests.faults import http_server
from tests.faults.http_server import Server

Options = Callable[..., SourceOptions]


def kinetics(video: str) -> Segment:
    return Segment(video=video, start_ms=10_000, end_ms=20_000)


def name(video: str, folder: str = "") -> str:
    return f"{folder}{video}_000010_000020.mp4"


def body(video: str, size: int = 5000) -> bytes:
    return (video.encode() * size)[:size]


def packed(members: Mapping[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in range(3):
        videos = [f"{number}{letter}" for letter in "abcd"]
        (folder / f"part_{number}.tar.gz").write_bytes(
            packed({name(video, "./"): body(video) for video in videos})
        )
    return folder


@pytest.mark.parametrize("order", ["0a 1b 2c 0d", "2d 2a 1c 0a", "1a"])
def test_members_are_given_as_they_are_asked_for(parts: Path, options: Options, order: str) -> None:
    sources = Sources([f"tar:{parts}"], options())
    for video in order.split():
        with sources.borrowed(kinetics(video)) as located:
            assert located.path.read_bytes() == body(video)
            assert (located.trimmed, located.scratch) == (True, True)
    with pytest.raises(NotInMirror, match="in none of the archives"):
        sources.locate(kinetics("9z"))


def test_each_part_is_read_once_while_the_budget_holds(
    parts: Path, options: Options, caplog: pytest.LogCaptureFixture
) -> None:
    source = open_source(f"tar:{parts}", options(scratch_bytes=12 * 5000))
    with caplog.at_level(logging.WARNING):
        for video in ["2d", "0a", "1b", "2a", "0d", "1c"]:
            assert source.locate(kinetics(video)).path.read_bytes() == body(video)
    assert not caplog.records


def test_a_small_budget_costs_passes_and_never_a_member(
    parts: Path, options: Options, caplog: pytest.LogCaptureFixture
) -> None:
    sources = Sources([f"tar:{parts}"], options(scratch_bytes=2 * 5000))
    for video in ["2d", "0a", "1b", "2a", "0d", "0d"]:
        with sources.borrowed(kinetics(video)) as located:
            assert located.path.read_bytes() == body(video)
    assert "is read again" in caplog.text


def test_the_replacement_archive_overrides(parts: Path, options: Options) -> None:
    new = packed({name("1b"): b"mended", name("zz"): b"new"})
    (parts / "replacement_for_corrupted.tgz").write_bytes(new)
    source = open_source(f"tar:{parts}", options())
    assert source.locate(kinetics("2a")).path.read_bytes() == body("2a")
    assert source.locate(kinetics("1b")).path.read_bytes() == b"mended"
    assert isinstance(source, Sequential)
    assert [len(group) for group in source.parts()] == [1, 3]


def test_members_that_are_no_videos_are_not_given(tmp_path: Path, options: Options) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for kind, link in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, name("ok"))):
            info = tarfile.TarInfo(name("link"))
            info.type, info.linkname = kind, link
            archive.addfile(info)
        for device in (tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo(name("device"))
            info.type = device
            archive.addfile(info)
        for member, content in {
            "../../" + name("up"): b"contained",
            "/etc/" + name("absolute"): b"contained",
            "virus_000010_000020.exe": b"MZ",
            name("empty"): b"",
            name("big"): bytes(9000),
            name("ok"): b"ok",
        }.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    path = tmp_path / "one.tar.gz"
    path.write_bytes(buffer.getvalue())
    source = open_source(f"tar:{path}", options(max_bytes=8000))
    for refused in ("link", "device", "virus"):
        with pytest.raises(NotInMirror):
            source.locate(kinetics(refused))
    with pytest.raises(NotVideo, match="empty"):
        source.locate(kinetics("empty"))
    with pytest.raises(TooLarge):
        source.locate(kinetics("big"))
    scratch = (options().scratch or Path()).resolve()
    for contained in ("up", "absolute"):
        located = source.locate(kinetics(contained))
        assert located.path.read_bytes() == b"contained"
        assert located.path.resolve().is_relative_to(scratch)
    assert source.locate(kinetics("ok")).path.read_bytes() == b"ok"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.6, 0.9])
def test_a_part_cut_off_gives_what_it_has_and_names_itself(
    parts: Path, options: Options, mode: str, kept: float
) -> None:
    videos = {video: random.Random(video).randbytes(20_000) for video in ("2a", "2b", "2c", "2d")}
    whole = packed({name(video): content for video, content in videos.items()}, mode)
    (parts / "part_2.tar.gz").write_bytes(whole[: int(len(whole) * kept)])
    source = open_source(f"tar:{parts}", options())
    given = []
    for video, content in videos.items():
        try:
            assert source.locate(kinetics(video)).path.read_bytes() == content
            given.append(video)
        except CutShort as failure:
            assert "part_2.tar.gz is damaged" in str(failure)
    assert given == list(videos)[: len(given)]
    assert len(given) < 4
    if mode in ("w", "w:gz"):
        assert len(given) == int(len(whole) * kept) // (len(whole) // 4)
    assert source.locate(kinetics("1a")).path.read_bytes() == body("1a")
    assert not list((options().scratch or Path()).rglob("*.mp4.mp4"))


def test_garbage_in_the_middle_is_damage_and_not_the_end(parts: Path, options: Options) -> None:
    whole = bytearray(packed({name(v): body(v) for v in ("2a", "2b", "2c")}, "w"))
    start = whole.index(b"2b_0000")
    whole[start : start + 512] = b"\xff" * 512
    (parts / "part_2.tar.gz").write_bytes(whole)
    source = open_source(f"tar:{parts}", options())
    assert source.locate(kinetics("2a")).path.read_bytes() == body("2a")
    with pytest.raises(CutShort, match="damaged after 1 members"):
        source.locate(kinetics("2b"))


def test_a_part_is_read_front_to_back_for_fetch(parts: Path, options: Options) -> None:
    source = open_source(f"tar:{parts}", options(scratch_bytes=6000))
    assert isinstance(source, Sequential)
    wanted = {"1b_000010_000020": True, "1d_000010_000020": True, "2a_000010_000020": True}
    found = {}
    for part in source.parts()[0]:
        for member, located in source.members(part, wanted):
            found[member] = located.path.read_bytes()
            Sources([f"tar:{parts}"], options()).release(located)
    assert found == {member: body(member[:2]) for member in wanted}


def test_bare_names_are_full_videos_unless_declared(tmp_path: Path, options: Options) -> None:
    path = tmp_path / "full.tar"
    path.write_bytes(packed({"a.webm": b"film"}, "w"))
    for text, trimmed in ((f"tar:{path}", False), (f"trimmed:tar:{path}", True)):
        located = pickle.loads(pickle.dumps(open_source(text, options()))).locate(kinetics("a"))
        assert (located.trimmed, located.path.suffix) == (trimmed, ".webm")


def test_archives_of_a_server_are_read_across_broken_connections(
    server: Server, parts: Path, options: Options
) -> None:
    for file in parts.iterdir():
        server.files[f"/k400/{file.name}"] = file.read_bytes()
    listed = "\n".join([server.url + "/k400/part_0.tar.gz", "k400/part_1.tar.gz", "", "notes.md"])
    server.files["/k400_path.txt"] = listed.encode()
    server.faults["/k400/part_1.tar.gz"] = [http_server.cut(100), http_server.status(500)]
    source = open_source(f"tar:{server.url}/k400_path.txt", options())
    assert source.locate(kinetics("1d")).path.read_bytes() == body("1d")
    assert server.asked("/k400/part_1.tar.gz")[-1]["Range"] == "bytes=100-"
    with pytest.raises(NotInMirror):
        source.locate(kinetics("2a"))


def test_an_archive_that_changes_while_it_is_read_is_not_joined(
    server: Server, parts: Path, options: Options
) -> None:
    old, new = (parts / f"part_{number}.tar.gz" for number in (0, 1))
    server.files["/a.tar.gz"] = old.read_bytes()

    def change(handler: http_server.Handler) -> None:
        http_server.cut(100)(handler)
        server.files["/a.tar.gz"] = new.read_bytes()

    server.faults["/a.tar.gz"] = [change]
    with pytest.raises(CutShort, match="changed while it was read"):
        open_source(f"tar:{server.url}/a.tar.gz", options()).locate(kinetics("0a"))


def test_no_archive_is_a_usage_error(tmp_path: Path, options: Options) -> None:
    (tmp_path / "list.txt").write_text("nothing\n")
    for text in (tmp_path, tmp_path / "no.tar.gz", tmp_path / "list.txt"):
        with pytest.raises(UsageError, match="names no archive"):
            open_source(f"tar:{text}", options())


def test_a_local_list_names_its_archives(parts: Path, options: Options) -> None:
    (parts / "some.txt").write_text("part_0.tar.gz\npart_2.tar.gz\n")
    source = open_source(f"tar:{parts / 'some.txt'}", options())
    assert isinstance(source, TarSource)
    assert source.locate(kinetics("2a")).path.read_bytes() == body("2a")
    with pytest.raises(NotInMirror):
        source.locate(kinetics("1a"))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_that_claims_much_is_not_read_into_memory(
    tmp_path: Path, options: Options, kind: bytes
) -> None:
    claims = tarfile.TarInfo("x")
    claims.type, claims.size = kind, 1 << 32
    path = tmp_path / "a.tar"
    path.write_bytes(claims.tobuf() + bytes(10 * tarfile.BLOCKSIZE))
    with pytest.raises(CutShort, match="a header says that it has 4294967296 bytes"):
        open_source(f"tar:{path}", options()).locate(kinetics("0a"))


def test_a_long_name_is_still_read(tmp_path: Path, options: Options) -> None:
    deep = "folder/" * 30
    (tmp_path / "a.tar").write_bytes(packed({name("0a", deep): body("0a")}, "w"))
    assert open_source(f"tar:{tmp_path}", options()).locate(kinetics("0a")).size == 5000


@pytest.mark.parametrize(
    "line", ["file:///etc/x.tar", "c:x.tar", "ftp://host/x.tar", "http://[.tar"]
)
def test_a_remote_list_names_no_file_of_this_disk(
    server: Server, options: Options, line: str
) -> None:
    server.files["/list.txt"] = f"{line}\n".encode()
    with pytest.raises(UsageError, match="expected addresses of http or https"):
        open_source(f"tar:{server.url}/list.txt", options()).locate(kinetics("0a"))


def test_a_remote_list_has_an_end(
    server: Server, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar, "LIST_BYTES", 1000)
    server.files["/list.txt"] = b"a.tar\n" * 1000
    with pytest.raises(UsageError, match="longer than 1000 bytes"):
        open_source(f"tar:{server.url}/list.txt", options()).locate(kinetics("0a"))


def test_an_archive_that_a_list_names_is_there(parts: Path, options: Options) -> None:
    (parts / "some.txt").write_text("part_0.tar.gz\npart_9.tar.gz\n")
    with pytest.raises(UsageError, match=r"lists .*part_9\.tar\.gz, which is not there"):
        open_source(f"tar:{parts / 'some.txt'}", options())


def test_an_archive_that_goes_is_damage_and_no_refusal_for_good(
    parts: Path, options: Options
) -> None:
    source = open_source(f"tar:{parts}", options())
    assert source.locate(kinetics("0a")).size == 5000
    (parts / "part_1.tar.gz").unlink()
    assert source.locate(kinetics("2a")).size == 5000
    with pytest.raises(CutShort, match=r"part_1\.tar\.gz cannot be read: No such file"):
        source.locate(kinetics("1a"))


def test_an_archive_without_a_version_is_not_joined(
    server: Server, parts: Path, options: Options
) -> None:
    content = (parts / "part_0.tar.gz").read_bytes()

    def nameless(handler: http_server.Handler) -> None:
        start = int(handler.headers.get("Range", "bytes=0-")[6:-1])
        handler.send_response(206 if start else 200)
        if start:
            covered = f"bytes {start}-{len(content) - 1}/{len(content)}"
            handler.send_header("Content-Range", covered)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        handler.wfile.write(content[start : start or 100])
        handler.close_connection = True

    server.faults["/a.tar.gz"] = [nameless] * 10
    with pytest.raises(CutShort, match="does not say its version"):
        open_source(f"tar:{server.url}/a.tar.gz", options()).locate(kinetics("0a"))


def test_a_bare_member_is_told_from_a_segments_own(tmp_path: Path, options: Options) -> None:
    (tmp_path / "a.tar").write_bytes(packed({"0a.mp4": body("0a"), name("0b"): body("0b")}, "w"))
    source = open_source(f"trimmed:tar:{tmp_path}", options())
    assert isinstance(source, Sequential)
    names = {"0a": False, "0b_000010_000020": True}
    found = dict(source.members(source.parts()[0][0], names))
    assert [located.bare for located in found.values()] == [True, False]
    assert [source.locate(kinetics(video)).bare for video in ("0a", "0b")] == [True, False]
