"""Any table or JSON lines, and a folder of videos."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import manifests
from manifests import ManifestError, Segment


def test_only_video_is_required(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("video\ncooking/pan-01.mp4\n\n-x\n")
    manifest = manifests.load(path)
    assert manifest.dataset == "generic"
    assert manifest.segments == (
        Segment(video="cooking/pan-01.mp4", line=2),
        Segment(video="-x", line=4),
    )
    assert manifest.segments[0].key == "cooking/pan-01.mp4_000000_end"


def test_every_column_as_csv_and_as_json_lines(tmp_path):
    table = tmp_path / "list.csv"
    table.write_text(
        "video,start,end,label,split,group,url\n"
        'cooking/pan-01.mp4,0,12.5,flip|fry,training,"kitchen 1",https://example.org/a.mp4\n'
    )
    lines = tmp_path / "list.jsonl"
    lines.write_text(
        '{"video": "cooking/pan-01.mp4", "start": 0, "end": 12.5, "label": ["flip", "fry"], '
        '"split": "train", "group": "kitchen 1", "url": "https://example.org/a.mp4", "x": [1]}\n'
    )
    (one,), (other,) = manifests.load(table).segments, manifests.load(lines).segments
    assert one == Segment(
        video="cooking/pan-01.mp4", end_ms=12_500, labels=("flip", "fry"), split="train",
        group="kitchen 1", url="https://example.org/a.mp4", line=2,
    )  # fmt: skip
    assert (other.key, other.labels, other.group, other.url) == (
        one.key, one.labels, one.group, one.url,
    )  # fmt: skip


def test_wrong_json_lines(tmp_path):
    path = tmp_path / "list.jsonl"
    path.write_text(
        '{"video": "a", "end": 1}\n{"video": "b", "end": true}\n{"video": "c"\n["d"]\n'
        '{"video": ["e"]}\n{"end": 1}\n{"video": "f", "start": NaN}\n{"video": "g", "end": null}\n'
    )
    manifest = manifests.load(path)
    assert [s.video for s in manifest] == ["a", "g"]
    assert [r.where.partition(":")[2] for r in manifest.rejects] == ["2", "3", "4", "5", "6", "7"]
    assert "expected a JSON object" in manifest.rejects[2].found
    assert "video id is ''" in manifest.rejects[4].found


def test_columns_of_other_lists_are_understood(tmp_path):
    path = tmp_path / "clips.csv"
    path.write_text("file,label,class_id,group\nset1/0_1_4.avi,punch,4,seq01\n")
    (segment,) = manifests.load(path).segments
    assert segment == Segment(video="set1/0_1_4.avi", labels=("punch",), group="seq01", line=2)


def test_a_number_of_rows_is_no_video(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("id,path,label\n7,a/b.mp4,swim\n")
    assert manifests.load(path).segments[0].video == "a/b.mp4"


def test_no_column_of_videos(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("start,end\n1,2\n")
    with pytest.raises(ManifestError, match=r"list.csv:1: no column of videos among start, end"):
        manifests.load(path, "generic")
    with pytest.raises(ManifestError, match="looks like none of the known datasets; say which"):
        manifests.load(path)
    path.write_text("")
    with pytest.raises(ManifestError, match="the file is empty"):
        manifests.load(path, "generic")


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz"])
def test_compressed_lists_and_damaged_ones(tmp_path, suffix):
    import bz2
    import gzip
    import lzma

    packed = {".gz": gzip, ".bz2": bz2, ".xz": lzma}[suffix].compress(b"video\n" + b"abc\n" * 9)
    path = tmp_path / f"list.csv{suffix}"
    path.write_bytes(packed)
    assert len(list(manifests.stream(path))) == 9
    path.write_bytes(packed[:-6])
    with pytest.raises(ManifestError, match="reading stopped"):
        list(manifests.stream(path, "generic"))


def test_folder(tmp_path):
    for name in ("b.mp4", "train/swim/-a.webm", "val/swim/c.AVI", "swim/d.mkv", "test/e.mov",
                 ".hidden.mp4", "swim/notes.txt", "x/.cache/f.mp4",
                 "deep/er/label/g.mp4"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "swim" / "circle").symlink_to(tmp_path, target_is_directory=True)
    manifest = manifests.load(tmp_path)
    assert manifest.dataset == "folder"
    assert [(s.video, s.labels, s.split) for s in manifest] == [
        ("b.mp4", (), ""),
        ("deep/er/label/g.mp4", ("label",), ""),
        ("swim/d.mkv", ("swim",), ""),
        ("test/e.mov", (), "test"),
        ("train/swim/-a.webm", ("swim",), "train"),
        ("val/swim/c.AVI", ("swim",), "val"),
    ]
    before = manifest.sha256
    (tmp_path / "swim" / "d.mkv").rename(tmp_path / "swim" / "h.mkv")
    assert manifests.load(tmp_path).sha256 != before


def test_folder_with_a_name_that_is_not_text(tmp_path):
    (tmp_path / "a.mp4").touch()
    with open(os.fsencode(tmp_path) + b"/caf\xe9.mp4", "wb"):
        manifest = manifests.load(tmp_path)
    assert len(manifest) == 1
    assert "expected printable text" in manifest.rejects[0].found


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(ManifestError, match="Permission denied; check permissions"):
        list(manifests.stream(tmp_path, "folder"))


def test_folder_without_videos(tmp_path):
    with pytest.raises(ManifestError, match="holds no video file"):
        manifests.load(tmp_path)
    (tmp_path / "x.csv").write_text("video\na\n")
    with pytest.raises(ManifestError, match="not a folder"):
        manifests.load(tmp_path / "x.csv", "folder")


words = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=12)
names = words.map(lambda word: word.replace("|", "/").strip('"')).filter(bool)
rows = st.builds(
    lambda video, start, length, names, split, group: Segment(
        video=video,
        start_ms=start,
        end_ms=None if length is None else start + length,
        labels=tuple(names),
        split=split,
        group=group,
    ),
    words,
    st.integers(0, 600_000),
    st.none() | st.integers(1, 20_000),
    st.lists(names, max_size=3, unique=True),
    st.sampled_from(["train", "val", "test", ""]),
    words | st.just(""),
)


@settings(max_examples=100, deadline=None)
@given(listed=st.lists(rows, min_size=1, max_size=8, unique_by=lambda s: s.key))
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_what_is_written_is_read_back(tmp_path_factory, form, listed):
    path = tmp_path_factory.mktemp("back") / f"list.{form}"
    write = manifests.write_generic if form == "csv" else manifests.write_jsonl
    assert write(path, listed) == len(listed)
    found = manifests.load(path, "generic", strict=True)

    def said(segment):
        return segment.key, segment.labels, segment.split, segment.group

    assert [said(s) for s in found] == [said(s) for s in listed]
