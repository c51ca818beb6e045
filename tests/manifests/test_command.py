"""``pipeline manifest``: what its four commands print and write."""

import csv
import json

import pytest
from click.testing import CliRunner

import manifests
from pipeline.cli.manifest import manifest as command
from pipeline.errors import ManifestError, UsageError

LIST = (
    "label,youtube_id,time_start,time_end,split\n"
    "swim,-AAAAAAAAAA,1,11,train\nswim,AAAAAAAAAAB,1,11,val\nrun,AAAAAAAAAAC,1,11,train\n"
    "run,AAAAAAAAAAC,1,11,train\nrun,AAAAAAAAAAD,5,2,train\n=cmd|x,bad,5,2,train\n"
)


@pytest.fixture
def listed(tmp_path):
    path = tmp_path / "kinetics400.csv"
    path.write_text(LIST)
    return path


def run(*arguments):
    result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_inspect(listed, tmp_path):
    rejects = tmp_path / "rejects.csv"
    text = run("inspect", listed, "--per-class", "--rejects", rejects)
    assert "segments    3" in text
    assert "  train     2" in text
    assert "refused     2 rows; 1 repeat an earlier segment" in text
    assert "kinetics400.csv:6: time_end 2.0 is not after time_start 5.0; fix or delete" in text
    assert "kinetics400.csv:5: the same segment as line 4; the first stays" in text
    assert "    1         2  swim" in text
    with rejects.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["where"] for row in rows] == ["kinetics400.csv:6", "kinetics400.csv:7"]
    assert rows[1]["text"].startswith("'=cmd|x")


def test_inspect_tells_what_is_unusual(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(
        "video,start,end,label,group\n"
        + "".join(f"v{k},,,c{k % 6}|d,g{k % 2}\n" for k in range(12))
        + "w,,,,g0\n"
        + "x,nan,,,\n" * 6
    )
    text = run("inspect", path)
    for said in ("whole       13 segments run to the end", "unlabelled  1", "multi-label 12",
                 "groups      2", "classes     7, of which 7 occur; median 2", "  ... up to 12 d",
                 "  ... --rejects FILE writes every refused row"):  # fmt: skip
        assert said in text
    path.write_text("video\na\n")
    assert "classes" not in run("inspect", path)


def test_inspect_as_json(listed):
    found = json.loads(run("inspect", listed, "--json"))
    assert (found["segments"], found["rejected"], found["repeated"]) == (3, 2, 1)
    assert list(found["classes"].items()) == [("run", 1), ("swim", 2)]


@pytest.mark.parametrize("form", ["kinetics", "generic", "jsonl"])
def test_convert(listed, tmp_path, form):
    output = tmp_path / f"out.{form}"
    text = run("convert", listed, "--to", form, "-o", output)
    assert text == f"4 segments in {output}; 2 rows left out\n"
    expected = [s.key for s in manifests.load(listed)]
    assert [s.key for s in manifests.load(output)] == expected


def test_convert_does_not_write_over_its_list(listed):
    with pytest.raises(UsageError, match="is the list that is read; name another file"):
        run("convert", listed, "-o", listed)
    assert listed.read_text() == LIST


def test_sample(listed, tmp_path):
    output = tmp_path / "small.csv"
    text = run("sample", listed, "--per-class", 1, "--to", "kinetics", "-o", output)
    assert f"2 segments of 2 classes in {output}" in text
    assert "3 rows of" in text and "are left out, the first: kinetics400.csv:5" in text
    assert {s.labels for s in manifests.load(output)} == {("run",), ("swim",)}
    run("sample", listed, "--per-class", 9, "--split", "val", "-o", output)
    assert [s.video for s in manifests.load(output)] == ["AAAAAAAAAAB"]
    with pytest.raises(UsageError, match="is in split 'test'; its splits are train, val"):
        run("sample", listed, "--per-class", 1, "--split", "test", "-o", output)


def test_split(listed, tmp_path):
    output = tmp_path / "divided.csv"
    text = run("split", listed, "--parts", "train=0.5, test=0.5", "-o", output)
    assert text.endswith(f" segments in {output}\n")
    divided = manifests.load(output)
    assert {s.split for s in divided} == {"train", "test"}
    with pytest.raises(UsageError, match=r"'test' is not NAME=SHARE; write train=0.8,val=0.2"):
        run("split", listed, "--parts", "train=0.5,test", "-o", output)
    with pytest.raises(ManifestError, match="make them add up to 1"):
        run("split", listed, "--parts", "train=0.5,test=0.4", "-o", output)


def test_help_teaches():
    for name in ("inspect", "convert", "sample", "split"):
        assert "FILE" in run(name, "--help")
