"""Lists made to hurt: what is overlong, binary or doubled costs its row, not the run."""

import pytest

import manifests
from manifests import ManifestError
from manifests._companions import class_names
from manifests._segment import LONGEST_FIELD
from manifests._textfile import HEAD_CHARACTERS
from manifests.mmaction import divided

LONG = 100_000  # far below the longest line; patterns that backtrack would take hours on it


def rejects(path, text, dataset=None):
    path.write_text(text, encoding="utf-8")
    return [reject.found for reject in manifests.load(path, dataset).rejects]


@pytest.mark.parametrize("number", ["1" * LONG + "x", "." * LONG, "0" * LONG + "1"])
def test_overlong_numbers_are_refused_at_once(tmp_path, number):
    (found,) = rejects(tmp_path / "list.csv", f"video,start,end\na,0,1\nb,{number},2\n")
    assert found.startswith("start is ")
    assert found.endswith("expected seconds as a finite number")
    assert len(found) < 100


@pytest.mark.parametrize("rest", ["," * LONG + "x", " 1" * (LONG // 2) + "x", " 1" * (LONG // 2)])
def test_overlong_lines_of_mmaction_are_refused_at_once(tmp_path, rest):
    path = tmp_path / "k_val_list_videos.txt"
    (found,) = rejects(path, f"a.mp4 1\nb.mp4{rest}\n", "mmaction")
    assert f"characters, expected at most {LONGEST_FIELD}" in found
    assert divided("a.mp4" + "," * LONG + "x")[1] == []


@pytest.mark.parametrize(
    ("text", "video", "numbers"),
    [
        ("a b/c.mp4 10,2", "a b/c.mp4", [10, 2]),
        ("3 4", "3", [4]),
        ("a.mp4 1234567890", "a.mp4 1234567890", []),
        ("a1", "a1", []),
        ("12", "12", []),
        ("", "", []),
    ],
)
def test_a_line_of_mmaction_is_divided(text, video, numbers):
    assert divided(text) == (video, numbers)


@pytest.mark.parametrize("column", ["video", "label", "split", "group", "url"])
def test_overlong_fields_cost_their_row(tmp_path, column):
    row = {"video": "b", "label": "l", "split": "s", "group": "g", "url": "u"}
    row[column] = "x" * (LONGEST_FIELD + 1)
    header, cells = ",".join(row), ",".join(row.values())
    (found,) = rejects(tmp_path / "list.csv", f"{header}\na,l,s,g,u\n{cells}\n")
    assert f"{LONGEST_FIELD + 1} characters, expected at most {LONGEST_FIELD}" in found


def test_overlong_numbers_of_classes_cost_their_row(tmp_path):
    (tmp_path / "labels.txt").write_text("swim\n")
    address = "https://www.youtube.com/watch?v=AAAAAAAAAA"
    text = f"{address}A 0\n{address}B 0{',0' * LONGEST_FIELD}\n{address}C&{'x' * LONG} 0\n"
    assert len(rejects(tmp_path / "p.txt", text, "sports1m")) == 2


def test_a_nul_far_into_a_list_costs_its_row(tmp_path):
    rows = "".join(f"v{k},swim\n" for k in range(HEAD_CHARACTERS))
    (found,) = rejects(tmp_path / "list.csv", f"video,label\n{rows}a\0b,swim\n")
    assert "expected printable text" in found


def test_a_mark_of_byte_order_is_no_part_of_the_header(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b"\xef\xbb\xbfvideo,start,end\r\na,0,1\r\na,0,1\r\nb,nan,1\r\nc,0,inf\r\n")
    manifest = manifests.load(path)
    assert [segment.video for segment in manifest] == ["a"]
    assert [reject.where for reject in manifest.rejects] == [
        "list.csv:3", "list.csv:4", "list.csv:5",
    ]  # fmt: skip


def test_many_classes_are_read_quickly_and_blank_lines_end_them(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("".join(f"c{k}\n" for k in range(LONG)) + "\n \n")
    assert len(class_names(path)) == LONG
    for text, line, name in (("a\n\nb\n", 2, ""), ("a\nb\na\n", 3, "a"), ("a\nb\0\n", 2, "b\0")):
        path = tmp_path / f"{line}{len(text)}.txt"
        path.write_text(text)
        with pytest.raises(ManifestError, match=f":{line}: class name is ") as refusal:
            class_names(path)
        assert repr(name) in str(refusal.value)


def test_the_label_map_is_part_of_the_digest(tmp_path):
    path, names = tmp_path / "k.csv", tmp_path / "map.txt"
    path.write_text("label,youtube_id,time_start,time_end,split\nswim,-AAAAAAAAAA,1,2,val\n")
    digests = []
    for text in ("swim\n", "run\nswim\n"):
        names.write_text(text)
        digests.append(manifests.load(path, f"kinetics:{names}").sha256)
    assert digests[0] != digests[1]
