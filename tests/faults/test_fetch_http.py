"""The HTTP source against a server that misbehaves: every fault has its class, no byte is wrong."""

import contextlib
import hashlib
import pickle
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from manifests._segment import Segment
from pipeline.errors import (
    Blocked,
    CutShort,
    DiskFull,
    Forbidden,
    Gone,
    NetworkError,
    NotVideo,
    RateLimited,
    SegmentFailure,
    Timeout,
    TooLarge,
    UsageError,
)
from pipeline.sources import SourceOptions, Sources, _address, _download, _http, open_source
from tests.faults import http_server
from tests.faults.http_server import Server

BODY = bytes(range(256)) * 2000
SEGMENT = Segment(video="-a_b", start_ms=10_000, end_ms=20_000)
PATH = "/-a_b_000010_000020.mp4"
Options = Callable[..., SourceOptions]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        running.files[PATH] = BODY
        yield running


@pytest.fixture
def options(tmp_path: Path) -> Options:
    def make(**changes: object) -> SourceOptions:
        quick = {
            "scratch": tmp_path / "scratch",
            "accounts": tmp_path / "accounts",
            "allow_private": True,
            "requests_per_second": 1000.0,
            "backoff_seconds": 0.01,
            "stall_seconds": 0.4,
            "deadline_seconds": 10.0,
        }
        return SourceOptions(**{**quick, **changes})

    return make


def brought(server: Server, options: SourceOptions) -> bytes:
    sources = Sources([server.url + "/{id}_{start:06d}_{end:06d}.mp4"], options)
    with sources.borrowed(SEGMENT) as located:
        assert (located.trimmed, located.scratch, located.mtime_ns) == (True, True, 0)
        body = located.path.read_bytes()
        assert located.size == len(body)
    assert not located.path.exists()
    return body


def failure(server: Server, options: SourceOptions) -> SegmentFailure:
    with pytest.raises(SegmentFailure) as raised:
        brought(server, options)
    assert not list((options.scratch or Path()).rglob("*.mp4*")), "room was not given back"
    return raised.value


def test_a_file_comes_whole_and_leaves_no_trace(server: Server, options: Options) -> None:
    assert brought(server, options()) == BODY
    assert not list((options().scratch or Path()).rglob("*.part"))
    assert server.asked(PATH)[0]["Host"] == server.url.removeprefix("http://")


@pytest.mark.parametrize(
    "faults",
    [
        [http_server.status(500), http_server.status(502)],
        [http_server.status(429, Retry_After="1")],
        [http_server.cut(1000), http_server.cut(2000)],
        [http_server.cut(0)],
        [http_server.stall(70_000)],
        [http_server.without_length],
        [http_server.redirect(PATH)],
        [http_server.status(503, Retry_After="0")],
    ],
    ids=["500-twice", "429", "cut-twice", "cut-at-0", "stall", "no-length", "redirect", "503"],
)
def test_what_passes_is_waited_out(
    server: Server, options: Options, faults: list[http_server.Fault]
) -> None:
    server.faults[PATH] = faults
    assert brought(server, options()) == BODY
    assert not server.faults[PATH], "not every fault was met"


def test_a_body_cut_short_is_resumed_and_not_begun_anew(server: Server, options: Options) -> None:
    server.faults[PATH] = [http_server.cut(200_000)]
    assert brought(server, options()) == BODY
    first, second = server.asked(PATH)
    assert "Range" not in first
    assert second["Range"] == "bytes=200000-"
    assert second["If-Range"] == http_server.tag(BODY)


def test_versions_are_never_joined(server: Server, options: Options) -> None:
    new = BODY[::-1]
    server.faults[PATH] = [http_server.cut(200_000), http_server.other_version(new)]
    assert brought(server, options()) == BODY
    assert len(server.asked(PATH)) == 3


def test_a_version_that_changed_begins_anew(server: Server, options: Options) -> None:
    new = BODY[::-1]

    def change(handler: http_server.Handler) -> None:
        http_server.cut(200_000)(handler)
        server.files[PATH] = new

    server.faults[PATH] = [change]
    assert brought(server, options()) == new


def test_a_part_that_outgrew_the_file_begins_anew(server: Server, options: Options) -> None:
    kept = options(parts=(options().scratch or Path()) / "parts", attempts=1)
    server.faults[PATH] = [http_server.cut(len(BODY) - 1)]
    assert isinstance(failure(server, kept), CutShort)
    part = next((kept.parts or Path()).glob("*.part"))
    part.write_bytes(BODY + b"more")
    assert brought(server, options(parts=kept.parts, attempts=2)) == BODY


def test_a_part_is_taken_up_by_the_next_run(server: Server, options: Options) -> None:
    kept = options(parts=(options().scratch or Path()) / "parts", attempts=1)
    server.faults[PATH] = [http_server.cut(300_000)]
    assert isinstance(failure(server, kept), CutShort)
    assert brought(server, kept) == BODY
    assert server.asked(PATH)[-1]["Range"] == "bytes=300000-"
    assert not list((kept.parts or Path()).iterdir())


