import os
import pickle
import time
from pathlib import Path

import pytest

from manifests._segment import Segment
from pipeline.errors import Ambiguous, UsageError, VideoMissing
from pipeline.sources import SourceOptions, Sources, check_is_one, names, open_source, syntax
from pipeline.sources.local import LocalSource


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def kinetics(video: str, start: int = 10, end: int = 20) -> Segment:
    return Segment(video=video, start_ms=start * 1000, end_ms=end * 1000)


@pytest.mark.parametrize(
    ("file", "segment", "trimmed"),
    [
        ("abc.mp4", kinetics("abc"), False),
        ("-_b.MKV", kinetics("-_b"), False),
        ("abc_000010_000020.webm", kinetics("abc"), True),
        ("yoga/abc_000010_000020.mp4", kinetics("abc"), True),
        ("train/yoga/abc.mp4", kinetics("abc"), False),
        ("a.b.mp4", kinetics("a.b"), False),
        ("abc_500ms_2000ms.mp4", Segment(video="abc", start_ms=500, end_ms=2000), True),
        ("yoga/x.avi", Segment(video="yoga/x.avi"), False),
        ("x.avi", Segment(video="yoga/x.avi"), False),
        ("train/yoga/x.avi", Segment(video="yoga/x.avi"), False),
        ("x.mkv", Segment(video="x.avi"), False),
        ("x_000001_000002.mkv", Segment(video="x.avi", start_ms=1000, end_ms=2000), True),
    ],
)
def test_the_name_of_a_file_says_what_it_is(
    tmp_path: Path, file: str, segment: Segment, trimmed: bool
) -> None:
    touch(tmp_path, file)
    located = LocalSource(tmp_path).locate(segment)
    assert located.path == tmp_path / file
    assert located.trimmed is trimmed
    assert (located.size, located.scratch) == (len(file), False)
    assert located.mtime_ns == located.path.stat().st_mtime_ns


def test_bare_names_of_a_declared_folder_are_trimmed(tmp_path: Path) -> None:
    touch(tmp_path, "abc.mp4")
    source = open_source(f"trimmed:{tmp_path}", SourceOptions())
    assert source.locate(kinetics("abc")).trimmed


def test_the_exact_segment_is_preferred_to_the_full_video(tmp_path: Path) -> None:
    source = LocalSource(touch(tmp_path, "abc.mp4", "abc_000010_000020.mp4"))
    assert source.locate(kinetics("abc")).path.name == "abc_000010_000020.mp4"
    assert source.locate(kinetics("abc", 30, 40)).path.name == "abc.mp4"


@pytest.mark.parametrize(
    "missing",
    [
        kinetics("abd"),
        kinetics("abc.mp3"),
        Segment(video="archery/abc"),
        Segment(video="../abc"),
        Segment(video="/etc/passwd"),
        Segment(video="notes"),
    ],
)
def test_what_no_file_is_named_is_missing(tmp_path: Path, missing: Segment) -> None:
    source = LocalSource(touch(tmp_path / "videos", "yoga/abc.mp4", "notes.txt"))
    with pytest.raises(VideoMissing, match="no file under"):
        source.locate(missing)


def test_several_files_for_one_id_are_ambiguous_until_a_path_tells_them_apart(
    tmp_path: Path,
) -> None:
    source = LocalSource(touch(tmp_path, "a/x.mp4", "b/x.mp4", "b/x.mkv"))
    with pytest.raises(Ambiguous, match="3 files"):
        source.locate(Segment(video="x"))
    with pytest.raises(Ambiguous, match="2 files"):
        source.locate(Segment(video="b/x"))
    assert source.locate(Segment(video="b/x.mkv")).path.name == "x.mkv"
    assert source.locate(Segment(video="a/x")).path.parent.name == "a"
    assert source.locate(Segment(video="x.mkv")).path.name == "x.mkv"


def test_a_shallow_path_wins_over_deeper_ones_when_it_is_written_whole(tmp_path: Path) -> None:
    source = LocalSource(touch(tmp_path, "a/x.mp4", "old/a/x.mp4"))
    assert source.locate(Segment(video="a/x.mp4")).path == tmp_path / "a/x.mp4"


def test_links_count_inside_the_root_only(tmp_path: Path) -> None:
    root = touch(tmp_path / "videos", "a/real.mp4")
    outside = touch(tmp_path / "elsewhere", "secret.mp4")
    (root / "alias.mp4").symlink_to(root / "a/real.mp4")
    (root / "leak.mp4").symlink_to(outside / "secret.mp4")
    (root / "broken.mp4").symlink_to(root / "nothing.mp4")
    (root / "loop").symlink_to(root)
    (root / "b").mkdir()
    (root / "b/real.mp4").symlink_to(root / "a/real.mp4")
    source = LocalSource(root)
    assert source.locate(Segment(video="alias")).path == root / "a/real.mp4"
    assert source.locate(Segment(video="real")).path == root / "a/real.mp4"
    with pytest.raises(VideoMissing, match="outside the folder"):
        source.locate(Segment(video="leak"))
    with pytest.raises(VideoMissing, match="No such file"):
        source.locate(Segment(video="broken"))


