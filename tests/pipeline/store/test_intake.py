"""Shards written by others or by older versions, and shards that this machine fails to read."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.cli import cli
from pipeline.cli.store import COMMANDS
from pipeline.errors import DamagedShard, StoreError
from pipeline.store import (
    FeatureStore,
    RecipeShards,
    SegmentRow,
    Store,
    compact,
    intake,
    layout,
    publish,
    verify,
)

for command in COMMANDS:
    cli.add_command(command)

Make = Callable[..., SegmentRow]
MEASURED = {"width_px": 340, "height_px": 256, "stream_index": 1, "video_streams": 2}


@pytest.fixture
def filled(shards: RecipeShards, make_row: Make) -> RecipeShards:
    """One part with three segments."""
    shards.commit(0, [make_row(name, **MEASURED) for name in "abc"], [], {})
    return shards


def out_of(shards: RecipeShards) -> Path:
    return shards.folder.parent


def rewrite(file: h5py.File, name: str, data: np.ndarray) -> None:
    """Replace a table, checksum and all: not damage by chance but a lie."""
    del file[name]
    file[name] = data
    tables = (file[table][:] for table in ("offsets", "items", "failures"))
    file.attrs["tables_crc32"] = layout.tables_checksum(*tables)


def claim_more_than_there_is(file: h5py.File) -> None:
    kind = file["failures"].dtype
    del file["failures"]
    file.create_dataset("failures", (10**12,), kind)  # room that is never allocated


def type_a_number_as_text(file: h5py.File) -> None:
    items = file["items"][:]
    types = [(n, "S3" if n == "source_size" else items.dtype[n]) for n in items.dtype.names]
    rewrite(file, "items", items.astype(types))


def add_an_axis(file: h5py.File) -> None:
    rewrite(file, "items", file["items"][:].reshape(-1, 1))


def overflow_the_offsets(file: h5py.File) -> None:
    rewrite(file, "offsets", np.array([0, 2**63 - 1, -2, 9]))


def replace_numbers(file: h5py.File) -> None:
    file.attrs["replaces"] = json.dumps([[1]])


def sign_with_a_list(file: h5py.File) -> None:
    file.attrs["footer"] = json.dumps([1, 2])


def have_rows_of_nothing(file: h5py.File) -> None:
    del file["features"]
    file["features"] = np.zeros((9, 0), "<f4")


@pytest.mark.parametrize(
    "lie",
    [
        claim_more_than_there_is,
        type_a_number_as_text,
        add_an_axis,
        overflow_the_offsets,
        replace_numbers,
        sign_with_a_list,
        have_rows_of_nothing,
    ],
)
def test_a_lie_with_a_right_checksum_is_damage(
    filled: RecipeShards, lie: Callable[[h5py.File], None]
) -> None:
    path = filled.shards / "00000.0000.h5"
    with h5py.File(path, "r+") as file:
        lie(file)
    with pytest.raises(DamagedShard, match=r"00000\.0000\.h5"):
        intake.read_tables(path)
    assert verify(out_of(filled)).damaged


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EIO])
def test_what_this_machine_fails_to_read_is_not_called_damaged(
    filled: RecipeShards, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise OSError(number, "Unable to synchronously open file (...)")

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(StoreError, match=os.strerror(number)) as raised:
        filled.committed(save=False)
    assert not isinstance(raised.value, DamagedShard)
    (finding,) = verify(out_of(filled)).findings
    assert finding.damage and "keep it" in finding.remedy and "delete" not in finding.remedy


def test_pictures_and_streams_come_back(filled: RecipeShards) -> None:
    items = FeatureStore(out_of(filled))["zoo:net"].items
    for name, value in MEASURED.items():
        assert items[name].tolist() == [value] * 3


@pytest.fixture
def old(shards: RecipeShards, make_row: Make, monkeypatch: pytest.MonkeyPatch) -> RecipeShards:
    """A store as it was written before `layout.LATER_NUMBERS`, index and all."""
    with monkeypatch.context() as before:
        numbers = {k: v for k, v in layout.ITEM_NUMBERS.items() if k not in layout.LATER_NUMBERS}
        before.setattr(layout, "ITEM_NUMBERS", numbers)
        before.setattr(layout, "STORED_ITEM_NUMBERS", numbers | layout.CHECKSUM)
        before.setattr(layout, "LATER_NUMBERS", ())
        shards.commit(0, [make_row("a"), make_row("b")], [], {})
        shards.committed()
    with h5py.File(shards.shards / "00000.0000.h5") as file:
        assert "width_px" not in file["items"].dtype.names
    assert (shards.folder / "index.npz").exists()
    return shards


def test_a_shard_of_the_older_layout_reads_with_unknown_columns(
    old: RecipeShards, make_row: Make
) -> None:
    old.commit(0, [make_row("c", **MEASURED)], [], {})
    features = FeatureStore(out_of(old))["zoo:net"]
    assert features.keys() == ("a", "b", "c")
    assert features.items["width_px"].tolist() == [0, 0, 340]
    assert features.items["video_streams"].tolist() == [0, 0, 2]
    np.testing.assert_array_equal(features["b"].vectors, make_row("b").features.vectors)
    assert not verify(out_of(old)).findings


def test_the_index_of_an_older_version_is_made_again(old: RecipeShards) -> None:
    assert set(old.committed().done) == {"a", "b"}
    assert FeatureStore(out_of(old))["zoo:net"].items["height_px"].tolist() == [0, 0]


def test_old_and_new_shards_merge(old: RecipeShards, make_row: Make) -> None:
    old.commit(0, [make_row("c", **MEASURED)], [], {})
    compact(old)
    assert os.listdir(old.shards) == ["00000.0002.h5"]
    assert FeatureStore(out_of(old))["zoo:net"].items["height_px"].tolist() == [0, 0, 256]
    assert not verify(out_of(old)).findings


def test_a_file_named_almost_like_a_shard_stands_in_nobodys_way(
    filled: RecipeShards, make_row: Make
) -> None:
    for name in ("0.7.h5", "00000.٣.h5", f"00000.{'9' * 30}.h5"):
        (filled.shards / name).write_bytes(b"stranger")
    filled.commit(0, [make_row("d")], [], {})
    assert set(filled.committed().done) == set("abcd")
    report = verify(out_of(filled))
    assert [finding.found for finding in report.findings] == ["a file that nobody reads"] * 3


def test_a_shard_may_replace_only_those_of_its_bucket(filled: RecipeShards, make_row: Make) -> None:
    heading = layout.Heading(
        bucket=0, recipe_digest=filled.digest, replaces=("00001.0000.h5",), footer={}
    )
    content = layout.encode(heading, [make_row("d")], [])
    (filled.shards / "00000.0001.h5").write_bytes(content)
    (finding,) = verify(out_of(filled)).findings
    assert finding.damage and "it replaces 00001.0000.h5" in finding.found


def test_lost_shards_are_said_and_not_a_traceback(
    filled: RecipeShards, capsys: pytest.CaptureFixture[str]
) -> None:
    (filled.shards / "00000.0000.h5").unlink()
    filled.shards.rmdir()
    out = str(out_of(filled))
    for arguments in (["status", out], ["compact", out], ["export", out, f"{out}.h5"]):
        with pytest.raises(StoreError, match=r"shards: No such file .* put it back"):
            cli.main(arguments, standalone_mode=False)
    assert cli.main(["verify", out], standalone_mode=False) == 3


def test_a_spoilt_summary_is_no_reason_to_fail(
    filled: RecipeShards, capsys: pytest.CaptureFixture[str]
) -> None:
    run = out_of(filled) / "runs" / "r1"
    run.mkdir(parents=True)
    for content in ("{", "[1]", ""):
        (run / "summary.json").write_text(content)
        assert not cli.main(["status", str(out_of(filled))], standalone_mode=False)
        text = capsys.readouterr().out
        assert "3 done" in text and "summary.json cannot be read" in text


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_is_said(
    filled: RecipeShards, make_row: Make, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: object, mode: str = "r", *args: object, **more: object) -> object:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(StoreError, match=r"shards: cannot be written .* make it writable"):
        filled.commit(0, [make_row("d")], [], {})


def test_a_file_in_the_way_of_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(StoreError, match="a file is in its way"):
            Store.create(out, 1)


def test_the_claim_of_a_dead_creator_does_not_hold_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*args: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    claim = tmp_path / "store.json.claim"
    claim.touch()
    past = claim.stat().st_mtime - 2 * publish.STALE_SECONDS
    os.utime(claim, (past, past))
    assert Store.create(tmp_path, 5).buckets == 5


@pytest.mark.parametrize("call", ["open", "preadv"])
def test_rows_that_this_machine_fails_to_read_are_not_called_damaged(
    filled: RecipeShards, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    features = FeatureStore(out_of(filled))["zoo:net"]
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(StoreError, match=r"00000\.0000\.h5: cannot be read \(Input/output error\)"):
        features["a"]
