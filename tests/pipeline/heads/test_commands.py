"""``pipeline train`` and ``pipeline compare`` on a small store."""

from __future__ import annotations

import csv
import json
import re

import click
import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.cli.train import compare, train
from pipeline.errors import UsageError
from pipeline.frames import Features
from pipeline.heads import checkpoint
from pipeline.heads._cost import extraction_times
from pipeline.heads._load import Wanted, load
from pipeline.provenance import Recipe
from pipeline.store import FeatureStore, RecipeShards, SegmentRow, Store

RGB, FLOW = "efficientnet-lite0", "efficientnet-lite0-flow"
CLASSES = ("fold", "pull", "wave")


def table_of(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def rows_of(path):
    names, *rows = table_of(path)
    return [dict(zip(names, row, strict=True)) for row in rows]


def run(command, *args):
    return CliRunner().invoke(command, [str(a) for a in args], catch_exceptions=False)


def test_train_tests_on_whole_groups_and_writes_everything(feature_store, tmp_path):
    folder = tmp_path / "head"
    result = run(train, "-f", feature_store, "-e", FLOW, "--head", "average", "-c", folder)
    assert result.exit_code == 0
    assert "30 segments, 120 rows" in result.output
    note = json.loads((folder / "head.json").read_text())
    assert note["figures"]["segments"] == 30
    assert note["figures"]["top1"] > 0.9
    assert note["recipes"][0]["extractor"] == FLOW
    assert note["training"]["folds"] == [f"fold {k}" for k in range(1, 6)]
    rows = rows_of(folder / "predictions.csv")
    assert len(rows) == 30
    fold_of = {}
    for row in rows:
        group = int(row["key"][1:3]) // 6
        assert fold_of.setdefault(group, row["fold"]) == row["fold"]
    right = sum(row["label"] == row["predicted"] for row in rows) / 30
    assert right == pytest.approx(note["figures"]["top1"])
    counts = table_of(folder / "confusion.csv")
    assert sum(int(cell) for row in counts[1:] for cell in row[1:]) == 30
    assert not (folder / "working").exists()


def test_the_trained_head_predicts_a_stored_segment(feature_store, tmp_path):
    folder = tmp_path / "head"
    run(train, "-f", feature_store, "-e", RGB, "-e", FLOW, "--head", "late-fusion", "-c", folder,
        "--set", "weights=1:3", "--folds", "group")  # fmt: skip
    trained = checkpoint.load(folder)
    store = FeatureStore(feature_store)
    streams = [store[recipe["folder"]]["v04_000000_end"] for recipe in trained.recipes]
    assert trained.classes[trained.probabilities(streams).argmax()] == "pull"


def test_an_interrupted_training_goes_on_to_the_same_head(feature_store, tmp_path, monkeypatch):
    flags = ("-f", feature_store, "-e", FLOW, "--head", "lstm", "--set", "hidden=4", "--folds", 2,
             "--epochs", 4)  # fmt: skip
    run(train, *flags, "-c", tmp_path / "whole")
    from pipeline.heads import _run

    real, calls = _run.fit, []

    def fit_once(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(_run, "fit", fit_once)
    with pytest.raises(click.Abort):
        run_raising(train, *flags, "-c", tmp_path / "cut")
    monkeypatch.setattr(_run, "fit", real)
    assert (tmp_path / "cut" / "working").exists()
    with pytest.raises(UsageError, match=r"something else \(another seed\)"):
        run(train, *flags, "-c", tmp_path / "cut", "--seed", 5)
    with pytest.raises(UsageError, match=r"something else \(another labels\)"):
        run(train, *flags, "-c", tmp_path / "cut", "-m", other_labels(tmp_path / "list.csv"))
    run(train, *flags, "-c", tmp_path / "cut")
    one, other = ((tmp_path / n / "head.safetensors").read_bytes() for n in ("whole", "cut"))
    assert one == other


def test_wrong_flags_leave_nothing_behind(feature_store, tmp_path):
    flags = ("-f", feature_store, "-e", FLOW, "-c", tmp_path / "head", "--head")
    for wrong in (("lstm", "--set", "hiden=4"), ("average", "--folds", "six")):
        with pytest.raises(UsageError, match="expected"):
            run(train, *flags, *wrong)
    assert not (tmp_path / "head").exists()


def other_labels(path):
    lines = [f"v{k:02d},{CLASSES[(k + 1) % 3]},g{k // 6}" for k in range(30)]
    path.write_text("\n".join(["video,label,group", *lines]) + "\n")
    return path


def run_raising(command, *args):
    command.main([str(a) for a in args], standalone_mode=False)


def test_a_finished_head_is_not_replaced_unasked(feature_store, tmp_path):
    flags = ("-f", feature_store, "-e", FLOW, "--head", "average", "-c", tmp_path / "head")
    run(train, *flags)
    with pytest.raises(UsageError, match="--again"):
        run(train, *flags)
    assert run(train, *flags, "--again").exit_code == 0


def test_compare_prints_chance_trivial_and_every_row(feature_store, tmp_path):
    page, table = tmp_path / "table.html", tmp_path / "table.csv"
    result = run(
        compare, "-f", feature_store, "--inner", 2, "--epochs", 2, "--lstm", "hidden=4",
        "--html", page, "--csv", table, "--folds", 2,
    )  # fmt: skip
    lines = {line.split("  ")[0]: line for line in result.output.splitlines()}
    assert "0.333" in lines["chance"]
    assert "length" in lines["trivial baseline"]
    for row in ("single frame", "ConvNet+LSTM", "two-stream, both"):
        assert row in lines
    assert "never saw flow in training" in result.output
    assert "published on other data" in result.output
    assert "within noise of the best" in result.output
    rows = rows_of(table)
    by_row = {(r["row"], r["head"]): r for r in rows}
    flow = float(by_row["two-stream, flow", "mean"]["top-1"])
    assert flow > float(by_row["two-stream, RGB", "mean"]["top-1"])
    assert len(rows) == 18
    assert page.read_text().count("<tr") == 19
    both = {head: float(r["top-1"]) for (row, head), r in by_row.items() if row.endswith("both")}
    assert both["mean; weights chosen inside"] >= flow - 0.04, "noise must not outvote the flow"
    shares = by_row["two-stream, both", "mean; weights chosen inside"]["chosen by fold"].split("; ")
    assert len(shares) == 2
    for share in shares:
        rgb, flow_share = map(float, share.split(":"))
        assert flow_share >= 0.5 and rgb + flow_share == pytest.approx(1)


def test_several_seeds_show_their_spread(feature_store):
    result = run(compare, "-f", feature_store, "-e", FLOW, "--heads", "lstm", "--lstm", "hidden=4",
                 "--epochs", 2, "--inner", 2, "--seeds", 2, "--folds", 2)  # fmt: skip
    assert "(seeds ±" in result.output


def test_recipes_of_different_segments_are_an_error_until_common_is_given(feature_store):
    recipe = Recipe("other", {"spec": {}})
    features = Features(np.zeros((1, 3), np.float32), np.array([[0.0, 0.2]]))
    row = SegmentRow(key="v00_000000_end", video="v00", start_seconds=0.0,
                     end_seconds=float("nan"), label="fold", features=features)  # fmt: skip
    RecipeShards.create(feature_store, recipe).commit(0, [row], [], {})
    wanted = Wanted(feature_store, (FLOW, "other"))
    with pytest.raises(UsageError, match=r"other-\w+ lacks 29 segments .*v01_000000_end.*--common"):
        load(wanted)
    found, coverage = load(Wanted(feature_store, (FLOW, "other"), common=True))
    assert found.keys == ("v00_000000_end",)
    assert len(coverage.absent[FeatureStore(feature_store).folder("other")]) == 29


def test_groups_come_from_any_column_and_else_from_the_video(feature_store, tmp_path):
    manifest = tmp_path / "list.csv"
    manifest.write_text(
        "video,label,group,room\n"
        + "".join(f"v{k:02d},c{k % 2},,room{k // 10}\n" for k in range(30)),
    )
    by_video = load(Wanted(feature_store, (FLOW,), manifest))[0]
    assert by_video.groups[:2] == ("v00", "v01")
    assert by_video.task.classes == ("c0", "c1")
    by_room = load(Wanted(feature_store, (FLOW,), manifest, "room"))[0]
    assert set(by_room.groups) == {"room0", "room1", "room2"}
    with pytest.raises(UsageError, match="no column 'house', found video, label, group, room"):
        load(Wanted(feature_store, (FLOW,), manifest, "house"))


@pytest.mark.parametrize("head", ["average", "late-fusion", "lstm"])
def test_features_too_large_for_memory_give_the_same_head(feature_store, tmp_path, head):
    flags = ("-f", feature_store, "-e", RGB, "-e", FLOW, "--head", head, "--folds", 2,
             "--epochs", 2, *(("--set", "hidden=4") if head == "lstm" else ()))  # fmt: skip
    run(train, *flags, "-c", tmp_path / "memory")
    run(train, *flags, "-c", tmp_path / "disk", "--memory", 0)
    one, other = ((tmp_path / n / "head.safetensors").read_bytes() for n in ("memory", "disk"))
    assert one == other


def test_the_cost_of_extraction_is_read_from_the_runs(feature_store):
    folder = FeatureStore(feature_store).folder(FLOW)
    for run_id, seconds in (("a", 2.0), ("b", 4.0)):
        (feature_store / "runs" / run_id).mkdir(parents=True)
        note = {"recipes": [folder], "done": 3, "worker_seconds": {"flow": seconds, "embed": 1.0}}
        (feature_store / "runs" / run_id / "summary.json").write_text(json.dumps(note))
    assert extraction_times(feature_store, [folder]) == [
        f"extraction of {folder}: 1.33 s a segment (flow 1.00, embed 0.33)"
    ]
    assert extraction_times(feature_store, ["another"]) == []


def test_streams_that_do_not_line_up_are_still_fused_by_score(feature_store):
    """Shifted rows have no common start: learned fusion is left out and named, the rest stands."""
    store = FeatureStore(feature_store)
    shifted = Recipe(FLOW, {**store[FLOW].recipe["settings"], "min_coverage": 0.5})
    items = store[FLOW].items
    rows = []
    for k, key in enumerate(items["key"].tolist()):
        vectors, seconds = store[FLOW][key]
        rows.append(
            SegmentRow(key=key, video=items["video"][k], start_seconds=0.0,
                       end_seconds=float("nan"), label=items["label"][k], group=items["group"][k],
                       features=Features(vectors, seconds + 0.08))
        )  # fmt: skip
    put_all(feature_store, shifted, rows)
    result = run(compare, "-f", feature_store, "-e", store.folder(RGB), "-e", shifted.folder,
                 "--heads", "average,late-fusion", "--inner", 2, "--folds", 2)  # fmt: skip
    assert "left out: two-stream, both, learned fusion" in result.output
    assert "mean; scores averaged" in result.output


def put_all(out, recipe, rows):
    store, shards = Store.open(out), RecipeShards.create(out, recipe)
    for bucket in range(2):
        shards.commit(bucket, [r for r in rows if store.bucket(r.key) == bucket], [], {})


def several_labels(path):
    """A list in which every sixth segment has a second label."""
    lines = ["video,label,group"]
    for k in range(30):
        label = CLASSES[k % 3] + ("|wave" if k % 6 == 0 else "")
        lines.append(f"v{k:02d},{label},g{k // 6}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_compare_takes_several_labels_a_segment(feature_store, tmp_path):
    listed = several_labels(tmp_path / "list.csv")
    result = run(compare, "-f", feature_store, "-m", listed, "--heads", "average,late-fusion",
                 "--inner", 2, "--folds", 2, "--csv", tmp_path / "new" / "t.csv")  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = {(r["row"], r["head"]): r for r in rows_of(tmp_path / "new" / "t.csv")}
    chance = rows["chance", "a guess"]
    labels = 35 / 30  # mean number of a segment's labels
    assert float(chance["hit@1"]) == pytest.approx(labels / 3, abs=1e-3)
    assert float(chance["mAP"]) == pytest.approx(labels / 3, abs=1e-3)
    flow = rows["two-stream, flow", "mean"]
    assert float(flow["hit@1"]) > 0.9 and float(flow["mAP"]) > 0.9
    fused = rows["two-stream, both", "mean; weights chosen inside"]
    assert float(fused["mAP"]) > float(rows["two-stream, RGB", "mean"]["mAP"])


def test_features_too_large_for_memory_give_the_same_table(feature_store):
    flags = ("-f", feature_store, "--heads", "average", "--inner", 2, "--folds", 2)
    one, other = (run(compare, *flags, *memory).output for memory in ((), ("--memory", 0)))
    assert without_times(one) == without_times(other)


def without_times(text):
    return re.sub(r" +\d+\.\d(?=\n|$)", "", text)


def test_common_segments_are_numbered_alike_in_every_recipe(feature_store):
    """A recipe that lacks a class names its own classes 0 and 1; the table must not mix them up."""
    store = FeatureStore(feature_store)
    fewer = Recipe(FLOW, {**store[FLOW].recipe["settings"], "min_coverage": 0.5})
    items = store[FLOW].items
    rows = [
        SegmentRow(key=key, video=items["video"][k], start_seconds=0.0, end_seconds=float("nan"),
                   label=items["label"][k], group=items["group"][k], features=store[FLOW][key])
        for k, key in enumerate(items["key"].tolist()) if items["label"][k] != "fold"
    ]  # fmt: skip
    put_all(feature_store, fewer, rows)
    result = run(compare, "-f", feature_store, "-e", store.folder(FLOW), "-e", fewer.folder,
                 "--common", "--heads", "average", "--inner", 2, "--folds", 2)  # fmt: skip
    lines = [
        line for line in result.output.splitlines() if re.match("two-stream, flow .*mean  ", line)
    ]
    assert len(lines) == 2
    assert len({re.search(r"\d\.\d{3}", line).group() for line in lines}) == 1, lines