@pytest.mark.parametrize(
    ("fault", "kind", "asked"),
    [
        (http_server.status(404), Gone, 1),
        (http_server.status(410), Gone, 1),
        (http_server.status(403), Forbidden, 1),
        (http_server.status(401), Forbidden, 1),
        (http_server.page, NotVideo, 1),
        (http_server.disguised_page, NotVideo, 1),
        (http_server.status(500), NetworkError, 3),
        (http_server.cut(0), CutShort, 3),
        (http_server.stall(10), Timeout, 3),
        (http_server.redirect("ftp://127.0.0.1/x"), Blocked, 1),
        (http_server.redirect("file:///etc/passwd"), Blocked, 1),
        (http_server.redirect(PATH), NetworkError, 18),
    ],
    ids=[
        "404",
        "410",
        "403",
        "401",
        "html",
        "disguised",
        "500",
        "cut",
        "stall",
        "ftp",
        "file",
        "loop",
    ],
)
def test_what_does_not_pass_has_its_class(
    server: Server,
    options: Options,
    fault: http_server.Fault,
    kind: type[SegmentFailure],
    asked: int,
) -> None:
    server.faults[PATH] = [fault] * 20
    assert type(failure(server, options(attempts=3))) is kind
    assert len(server.asked(PATH)) == asked


def test_a_long_pause_is_handed_back_and_kept_by_the_next_run(
    server: Server, options: Options
) -> None:
    server.faults[PATH] = [http_server.status(429, Retry_After="3600")]
    for _ in range(2):
        refused = failure(server, options())
        assert isinstance(refused, RateLimited)
        assert refused.max_attempts > 1000
        assert "ends in 3600 s" in str(refused) or "ends in 3599 s" in str(refused)
    assert len(server.asked(PATH)) == 1


def test_a_private_address_is_refused_before_it_is_asked(server: Server, options: Options) -> None:
    with pytest.raises(Blocked, match=r"127\.0\.0\.1, which is not a public address"):
        brought(server, options(allow_private=False))
    assert not server.requests


@pytest.mark.parametrize("inside", ["169.254.169.254", "127.0.0.2", "[::1]", "10.0.0.1"])
def test_a_redirect_to_a_private_address_is_refused(
    server: Server, options: Options, monkeypatch: pytest.MonkeyPatch, inside: str
) -> None:
    monkeypatch.setattr(_address, "is_public", lambda address: address == "127.0.0.1")
    server.faults[PATH] = [http_server.redirect(f"http://{inside}:{server.server_port}{PATH}")]
    with pytest.raises(Blocked, match="which is not a public address"):
        brought(server, options(allow_private=False))
    assert len(server.requests) == 1


@pytest.mark.parametrize("limit", [{"max_bytes": 1000}, {"scratch_bytes": 1000}])
@pytest.mark.parametrize("fault", [[], [http_server.without_length]])
def test_sizes_are_capped(
    server: Server, options: Options, limit: dict[str, int], fault: list[http_server.Fault]
) -> None:
    server.faults[PATH] = list(fault)
    assert isinstance(failure(server, options(**limit)), TooLarge)


def test_a_drip_ends_at_the_deadline(server: Server, options: Options) -> None:
    server.faults[PATH] = [http_server.drip] * 9
    started = time.monotonic()
    assert isinstance(failure(server, options(deadline_seconds=0.6)), Timeout)
    assert time.monotonic() - started < 3


def test_a_server_that_is_not_there_is_a_network_error(options: Options) -> None:
    with Server() as stopped:
        address = stopped.url
    source = open_source(address + "/{id}.mp4", options(attempts=2))
    with pytest.raises(NetworkError, match=r"/-a_b\.mp4: no connection .*refused"):
        source.locate(SEGMENT)


def test_a_full_scratch_hands_the_work_back(server: Server, options: Options) -> None:
    tight = options(scratch_bytes=len(BODY) + 1000, deadline_seconds=0.3)
    sources = Sources([server.url + "/{id}_{start:06d}_{end:06d}.mp4"], tight)
    with sources.borrowed(SEGMENT), pytest.raises(DiskFull, match="came free in 0 s"):
        sources.locate(SEGMENT)
    with sources.borrowed(SEGMENT) as located:
        assert located.size == len(BODY)


def test_the_address_may_come_from_the_manifest(server: Server, options: Options) -> None:
    source = open_source("{url}", options())
    located = source.locate(Segment(video="x", url=server.url + PATH))
    assert (located.path.read_bytes(), located.trimmed) == (BODY, False)
    with pytest.raises(SegmentFailure, match="has no URL"):
        source.locate(Segment(video="x"))


def test_cookies_go_to_their_server_only_and_secrets_are_not_shown(
    server: Server, options: Options, tmp_path: Path
) -> None:
    jar = tmp_path / "cookies.txt"
    jar.write_text(
        "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\ts3cret\n"
        "example.org\tFALSE\t/\tFALSE\t0\tother\ts3cret\n"
    )
    server.faults[PATH] = [http_server.status(403)]
    refused = failure(server, options(cookies=jar))
    assert server.asked(PATH)[0]["Cookie"] == "session=s3cret"
    assert "s3cret" not in repr(refused)
    signed = Segment(video="x", url=server.url + "/no.mp4?token=s3cret")
    with pytest.raises(Gone) as gone:
        open_source("{url}", options()).locate(signed)
    assert "s3cret" not in str(gone.value)


