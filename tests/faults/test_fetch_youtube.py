"""The YouTube source, with yt-dlp's generic extractor against the server that misbehaves."""

import gc
import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from manifests._segment import Segment
from pipeline.errors import (
    CutShort,
    Forbidden,
    Gone,
    NetworkError,
    NotInMirror,
    NotVideo,
    RateLimited,
    SegmentFailure,
    TooLarge,
    UsageError,
)
from pipeline.sources import SourceOptions, Sources, open_source, youtube
from pipeline.sources.youtube import YoutubeSource
from tests.faults import http_server
from tests.faults.http_server import Server

pytest.importorskip("yt_dlp", reason="the extra [youtube] is not installed")

BODY = bytes(range(256)) * 400
PATH = "/-aBcDeFgHi_.mp4"
SEGMENT = Segment(video="-aBcDeFgHi_", start_ms=10_000, end_ms=20_000)
Make = Callable[..., YoutubeSource]


@pytest.fixture(autouse=True)
def sockets_of_yt_dlp() -> Iterator[None]:
    """Let the collector close, here and quietly, the sockets that yt-dlp leaves to it."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        running.files[PATH] = BODY
        yield running


@pytest.fixture
def source(server: Server, tmp_path: Path) -> Make:
    def make(**changes: object) -> YoutubeSource:
        quick = {
            "scratch": tmp_path / "scratch",
            "accounts": tmp_path / "accounts",
            "requests_per_second": 1000.0,
            "backoff_seconds": 0.01,
            "stall_seconds": 0.5,
            "deadline_seconds": 10.0,
            "attempts": 2,
        }
        options = SourceOptions(**{**quick, **changes})
        return YoutubeSource(options, server.url + "/{id}.mp4", "generic")

    return make


def test_a_video_comes_whole_and_leaves_nothing_behind(source: Make, tmp_path: Path) -> None:
    located = pickle.loads(pickle.dumps(source())).locate(SEGMENT)
    assert located.path.read_bytes() == BODY
    assert (located.trimmed, located.scratch, located.path.suffix) == (False, True, ".mp4")
    Sources(["youtube:"], SourceOptions()).release(located)
    assert [file.name for file in (tmp_path / "scratch").rglob("*") if file.is_file()] in (
        [".lock", ".lock"],
        [".lock"],
    )


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (http_server.status(404), Gone),
        (http_server.status(410), Gone),
        (http_server.status(403), Forbidden),
        (http_server.status(500), NetworkError),
        (http_server.page, NotVideo),
    ],
    ids=["404", "410", "403", "500", "html"],
)
def test_refusals_have_their_class(
    server: Server, source: Make, fault: http_server.Fault, kind: type[SegmentFailure]
) -> None:
    server.faults[PATH] = [fault] * 20
    with pytest.raises(SegmentFailure) as raised:
        source().locate(SEGMENT)
    assert type(raised.value) is kind


def test_a_body_cut_short_each_time_is_cut_short(server: Server, source: Make) -> None:
    def cut(handler: http_server.Handler) -> None:
        if "Range" in handler.headers or len(server.requests) > 1:
            http_server.cut(1000)(handler)
        else:
            handler.serve(BODY)

    server.faults[PATH] = [cut] * 20
    with pytest.raises(CutShort):
        source().locate(SEGMENT)


def test_a_429_pauses_the_whole_machine_and_is_not_counted(server: Server, source: Make) -> None:
    server.faults[PATH] = [http_server.status(429)] * 20
    with pytest.raises(RateLimited, match="a pause of 3600 s begins"):
        source().locate(SEGMENT)
    asked = len(server.requests)
    with pytest.raises(RateLimited, match="run again then"):
        source().locate(SEGMENT)
    assert len(server.requests) == asked


def test_sizes_are_capped_and_room_is_given_back(source: Make, tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        source(max_bytes=1000).locate(SEGMENT)
    assert not list((tmp_path / "scratch").rglob("*.mp4*"))


def test_only_ids_are_asked_for(server: Server, source: Make) -> None:
    for wrong in ("../../../x", "http://127.0.0.1/", "short", "-aBcDeFgHi_\u0661", "a b c d e f"):
        with pytest.raises(NotInMirror, match="no YouTube id"):
            source().locate(Segment(video=wrong))
    assert not server.requests


def test_other_extractors_and_files_are_refused(source: Make, tmp_path: Path) -> None:
    only_youtube = YoutubeSource(source()._remote.options, source().page, "youtube")
    with pytest.raises(SegmentFailure, match="No suitable extractor"):
        only_youtube.locate(SEGMENT)
    (tmp_path / "-aBcDeFgHi_.mp4").write_bytes(BODY)
    files = YoutubeSource(source()._remote.options, f"file://{tmp_path}/{{id}}.mp4", "generic")
    with pytest.raises(SegmentFailure, match="file://"):
        files.locate(SEGMENT)


def test_cookies_are_copied_and_secrets_are_not_shown(
    server: Server, source: Make, tmp_path: Path
) -> None:
    jar = tmp_path / "cookies.txt"
    jar.write_text("# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\ts3cret\n")
    before = jar.read_bytes()
    source(cookies=jar).locate(SEGMENT)
    assert server.asked(PATH)[-1]["Cookie"] == "session=s3cret"
    assert jar.read_bytes() == before
    proxy = tmp_path / "proxy"
    proxy.write_text("http://me:s3cret@127.0.0.1:9")
    with pytest.raises(NetworkError) as raised:
        source(proxy=proxy, attempts=1).locate(SEGMENT)
    assert "s3cret" not in repr(raised.value)
    assert "s3cret" not in repr(raised.value.__cause__)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="youtube: alone"):
        open_source("youtube:abc", SourceOptions())
    monkeypatch.setattr(youtube, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'action-features\[youtube\]'"):
        open_source("youtube:", SourceOptions())


def test_a_missing_runtime_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(youtube.shutil, "which", lambda *_, **__: None)
    open_source("youtube:", SourceOptions())
    assert "no JavaScript runtime" in caplog.text