def test_pipes_are_no_videos_and_a_deleted_file_is_missing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    source = LocalSource(touch(tmp_path, "gone.mp4", "here.mp4"))
    assert source.locate(Segment(video="here")).size == 8
    (tmp_path / "gone.mp4").unlink()
    for video in ("pipe", "gone"):
        with pytest.raises(VideoMissing):
            source.locate(Segment(video=video))


def test_a_root_that_is_no_folder_is_a_usage_error(tmp_path: Path) -> None:
    touch(tmp_path, "file.mp4")
    with pytest.raises(UsageError, match="is a file; expected a folder"):
        open_source(str(tmp_path / "file.mp4"), SourceOptions())
    with pytest.raises(UsageError, match="is not there"):
        open_source(str(tmp_path / "nothing"), SourceOptions())


def test_an_unknown_scheme_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"did you mean trimmed:"):
        open_source("trimed:videos", SourceOptions())


def test_every_module_says_how_it_is_written() -> None:
    assert "local" in names()
    assert all(len(line) > 10 for line in syntax().values())


def test_sources_are_asked_in_order_and_travel(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.mp4", "two/a.mp4", "two/b.mp4")
    sources = Sources([str(tmp_path / "one"), f"trimmed:{tmp_path / 'two'}"], SourceOptions())
    for copy in (sources, pickle.loads(pickle.dumps(sources))):
        assert copy.local
        assert copy.locate(Segment(video="a")).path.parent.name == "one"
        assert copy.locate_on_disk(Segment(video="b")).trimmed
        with pytest.raises(VideoMissing):
            copy.locate(Segment(video="c"))
    with sources.borrowed(Segment(video="a")) as located:
        assert located.path.exists()
    assert located.path.exists()


def test_a_local_source_travels_by_its_root(tmp_path: Path) -> None:
    source = pickle.loads(pickle.dumps(LocalSource(touch(tmp_path, "a.mp4"), trimmed=True)))
    assert source.locate(Segment(video="a")).trimmed


@pytest.mark.slow
def test_three_hundred_thousand_files_are_read_in_one_quick_scan(tmp_path: Path) -> None:
    for label in range(300):
        folder = tmp_path / f"label{label}"
        folder.mkdir()
        for number in range(1000):
            (folder / f"{label:03d}_{number:07d}_000010_000020.mp4").touch()
    source = LocalSource(tmp_path)
    started = time.perf_counter()
    assert source.locate(kinetics("007_0000007")).trimmed
    print(f"300,000 files scanned in {time.perf_counter() - started:.2f} s")
    assert len(source._index) == 300_000


def test_what_is_no_regular_file_is_missing(tmp_path: Path) -> None:
    root = touch(tmp_path / "videos", "folder/x.txt")
    os.mkfifo(tmp_path / "videos" / ".pipe")
    for name, target in (("pipe.mp4", ".pipe"), ("dir.mp4", "folder"), ("self.mp4", "self.mp4")):
        (root / name).symlink_to(target)
    source = LocalSource(root)
    for name in ("pipe", "dir", "self"):
        with pytest.raises(VideoMissing, match=rf"{name}\.mp4 (is a link|cannot be read)"):
            source.locate(kinetics(name))


def test_links_in_a_circle_beside_a_file_do_no_harm(tmp_path: Path) -> None:
    root = touch(tmp_path, "a/x.mp4", "b/y.mp4")
    (root / "b" / "x.mp4").symlink_to("x.mp4")
    with pytest.raises(Ambiguous, match="2 files"):
        LocalSource(root).locate(kinetics("x"))


def test_a_folder_that_cannot_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = LocalSource(touch(tmp_path, "a/x.mp4"))

    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UsageError, match="Permission denied; expected a folder that can be read"):
        source.locate(kinetics("x"))


def test_a_trimmed_file_under_a_bare_name_is_one_segment_and_nothing_says_which(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "abc.mp4", "abc_000050_000060.mp4")
    source = open_source(f"trimmed:{tmp_path}", SourceOptions())
    bare, own = source.locate(kinetics("abc")), source.locate(kinetics("abc", 50, 60))
    full = LocalSource(tmp_path).locate(kinetics("abc"))
    assert (bare.bare, own.bare, full.bare) == (True, False, False)
    check_is_one(own, kinetics("abc", 50, 60))
    check_is_one(full, kinetics("abc"))
    with pytest.raises(Ambiguous, match="name the file of this one 'abc_000010_000020'"):
        check_is_one(bare, kinetics("abc"))
    with pytest.raises(Ambiguous, match="give the full video"):
        check_is_one(bare, Segment(video="abc"))