def test_a_proxy_is_named_by_file_and_asked_instead(
    server: Server, options: Options, tmp_path: Path
) -> None:
    proxy = tmp_path / "proxy"
    proxy.write_text(server.url.replace("//", "//me:s3cret@") + "\n")
    address = "http://videos.invalid/x.mp4"
    server.files[address] = BODY
    source = open_source("http://videos.invalid/{id}.mp4", options(proxy=proxy))
    assert source.locate(Segment(video="x")).path.read_bytes() == BODY
    assert server.asked(address)[0]["Proxy-Authorization"].startswith("Basic ")
    proxy.write_text("s3cret nonsense")
    with pytest.raises(UsageError) as raised:
        open_source("http://videos.invalid/{id}.mp4", options(proxy=proxy)).locate(SEGMENT)
    assert "s3cret" not in str(raised.value)


def test_a_source_travels(server: Server, options: Options) -> None:
    source = open_source(server.url + "/{id}_{start:06d}_{end:06d}.mp4", options())
    copy = pickle.loads(pickle.dumps(source))
    assert copy.locate(SEGMENT).path.read_bytes() == BODY


HUGE = "9" * 5000


@pytest.mark.parametrize(
    "fault",
    [
        http_server.status(429, Retry_After=HUGE),
        http_server.redirect("http://[::1/a.mp4"),
        http_server.status(206, Content_Range=f"bytes {HUGE}-{HUGE}/{HUGE}"),
    ],
    ids=["retry-after", "redirect", "range"],
)
def test_headers_made_to_confuse_are_failures_of_the_video(
    server: Server, options: Options, fault: http_server.Fault
) -> None:
    server.faults[PATH] = [fault] * 10
    assert isinstance(failure(server, options()), (RateLimited, Blocked, CutShort))


def test_a_length_beyond_all_numbers_is_no_length(server: Server, options: Options) -> None:
    def endless(handler: http_server.Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", HUGE)
        handler.end_headers()
        handler.wfile.write(BODY)
        handler.close_connection = True

    server.faults[PATH] = [endless]
    assert brought(server, options()) == BODY


def test_a_date_beyond_all_calendars_is_no_date() -> None:
    for text in ("Mon, 01 Jan 2020 00:00:00 +99999999999999", "Fri, 99 Jan 20000 00:00:00 GMT"):
        assert _http._retry_after(text) is None


def test_a_name_beyond_ascii_is_asked_for_as_servers_know_it(
    server: Server, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loopback(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(_address.socket, "getaddrinfo", loopback)
    port = server.server_port
    source = open_source(
        f"http://例え.example:{port}/{{id}}_{{start:06d}}_{{end:06d}}.mp4", options()
    )
    assert source.locate(SEGMENT).size == len(BODY)
    assert server.asked(PATH)[0]["Host"] == f"xn--r8jz45g.example:{port}"
    with pytest.raises(Blocked, match="no server that can be"):
        open_source("http://a..b/{id}.mp4", options()).locate(SEGMENT)


def test_a_note_without_a_version_joins_nothing(
    server: Server, options: Options, tmp_path: Path
) -> None:
    url = server.url + PATH
    part = tmp_path / "parts" / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.part"
    part.parent.mkdir()
    for note in ('{"validator": ""}', "[]", "7"):
        part.write_bytes(BODY[::-1][:1000])
        part.with_suffix(".note").write_text(note)
        assert brought(server, options(parts=tmp_path / "parts")) == BODY
    assert not list((tmp_path / "parts").iterdir())


def test_a_second_pen_leaves_nothing_behind(
    server: Server, options: Options, tmp_path: Path
) -> None:
    parts = tmp_path / "parts"
    url = server.url + PATH
    with _download._Part(parts, url) as first:
        server.faults[PATH] = [http_server.cut(1000)]
        failure(server, options(parts=parts, attempts=1))
        assert [path.name for path in parts.iterdir()] == [first.path.name]


def test_a_finished_file_s_name_is_not_taken_from_the_next_worker(tmp_path: Path) -> None:
    with _download._Part(tmp_path, "http://host/a") as first:
        whole = first.finished()
        with _download._Part(tmp_path, "http://host/a") as second:
            assert second.path == first.path
            first.__exit__()
            assert second.path.exists() and whole.exists()


@pytest.mark.parametrize("beginning", [b"HTTP/1.1 200 OK\r\n", b""], ids=["headers", "status"])
def test_headers_that_drip_are_not_waited_for_without_end(
    server: Server, options: Options, beginning: bytes
) -> None:
    def drip(handler: http_server.Handler) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(beginning)
            while not handler.server.stopping.wait(0.05):
                handler.wfile.write(b"X")
        handler.close_connection = True

    server.faults[PATH] = [drip] * 4
    started = time.monotonic()
    assert isinstance(failure(server, options(attempts=2)), Timeout)
    assert time.monotonic() - started < 5
