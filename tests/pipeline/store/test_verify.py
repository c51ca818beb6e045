from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.cli import cli
from pipeline.cli.store import COMMANDS
from pipeline.errors import DamagedShard
from pipeline.provenance import Recipe
from pipeline.store import FailureRow, FeatureStore, RecipeShards, Store, intake, layout, verify

for command in COMMANDS:
    cli.add_command(command)


@pytest.fixture
def filled(shards, make_row):
    """Two parts of one bucket."""
    shards.commit(0, [make_row("a"), make_row("b", rows=0)], [], {})
    shards.commit(0, [make_row("c")], [FailureRow("d", "gone", "404", 1)], {})
    return shards


def out_of(shards: RecipeShards) -> Path:
    return shards.folder.parent


def damage(shards: RecipeShards) -> list[str]:
    return [finding.found for finding in verify(out_of(shards)).findings if finding.damage]


def test_a_sound_store_has_no_findings(filled):
    report = verify(out_of(filled))
    assert not report.findings and not report.damaged
    assert (report.recipes, report.shards, report.segments, report.failures) == (1, 2, 3, 1)
    assert report.rows == 6


def test_every_flipped_byte_is_noticed_or_harmless(filled):
    """Whatever byte changes: either verify reports damage or every number reads as before."""
    path = filled.shards / "00000.0001.h5"
    content = path.read_bytes()
    before = intake.read_tables(path)
    harmless = 0
    for place in range(0, len(content), 13):
        spoilt = bytearray(content)
        spoilt[place] ^= 0x55
        path.write_bytes(spoilt)
        if damage(filled):
            continue
        harmless += 1
        after = intake.read_tables(path)
        assert after.items.tobytes() == before.items.tobytes()
        assert after.failures.tobytes() == before.failures.tobytes()
        assert (after.offsets == before.offsets).all()
        vectors, seconds = FeatureStore(out_of(filled))["zoo:net"]["c"]
        assert layout.checksum(vectors, seconds) == before.items["crc32"][0]
    assert harmless < len(content) / 13 * 0.6, "most bytes carry meaning"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_truncated_shard_is_damage_everywhere(filled, share):
    path = filled.shards / "00000.0000.h5"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    findings = [finding for finding in verify(out_of(filled)).findings if finding.damage]
    assert [finding.file for finding in findings] == [str(path)]
    assert "delete the file and run the same `pipeline extract` again" in findings[0].remedy
    with pytest.raises(DamagedShard, match=r"00000\.0000\.h5"):
        filled.committed(save=False)
    path.unlink()
    assert not damage(filled)
    assert set(filled.committed().done) == {"c"}, "its segments are to do again"


def test_a_flipped_feature_is_damage_and_reading_it_is_refused(filled):
    path = filled.shards / "00000.0000.h5"
    with h5py.File(path, "r") as file:
        offset = file["features"].id.get_offset()
    content = bytearray(path.read_bytes())
    content[offset + 5] ^= 1
    path.write_bytes(content)
    assert "CRC-32" in damage(filled)[0]
    with pytest.raises(DamagedShard, match="segment a has CRC-32"):
        FeatureStore(out_of(filled))["zoo:net"]["a"]


def test_foreign_and_misplaced_shards_are_damage(tmp_path, make_row):
    store = Store.create(tmp_path, buckets=2)
    mine, other = (RecipeShards.create(tmp_path, Recipe(name, {})) for name in ("mine", "other"))
    bucket = store.bucket("a")
    name = mine.commit(bucket, [make_row("a")], [], {}).shard
    shutil.copy(mine.shards / name, other.shards / name)
    shutil.copy(mine.shards / name, mine.shards / f"{1 - bucket:05d}.0000.h5")
    with h5py.File(mine.shards / "00000.0007.h5", "w") as file:
        file["features"] = np.zeros(3)
    found = [finding.found for finding in verify(tmp_path).findings if finding.damage]
    assert len(found) == 3
    assert any(f"recipe {mine.digest}" in text for text in found)
    assert any(f"written for bucket {bucket}" in text for text in found)
    assert any("format is None" in text for text in found)


def test_a_segment_in_two_parts_is_damage_unless_its_video_was_replaced(filled, make_row):
    def put(part: int, row: object) -> None:
        heading = layout.Heading(bucket=0, recipe_digest=filled.digest, footer={})
        content = layout.encode(heading, [row], [])
        (filled.shards / f"00000.{part:04d}.h5").write_bytes(content)

    put(2, make_row("a", source_size=99))
    assert not damage(filled)
    assert any("replaced since" in finding.found for finding in verify(out_of(filled)).findings)
    put(3, make_row("c"))
    assert damage(filled) == ["segment c is also in 00000.0001.h5"]
    assert set(filled.committed().done) == {"a", "b", "c"}, "readers still see each once"


def test_leftovers_and_strangers_are_notes(filled):
    (filled.shards / ".00000.0009.h5.host-1-x.tmp").touch()
    (filled.shards / "notes.txt").touch()
    report = verify(out_of(filled))
    assert not report.damaged
    assert [finding.found for finding in report.findings] == [
        "fresh temporary file",
        "a file that nobody reads",
    ]


