"""Every dialect of the Kinetics lists, and every way a row goes wrong."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import manifests
from manifests import ManifestError, Reject, RowError, Segment, _jsonfile
from manifests._jsonfile import BLOCK_CHARACTERS, LONGEST_VALUE
from manifests._textfile import LONGEST_LINE

HEADER = "label,youtube_id,time_start,time_end,split\n"
ROW = "abseiling,0wR5jVB-WPk,417,427,val"
SEGMENT = Segment(
    video="0wR5jVB-WPk",
    start_ms=417_000,
    end_ms=427_000,
    labels=("abseiling",),
    split="val",
    line=2,
)


@pytest.fixture
def written(tmp_path):
    def write(text, name="kinetics400_val.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


@pytest.mark.parametrize(
    "text",
    [
        HEADER + ROW,
        HEADER + ROW + "\n",
        HEADER + ROW + "\n\n\n",
        (HEADER + ROW + "\n").replace("\n", "\r\n"),
        (HEADER + ROW + "\n").replace("\n", "\r"),
        b"\xef\xbb\xbf" + (HEADER + ROW).encode(),
        HEADER.replace(",", "\t") + ROW.replace(",", "\t"),
        HEADER.replace(",", ";") + ROW.replace(",", ";"),
        'label,youtube_id,time_start,time_end,split,is_cc\n"abseiling",0wR5jVB-WPk,417,427,val,0',
        '"label","youtube_id","time_start","time_end","split"\n'
        '"abseiling","0wR5jVB-WPk","417.0","427.0","validate"',
        "split,time_end,time_start,youtube_id,label\nvalidate,427,417,0wR5jVB-WPk,abseiling",
        "LABEL , YouTube_ID,time_start,time_end,split\n abseiling , 0wR5jVB-WPk , 417 , 427 , VAL ",
        HEADER + ROW + ",,,",
        'title,label,youtube_id,time_start,time_end,split\n"a ""b"",c",' + ROW,
    ],
    ids=["no last line end", "plain", "blank lines", "windows", "old mac", "byte order mark",
         "tabs", "semicolons", "is_cc and quotes", "all quoted, floats", "other order",
         "spaces and capitals", "empty columns beyond", "a column more"],
)  # fmt: skip
def test_dialects(written, text):
    manifest = manifests.load(written(text), strict=True)
    assert manifest.dataset == "kinetics"
    assert manifest.segments == (SEGMENT,)
    assert manifest.classes == ("abseiling",)


def test_without_header(written):
    (segment,) = manifests.load(written(ROW + "\n")).segments
    assert (segment.key, segment.line) == ("0wR5jVB-WPk_000417_000427", 1)


def test_test_list_without_labels(written):
    path = written("youtube_id,time_start,time_end,split\n--6bJUbfpnQ,17,27,test\n")
    manifest = manifests.load(path)
    assert manifest.segments[0].key == "--6bJUbfpnQ_000017_000027"
    assert (manifest.segments[0].labels, manifest.classes) == ((), ())


def test_line_ends_inside_quotes_keep_line_numbers(written):
    text = (
        "note,label,youtube_id,time_start,time_end,split\n"
        f'"two\nlines",{ROW}\n'
        "x,abseiling,0wR5jVB-WPj,9,3,val\n"
    )
    manifest = manifests.load(written(text))
    assert manifest.segments[0].line == 2
    assert manifest.rejects[0].where == "kinetics400_val.csv:4"


@pytest.mark.parametrize(
    ("row", "found", "remedy"),
    [
        ("a,0wR5jVB-WPk,38,12,val", "time_end 12.0 is not after time_start 38.0",
         "fix or delete the line"),
        ("a,0wR5jVB-WPk,12,12,val", "time_end 12.0 is not after time_start 12.0",
         "fix or delete the line"),
        ("a,0wR5jVB-WPk,nan,12,val", "time_start is 'nan', expected seconds as a finite number",
         "fix or delete the line"),
        ("a,0wR5jVB-WPk,1,inf,val", "time_end is 'inf', expected seconds as a finite number",
         "fix or delete the line"),
        ("a,0wR5jVB-WPk,-3,12,val", "time_start -3 is negative", "fix or delete the line"),
        ("a,0wR5jVB-WPk,1,12000000,val", "time_end 12000000 is later than 999999 s",
         "times are seconds, not milliseconds or frames"),
        ("a,0wR5jVB-WPk,1,,val", "time_end is empty, expected seconds", "fix or delete the line"),
        ("a,#NAME?,1,11,val", "youtube_id is '#NAME?', expected 11 letters, digits, '-' or '_'",
         "take the id from the original list (spreadsheets change ids that begin with '-')"),
        ("a,b,0wR5jVB-WPk,1,11,val", "the row has 6 columns, the header has 5",
         "quote fields that hold a comma, complete or delete the line"),
        ("a,0wR5jVB-WPk,1", "the row has 3 columns, the header has 5",
         "quote fields that hold a comma, complete or delete the line"),
        ("a\x07,0wR5jVB-WPk,1,11,val", "label is 'a\\x07', expected printable UTF-8 text",
         "save it as UTF-8"),
    ],
)  # fmt: skip
def test_refused_rows_say_where_what_and_what_to_do(written, row, found, remedy):
    path = written(f"{HEADER}{row}\n{ROW}\n")
    manifest = manifests.load(path)
    assert manifest.rejects == (Reject("kinetics400_val.csv:2", found, remedy, row),)
    assert [s.line for s in manifest] == [3]
    with pytest.raises(RowError) as caught:
        manifests.load(path, strict=True)
    assert str(caught.value) == f"kinetics400_val.csv:2: {found}; {remedy}"


def test_latin_1_spoils_only_its_row(written):
    manifest = manifests.load(
        written(HEADER.encode() + b"caf\xe9,0wR5jVB-WPj,1,2,val\n" + ROW.encode())
    )
    assert len(manifest) == 1
    assert manifest.rejects[0].where == "kinetics400_val.csv:2"
    assert manifest.rejects[0].remedy == "save it as UTF-8"


def test_a_quote_that_never_ends_is_one_refused_row(written):
    text = HEADER + '"' + ROW + "\n" + "x,0wR5jVB-WPk,417,427,val\n" * 3
    manifest_rows = list(manifests.stream(written(text), "kinetics"))
    assert [type(item) for item in manifest_rows] == [Reject]
    assert manifest_rows[0].where == "kinetics400_val.csv:2"
    huge = HEADER + ROW + '\n"' + "x,0wR5jVB-WPk,417,427,val\n" * 20_000 + "end"
    good, *refused = manifests.stream(written(huge))
    assert isinstance(good, Segment)
    assert "field larger than field limit" in refused[0].found


def test_repeated_segments_are_refused_and_name_the_first(written):
    other = ROW.replace("abseiling", "archery")
    path = written(f"{HEADER}{ROW}\n{ROW}\n{ROW.replace('427', '428')}\n{other}\n")
    manifest = manifests.load(path)
    assert [s.line for s in manifest] == [2, 4]
    assert [(r.where, r.found) for r in manifest.rejects] == [
        ("kinetics400_val.csv:3", "the same segment as line 2"),
        ("kinetics400_val.csv:5",
         "the same segment as line 2 with the label 'abseiling', here 'archery'"),
    ]  # fmt: skip
    assert manifest.rejects[0].text == "0wR5jVB-WPk_000417_000427"
    with pytest.raises(RowError, match=r"kinetics400_val.csv:3: the same segment as line 2"):
        manifests.load(path, strict=True)


def test_whole_list_errors(written, tmp_path):
    with pytest.raises(ManifestError, match="no such file or folder; check the path"):
        manifests.load(tmp_path / "absent.csv")
    with pytest.raises(ManifestError, match=r"no column time_end among label, youtube_id"):
        manifests.load(written("label,youtube_id,time_start\na,0wR5jVB-WPk,1\n"), "kinetics")
    with pytest.raises(ManifestError, match=r"no column youtube_id among none"):
        manifests.load(written(""), "kinetics")
    with pytest.raises(ManifestError, match="holds no row"):
        manifests.load(written(HEADER), "kinetics")
    with pytest.raises(ManifestError, match="none of its 1 rows can be used; the first"):
        manifests.load(written(HEADER + "a,0wR5jVB-WPk,2,1,val\n"))
    with pytest.raises(ManifestError, match="UTF-16, expected UTF-8; save it as UTF-8"):
        manifests.load(written((HEADER + ROW).encode("utf-16")))
    with pytest.raises(ManifestError, match="the file is binary"):
        manifests.load(written(b"\x00\x01\x02" * 100))
    with pytest.raises(ManifestError, match="no dataset 'kinetic400'; did you mean kinetics"):
        manifests.load(written(HEADER + ROW), "kinetic400")


def test_label_map_gives_the_order_and_refuses_strangers(written):
    classes = written("zumba\nabseiling\n", "map.txt")
    path = written(f"{HEADER}{ROW}\nzumbaa,0wR5jVB-WPj,1,11,val\n")
    manifest = manifests.load(path, f"kinetics:{classes}")
    assert manifest.classes == ("zumba", "abseiling")
    assert manifest.rejects[0].found == "label 'zumbaa' is not in the label map"


@pytest.mark.parametrize("indent", [None, 2])
def test_json(written, indent):
    entries = {
        "0wR5jVB-WPk": {
            "annotations": {"label": "abseiling", "segment": [417.0, 427.0]},
            "duration": 10.0,
            "subset": "validate",
            "url": "https://www.youtube.com/watch?v=0wR5jVB-WPk",
        },
        "--6bJUbfpnQ": {"annotations": {"segment": [17, 27.25]}, "subset": "test"},
        "-0Kz1lwvjdU": {"subset": "test"},
        "-0NIbu2PBlM": {"annotations": {"label": "a", "segment": [3]}},
        "bad": {"annotations": {"label": "a", "segment": [3, 4]}},
        "-0SUZKVInwE": {"annotations": {"label": "a", "segment": [float("nan"), 4]}},
    }
    path = written(json.dumps(entries, indent=indent), "kinetics400.json")
    manifest = manifests.load(path)
    assert [s.key for s in manifest] == ["0wR5jVB-WPk_000417_000427", "--6bJUbfpnQ_17000ms_27250ms"]
    assert manifest.segments[0].split == "val"
    assert manifest.segments[0].url.endswith("0wR5jVB-WPk")
    assert len(manifest.rejects) == 4
    assert "segment start is 'nan'" in manifest.rejects[3].found
    lines = [s.line for s in manifest]
    assert lines == ([1, 1] if indent is None else [2, 14])


def test_json_cut_short_is_an_error_with_its_line(written):
    entry = '"0wR5jVB-WPk": {"annotations": {"label": "a", "segment": [1, 2]}}'
    for text in ("{" + entry, "{" + entry + ",\n", "{\n" + entry[:30], "{" + entry + "]"):
        with pytest.raises(ManifestError, match=r"k\.json:\d: not JSON: .*; fetch the file again"):
            manifests.load(written(text, "k.json"), "kinetics")


def test_json_in_blocks_of_one_character(written, monkeypatch):
    monkeypatch.setattr(_jsonfile, "BLOCK_CHARACTERS", 1)
    text = ' {"a": 123, "b":[1.5e3, "x\\"}"], \n"c": {"d": null}, "e": -0.25 }'
    found = list(_jsonfile.members(written(text, "k.json")))
    assert found == [(1, ("a", 123)), (1, ("b", [1500.0, 'x"}'])), (2, ("c", {"d": None})),
                     (2, ("e", -0.25))]  # fmt: skip
    assert dict(member for _, member in found) == json.loads(text)


@pytest.mark.parametrize("inside", ["[" * 200_000, "1" * 5000, '"' + "x" * (LONGEST_VALUE + 9)])
def test_json_made_to_hurt_is_refused(written, inside):
    with pytest.raises(ManifestError, match=r"k\.json:1: not JSON: "):
        manifests.load(written('{"0wR5jVB-WPk": ' + inside, "k.json"), "kinetics")


def test_a_line_without_end_is_refused(written):
    with pytest.raises(ManifestError, match=r"\.csv:2: the line is longer than 1048576 characters"):
        list(manifests.stream(written(HEADER + "x" * (LONGEST_LINE + 1)), "kinetics"))


def test_streaming_takes_little_memory(written):
    path = written(HEADER + "".join(f"a,{k:011d},1,11,val\n" for k in range(20_000)))
    tracemalloc.start()
    try:
        assert sum(1 for _ in manifests.stream(path)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_json_larger_than_a_block(written):
    ids = [f"{k:011d}" for k in range(3000)]
    entries = {
        name: {"annotations": {"label": "é" * 20, "segment": [k, k + 1]}, "n": k}
        for k, name in enumerate(ids)
    }
    text = json.dumps(entries, ensure_ascii=False)
    assert len(text) > 2 * BLOCK_CHARACTERS
    manifest = manifests.load(written(text, "k.json"), strict=True)
    assert [s.video for s in manifest] == ids


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=300))
def test_any_text_gives_segments_rejects_or_a_manifest_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "list.csv"
    for beginning in ("", HEADER):
        path.write_text(beginning + text, encoding="utf-8", newline="")
        try:
            items = list(manifests.stream(path, "kinetics"))
        except ManifestError as error:
            assert str(error)
        else:
            assert all(isinstance(item, Segment | Reject) for item in items)


segments = st.builds(
    lambda video, start, length, names, split: Segment(
        video=video, start_ms=start, end_ms=start + length, labels=tuple(names), split=split
    ),
    st.from_regex(r"[A-Za-z0-9_-]{11}", fullmatch=True),
    st.integers(0, 600_000),
    st.integers(1, 20_000),
    st.lists(
        st.text(st.characters(categories=["L", "N"], include_characters="=+-@', ;()"), min_size=1)
        .map(str.strip)
        .filter(lambda s: s and s == s.strip('"')),
        max_size=3,
        unique=True,
    ),
    st.sampled_from(["train", "val", "test", ""]),
)


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(segments, min_size=1, max_size=8, unique_by=lambda s: s.key))
def test_what_is_written_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("back") / "list.csv"
    assert manifests.write_kinetics(path, rows) == len(rows)
    found = manifests.load(path, "kinetics", strict=True)
    assert [(s.key, s.labels, s.split) for s in found] == [(s.key, s.labels, s.split) for s in rows]
