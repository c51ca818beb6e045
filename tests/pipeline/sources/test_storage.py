import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from manifests._segment import Segment
from pipeline.errors import (
    CutShort,
    DiskFull,
    Forbidden,
    Gone,
    NetworkError,
    NotVideo,
    Timeout,
    TooLarge,
    UsageError,
)
from pipeline.sources import SourceOptions, Sources, open_source, storage
from pipeline.sources.storage import StorageSource
from tests.faults import http_server
from tests.faults.http_server import Server

Options = Callable[..., SourceOptions]
SEGMENT = Segment(video="-a", start_ms=10_000, end_ms=20_000)
TEMPLATE = "memory://kinetics/val/{id}_{start:06d}_{end:06d}.mp4"
BODY = bytes(range(256)) * 100


@pytest.fixture
def bucket() -> Iterator[fsspec.AbstractFileSystem]:
    files = fsspec.filesystem("memory")
    files.pipe_file("/kinetics/val/-a_000010_000020.mp4", BODY)
    yield files
    files.store.clear()


def test_an_object_comes_in_ranges_and_leaves_no_trace(
    bucket: fsspec.AbstractFileSystem, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "RANGE_BYTES", 1000)
    sources = pickle.loads(pickle.dumps(Sources([TEMPLATE], options())))
    with sources.borrowed(SEGMENT) as located:
        assert located.path.read_bytes() == BODY
        assert located.trimmed
    assert not list((options().scratch or Path()).rglob("*.mp4*"))


def test_what_is_not_there_empty_or_too_large(
    bucket: fsspec.AbstractFileSystem, options: Options
) -> None:
    with pytest.raises(Gone, match=r"memory://kinetics/val/b_000010_000020\.mp4 is not there"):
        open_source(TEMPLATE, options()).locate(Segment(video="b", start_ms=10_000, end_ms=20_000))
    bucket.pipe_file("/kinetics/val/b_000010_000020.mp4", b"")
    with pytest.raises(NotVideo, match="empty"):
        open_source(TEMPLATE, options()).locate(Segment(video="b", start_ms=10_000, end_ms=20_000))
    with pytest.raises(TooLarge):
        open_source(TEMPLATE, options(max_bytes=100)).locate(SEGMENT)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermissionError("no"), Forbidden),
        (ConnectionResetError("reset"), NetworkError),
        (RuntimeError("event loop"), NetworkError),
    ],
)
def test_errors_of_a_file_system_have_their_class(
    bucket: fsspec.AbstractFileSystem,
    options: Options,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kind: type[Exception],
) -> None:
    def fails(*_: object, **__: object) -> bytes:
        raise error

    monkeypatch.setattr(type(bucket), "cat_file", fails)
    with pytest.raises(kind):
        open_source(TEMPLATE, options(attempts=2)).locate(SEGMENT)
    assert not list((options().scratch or Path()).rglob("*.mp4*"))


def test_what_passes_is_tried_again_and_a_short_answer_is_not_taken(
    bucket: fsspec.AbstractFileSystem, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[object] = [ConnectionResetError(), BODY[:-1], BODY]

    def flaky(*_: object, **__: object) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(type(bucket), "cat_file", flaky)
    assert open_source(TEMPLATE, options()).locate(SEGMENT).path.read_bytes() == BODY
    answers[:] = [BODY[:-1]] * 4
    with pytest.raises(CutShort, match="gave 25599 of 25600 bytes"):
        open_source(TEMPLATE, options()).locate(SEGMENT)


def test_scratch_is_respected(bucket: fsspec.AbstractFileSystem, options: Options) -> None:
    tight = options(scratch_bytes=len(BODY) + 1, deadline_seconds=0.3)
    sources = Sources([TEMPLATE], tight)
    with sources.borrowed(SEGMENT), pytest.raises(DiskFull):
        sources.locate(SEGMENT)


def test_a_missing_extra_names_its_remedy(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs s3fs: pip install 'action-features\[s3\]'"):
        open_source("s3://kinetics/{id}.mp4", options())


def test_chained_file_systems_are_refused(options: Options) -> None:
    with pytest.raises(UsageError, match="chains"):
        open_source("memory://{id}::file:///etc", options())


def test_s3_against_a_stand_in(
    server: Server, options: Options, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("s3fs", reason="the extra [s3] is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in storage.S3_CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    path = "/kinetics/val/-a_000010_000020.mp4"
    server.files[path] = BODY
    monkeypatch.setattr(storage, "RANGE_BYTES", 10_000)
    settings = {"endpoint_url": server.url}
    template = TEMPLATE.replace("memory", "s3")
    source = StorageSource(template, options(), settings)
    assert source.locate(SEGMENT).path.read_bytes() == BODY
    assert {"Range" in headers for headers in server.asked(path)} == {True, False}
    assert not any("Authorization" in headers for headers in server.asked(path))
    with pytest.raises(Gone):
        source.locate(Segment(video="b", start_ms=10_000, end_ms=20_000))
    server.faults[path] = [http_server.status(403)]
    with pytest.raises(Forbidden):
        StorageSource(template, options(), {**settings, "skip_instance_cache": True}).locate(
            SEGMENT
        )


def test_an_error_that_no_table_knows_is_one_of_the_network(
    bucket: fsspec.AbstractFileSystem, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoCredentialsError(Exception):
        """As botocore's: of no built-in class."""

    def refuse(*args: object, **more: object) -> None:
        raise NoCredentialsError

    monkeypatch.setattr(type(bucket), "info", refuse)
    with pytest.raises(NetworkError, match="NoCredentialsError"):
        open_source(TEMPLATE, options(attempts=2)).locate(SEGMENT)


def test_the_deadline_holds_for_a_server_that_is_merely_slow(
    bucket: fsspec.AbstractFileSystem, options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = type(bucket).cat_file

    def slow(*args: object, **more: object) -> bytes:
        time.sleep(0.05)
        content: bytes = real(*args, **more)
        return content

    monkeypatch.setattr(type(bucket), "cat_file", slow)
    monkeypatch.setattr(storage, "RANGE_BYTES", 1000)
    with pytest.raises(Timeout, match="not here by the deadline"):
        open_source(TEMPLATE, options(deadline_seconds=0.3)).locate(SEGMENT)
    assert not list((options().scratch or Path()).rglob("*.mp4*"))


@pytest.mark.parametrize(("template", "bare"), [("{id}", True), ("{id}_{start:06d}", False)])
def test_a_bare_name_is_told_from_a_segments_own(
    bucket: fsspec.AbstractFileSystem, options: Options, template: str, bare: bool
) -> None:
    for name in ("-a", "-a_000010"):
        bucket.pipe_file(f"/kinetics/{name}.mp4", BODY)
    text = f"trimmed:memory://kinetics/{template}.mp4"
    located = pickle.loads(pickle.dumps(open_source(text, options()))).locate(SEGMENT)
    assert (located.trimmed, located.bare) == (True, bare)