def test_values_that_are_not_finite_are_noted(shards, make_row):
    row = make_row("a")
    row.features.vectors[1, 1] = np.nan
    shards.commit(0, [row], [], {})
    (finding,) = verify(out_of(shards)).findings
    assert "not finite" in finding.found and not finding.damage


def test_a_lost_or_edited_recipe_is_damage(filled):
    path = filled.folder / "recipe.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "settings": {}}))
    assert "was edited" in damage(filled)[0]
    path.unlink()
    assert "not there" in damage(filled)[0]


def test_a_shard_that_goes_while_it_is_opened_is_gone_and_not_damaged(filled, monkeypatch):
    path = filled.shards / "00000.0000.h5"

    def compacted_meanwhile(*args: object, **more: object) -> None:
        path.unlink()
        raise OSError("can't retrieve stat info for file")

    monkeypatch.setattr(h5py, "File", compacted_meanwhile)
    with pytest.raises(FileNotFoundError):
        intake.read_tables(path)


def link_out(file: h5py.File) -> None:
    file.move("features", "hidden")
    file["features"] = h5py.SoftLink("/hidden")


def link_external(file: h5py.File) -> None:
    del file["features"]
    file["features"] = h5py.ExternalLink("/etc/hostname", "/features")


def make_virtual(file: h5py.File) -> None:
    shape = file["features"].shape
    file.move("features", "hidden")
    made = h5py.VirtualLayout(shape=shape, dtype="<f4")
    made[...] = h5py.VirtualSource(file["hidden"])
    file.create_virtual_dataset("features", made)


def store_outside(file: h5py.File) -> None:
    shape = file["features"].shape
    del file["features"]
    file.create_dataset("features", shape, "<f4", external=[("/etc/hostname", 0, 4096)])


def compress(file: h5py.File) -> None:
    data = file["features"][:]
    del file["features"]
    file.create_dataset("features", data=data, compression="gzip")


def retype(file: h5py.File) -> None:
    data = file["features"][:]
    del file["features"]
    file["features"] = data.astype("<f8")


def reshape(file: h5py.File) -> None:
    data = file["features"][:]
    del file["features"]
    file["features"] = data[:-1]


def replace_by_group(file: h5py.File) -> None:
    del file["seconds"]
    file.create_group("seconds")


def not_complete(file: h5py.File) -> None:
    del file.attrs["complete"]


def drop_column(file: h5py.File) -> None:
    items = file["items"][:]
    names = [name for name in items.dtype.names if name != "label"]
    del file["items"]
    file["items"] = items[names]


@pytest.mark.parametrize(
    "spoil",
    [
        link_out,
        link_external,
        make_virtual,
        store_outside,
        compress,
        retype,
        reshape,
        replace_by_group,
        not_complete,
        drop_column,
    ],
)
def test_nothing_is_taken_on_trust(filled, spoil):
    path = filled.shards / "00000.0000.h5"
    with h5py.File(path, "r+") as file:
        spoil(file)
    with pytest.raises(DamagedShard, match=r"00000\.0000\.h5"):
        intake.read_tables(path)
    assert damage(filled)


@pytest.mark.parametrize("place", [30, 200, -40, -10])
def test_a_spoilt_index_is_made_again(filled, place):
    filled.committed()
    path = filled.folder / "index.npz"
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    assert set(filled.committed().done) == {"a", "b", "c"}


def test_a_stale_index_is_never_believed(filled, make_row):
    assert set(filled.committed().done) == {"a", "b", "c"}
    (filled.shards / "00000.0001.h5").unlink()
    assert set(filled.committed().done) == {"a", "b"}
    filled.commit(0, [make_row("e"), make_row("f")], [], {})
    known = filled.committed()
    assert set(known.done) == {"a", "b", "e", "f"} and not known.failures


def test_a_read_only_store_can_be_read(filled, monkeypatch):
    def refuse(*args: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    assert set(filled.committed().done) == {"a", "b", "c"}
    assert not (filled.folder / "index.npz").exists()
    assert len(os.listdir(filled.folder)) == 2


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    status = cli.main(list(arguments), standalone_mode=False)
    return status, capsys.readouterr().out


def test_commands_say_what_is_there_and_exit_3_on_damage(filled, capsys):
    out = str(out_of(filled))
    status, text = run("status", out, capsys=capsys)
    assert not status
    assert "3 done, 1 failed" in text and "gone 1" in text and "walk 3" in text
    assert "last run" not in text
    run_folder = out_of(filled) / "runs" / "r7"
    run_folder.mkdir(parents=True)
    summary = {"run": "r7", "done": 3, "left": 2, "without_video": 5, "segments": 11}
    (run_folder / "summary.json").write_text(json.dumps(summary))
    status, text = run("status", out, capsys=capsys)
    assert "last run r7: 3 done, 2 left, 5 without a video of 11 segments" in text
    status, text = run("verify", out, capsys=capsys)
    assert status == 0 and "0 damaged, 0 notes" in text
    (filled.shards / "00000.0000.h5").write_bytes(b"")
    status, text = run("verify", out, capsys=capsys)
    assert status == 3 and "damage: " in text and "delete the file" in text
