"""What every source promises, whatever it is: asked over all the modules of the package."""

import gc
import io
import pickle
import tarfile
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import fsspec
import pytest

from manifests import Segment
from pipeline.errors import FAILURES, SegmentFailure
from pipeline.sources import Located, Source, SourceOptions, Sources, names, syntax
from pipeline.sources.tar import TarSource
from pipeline.sources.youtube import YoutubeSource
from tests.faults.http_server import Server

VIDEO = "-AbCdEfGh_1"
FILE = f"{VIDEO}_000010_000020.mp4"
HERE = Segment(video=VIDEO, start_ms=10_000, end_ms=20_000)
BODY = bytes(range(256)) * 64


@pytest.fixture(autouse=True)
def sockets_of_yt_dlp() -> Iterator[None]:
    """Let the collector close, here and quietly, the sockets that yt-dlp leaves to it."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def options(tmp_path: Path) -> SourceOptions:
    return SourceOptions(
        scratch=tmp_path / "scratch",
        accounts=tmp_path / "accounts",
        allow_private=True,
        requests_per_second=1000.0,
        backoff_seconds=0.01,
        stall_seconds=0.5,
        attempts=2,
    )


@pytest.fixture(params=names())
def source(
    request: pytest.FixtureRequest, tmp_path: Path, options: SourceOptions
) -> Iterator[Source]:
    """Each source, holding one video of one segment."""
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / FILE).write_bytes(BODY)
    with tarfile.open(tmp_path / "part.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo(FILE)
        info.size = len(BODY)
        archive.addfile(info, io.BytesIO(BODY))
    with Server() as server:
        server.files[f"/{FILE}"] = server.files[f"/{VIDEO}.mp4"] = BODY
        files = fsspec.filesystem("memory")
        files.pipe_file(f"/bucket/{FILE}", BODY)
        yield {
            "local": lambda: module("local").make(str(folder), options),
            "http": lambda: module("http").make(
                server.url + "/{id}_{start:06d}_{end:06d}.mp4", options
            ),
            "tar": lambda: module("tar").make(f"tar:{tmp_path / 'part.tar.gz'}", options),
            "storage": lambda: module("storage").make(
                "memory://bucket/{id}_{start:06d}_{end:06d}.mp4", options
            ),
            "youtube": lambda: _youtube(options, server),
        }[request.param]()
        files.store.clear()


def _youtube(options: SourceOptions, server: Server) -> Source:
    pytest.importorskip("yt_dlp", reason="the extra [youtube] is not installed")
    return YoutubeSource(options, server.url + "/{id}.mp4", "generic")


def module(name: str) -> ModuleType:
    return import_module(f"pipeline.sources.{name}")


def test_it_gives_what_it_has(source: Source, options: SourceOptions, tmp_path: Path) -> None:
    located = source.locate(HERE)
    assert isinstance(located, Located)
    assert located.path.is_absolute()
    assert located.path.read_bytes() == BODY
    assert located.size == len(BODY)
    assert located.trimmed is not isinstance(source, YoutubeSource)
    assert located.scratch is not source.local
    if located.scratch:
        assert located.mtime_ns == 0
        assert located.path.is_relative_to(tmp_path / "scratch")
    Sources([str(tmp_path)], options).release(located)
    assert located.path.exists() is source.local


@pytest.mark.parametrize(
    "absent", ["-AbCdEfGh_2", "yoga/-AbCdEfGh_2", "a b", "x" * 300, "\u540d\u524d"]
)
def test_what_it_has_not_is_a_failure_with_a_class(source: Source, absent: str) -> None:
    segment = Segment(video=absent, start_ms=10_000, end_ms=20_000)
    with pytest.raises(SegmentFailure) as raised:
        source.locate(segment)
    assert FAILURES[raised.value.code] is type(raised.value)
    assert raised.value.detail
    assert pickle.loads(pickle.dumps(raised.value)).detail == raised.value.detail


@pytest.mark.parametrize(
    "hostile",
    ["../../etc/passwd", "/etc/passwd", "$(id)", "`id`", "-rf", "..", "a%2e%2e", "{id}", "%s"],
)
def test_a_hostile_id_finds_nothing(source: Source, hostile: str) -> None:
    with pytest.raises(SegmentFailure):
        source.locate(Segment(video=hostile, start_ms=10_000, end_ms=20_000))


def test_it_travels(source: Source) -> None:
    copy = pickle.loads(pickle.dumps(source))
    assert copy.local is source.local
    assert copy.locate(HERE).path.read_bytes() == BODY


def test_a_failure_leaves_no_scratch_behind(source: Source, tmp_path: Path) -> None:
    with pytest.raises(SegmentFailure):
        source.locate(Segment(video="-AbCdEfGh_2", start_ms=10_000, end_ms=20_000))
    left = {path.name for path in (tmp_path / "scratch").rglob("*") if path.is_file()} - {".lock"}
    if isinstance(source, TarSource):  # what it passed on its way is staged, and paid for
        staged = {name for name in left if not name.endswith(".reserved")}
        assert left == staged | {f"{name}.reserved" for name in staged}
    else:
        assert not left


@pytest.mark.parametrize("name", names())
def test_its_module_declares_what_it_must(name: str) -> None:
    found = module(name)
    assert found.SCHEMES
    assert all(isinstance(scheme, str) for scheme in found.SCHEMES)
    assert syntax()[name] == found.SYNTAX
    assert found.__doc__
    assert found.make.__doc__


def test_no_two_sources_claim_one_scheme() -> None:
    schemes = [scheme for name in names() for scheme in module(name).SCHEMES]
    assert len(schemes) == len(set(schemes))
