from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from manifests import Manifest, Segment
from pipeline.errors import StoreError, UsageError
from pipeline.frames import Features
from pipeline.heads.dataset import FeatureDataset, SequenceBatch, ShardSampler, collate
from pipeline.provenance import Recipe
from pipeline.store import FeatureStore, RecipeShards, SegmentRow, Store

RGB, FLOW = Recipe("rgb", {"fps": "5"}), Recipe("flow", {"fps": "5"})
DIMS = {"rgb": 4, "flow": 3}
SEGMENTS = 12
BUCKETS = 4


def key_of(number: int) -> str:
    return f"video{number:02d}_000000_000010"


def put(out: Path, recipe: Recipe, key: str, starts: list[float], **more: object) -> None:
    """Commit rows that start at given times; their numbers follow from key and time."""
    shards = RecipeShards.create(out, recipe)
    dim = DIMS[recipe.extractor]
    seed = np.frombuffer(key.encode(), np.uint8).sum()
    rows = [np.arange(dim) + seed + 100 * start for start in starts]
    vectors = np.array(rows, np.float32).reshape(-1, dim)
    seconds = np.array([[start, start + 0.2] for start in starts]).reshape(-1, 2)
    fields = {"video": key[:7], "start_seconds": 0.0, "end_seconds": 10.0, **more}
    row = SegmentRow(key=key, features=Features(vectors, seconds), **fields)
    shards.commit(Store.open(out).bucket(key), [row], [], {})


@pytest.fixture
def out(made_once: Path, tmp_path: Path) -> Path:
    """A copy of the store, for each test to change."""
    return shutil.copytree(made_once, tmp_path / "out")


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Segments of two classes; flow has one row less than RGB, as N frames give N - 1 flows."""
    out = tmp_path_factory.mktemp("made")
    Store.create(out, buckets=BUCKETS)
    for number in range(SEGMENTS):
        starts = [round(0.2 * k, 6) for k in range(2 + number)]
        split = "train" if number < 8 else "val"
        label = ("walk", "run")[number % 2]
        fields = {"label": label, "split": split, "group": f"g{number // 3}"}
        put(out, RGB, key_of(number), starts, **fields)
        put(out, FLOW, key_of(number), starts[:-1], **fields)
    return out


def manifest_of(*segments: Segment, classes: tuple[str, ...] = ()) -> Manifest:
    return Manifest(
        dataset="generic", path=Path("list.csv"), sha256="0", segments=segments, classes=classes
    )


def segment(number: int, *labels: str, split: str = "") -> Segment:
    return Segment(
        video=f"video{number:02d}", start_ms=0, end_ms=10_000, labels=labels, split=split
    )


def rows_by_key(batches: list[SequenceBatch]) -> dict[str, torch.Tensor]:
    return {
        key: batch.rows[0][place][batch.mask[place]]
        for batch in batches
        for place, key in enumerate(batch.keys)
    }


def test_one_recipe_with_labels_of_the_store(out):
    data = FeatureDataset(out, "rgb")
    assert len(data) == SEGMENTS and data.dims == (4,) and data.classes == ("run", "walk")
    assert data.keys == tuple(key_of(n) for n in range(SEGMENTS))
    assert data.targets.tolist() == [1, 0] * 6 and data.targets.dtype == torch.int64
    assert data.groups[:4] == ("g0", "g0", "g0", "g1")
    stored = FeatureStore(out)["rgb"]
    for number in range(SEGMENTS):
        sample = data[number]
        np.testing.assert_array_equal(sample.rows[0].numpy(), stored[sample.key].vectors)
        np.testing.assert_array_equal(data.seconds(number), stored[sample.key].seconds)
        assert len(sample.rows[0]) == data.lengths[number]
    assert data[-1].key == data.keys[-1]
    with pytest.raises(IndexError):
        data[SEGMENTS]
    assert str(data.coverage) == f"{SEGMENTS} segments, {data.lengths.sum()} rows"


def test_rows_of_two_recipes_are_joined_by_start_time_and_the_rest_counted(out):
    put(out, RGB, "odd_0", [0.0, 0.4, 0.8, 1.2, 1.2], label="walk")
    put(out, FLOW, "odd_0", [0.2, 0.4, 1.2, 1.2000001, 1.2, 9.0], label="walk")
    data = FeatureDataset(out, ["rgb", "flow"])
    number = data.keys.index("odd_0")
    sample = data[number]
    assert [start for start, _ in data.seconds(number).tolist()] == [0.4, 1.2, 1.2]
    base = sum(b"odd_0")
    assert sample.rows[0][:, 0].tolist() == pytest.approx([base + 40, base + 120, base + 120])
    assert sample.rows[1][:, 0].tolist() == pytest.approx([base + 40, base + 120, base + 120])
    assert data.coverage.unmatched == {
        data.recipes[0]: SEGMENTS + 2,
        data.recipes[1]: 3,
    }
    assert f"{SEGMENTS + 2} rows of {data.recipes[0]} unmatched" in str(data.coverage)
    batch = data.__getitems__([number, 0])
    torch.testing.assert_close(batch.rows[1][0, :3], sample.rows[1])


def test_a_manifest_decides_on_segments_labels_splits_and_order(out):
    manifest = manifest_of(
        segment(5, "jump", split="train"),
        segment(1, "sit", split="train"),
        segment(2, "sit", split="test"),
        segment(77, "sit", split="train"),
        classes=("sit", "jump", "swim"),
    )
    data = FeatureDataset(out, ["rgb"], manifest, split="train")
    assert data.keys == (key_of(5), key_of(1))
    assert data.classes == ("sit", "jump", "swim") and data.targets.tolist() == [1, 0]
    assert data.coverage.absent == {data.recipes[0]: (key_of(77),)}
    assert data.coverage.unlisted == SEGMENTS - 2
    assert "1 not in rgb-" in str(data.coverage)


def test_a_manifest_may_be_a_path(out, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("video,start,end,label,split\nvideo03,0,10,a,train\nvideo04,0,10,b,train\n")
    data = FeatureDataset(out, "rgb", path)
    assert data.keys == (key_of(3), key_of(4)) and data.classes == ("a", "b")


def test_several_labels_give_ones_and_zeros(out):
    manifest = manifest_of(segment(0, "a", "c"), segment(1, "b"))
    data = FeatureDataset(out, "rgb", manifest)
    assert data.multi_label and data.targets.tolist() == [[1, 0, 1], [0, 1, 0]]
    assert data[0].target.dtype == torch.float32


def test_the_classes_of_training_hold_for_validation(out):
    train = FeatureDataset(out, "rgb", split="train", classes=("walk", "run"))
    val = FeatureDataset(out, "rgb", split="val", classes=train.classes)
    assert train.targets.tolist()[:2] == [0, 1] and len(val) == 4
    with pytest.raises(UsageError, match="1 labels are not among the 1 classes: run"):
        FeatureDataset(out, "rgb", classes=("walk",))


def test_bad_input_is_named(out):
    with pytest.raises(UsageError, match="no segment of split 'test'; splits there: train, val"):
        FeatureDataset(out, "rgb", split="test")
    with pytest.raises(UsageError, match=f"2 segments have no label: {key_of(0)}, {key_of(1)}"):
        FeatureDataset(out, "rgb", manifest_of(segment(0), segment(1), segment(2, "a")))
    with pytest.raises(UsageError, match="of 1 segments asked for, none can be used: 1 are not in"):
        FeatureDataset(out, "rgb", manifest_of(segment(99, "a")))
    with pytest.raises(StoreError, match="no recipe or extractor 'x'"):
        FeatureDataset(out, "x")
    unlabelled = FeatureDataset(out, "rgb", manifest_of(segment(0), segment(1)), labelled=False)
    assert unlabelled.targets.tolist() == [-1, -1]


def test_segments_that_cannot_be_used_are_counted(out):
    put(out, RGB, "empty_0", [], label="run")
    put(out, RGB, "alone_0", [0.0], label="run")
    put(out, RGB, "apart_0", [0.0], label="run")
    put(out, FLOW, "apart_0", [5.0], label="run")
    single = FeatureDataset(out, "rgb")
    assert single.coverage.empty == ("empty_0",) and len(single) == SEGMENTS + 2
    both = FeatureDataset(out, ["rgb", "flow"])
    assert both.coverage.absent[both.recipes[1]] == ("alone_0", "empty_0")
    assert both.coverage.empty == ("apart_0",) and len(both) == SEGMENTS


def test_no_segment_left_says_why(out):
    key = "apart_0_000000_000010"
    put(out, RGB, key, [0.0], label="run")
    put(out, FLOW, key, [5.0], label="run")
    apart = Segment(video="apart_0", start_ms=0, end_ms=10_000, labels=("run",))
    wanted = manifest_of(apart, segment(99, "run"))
    why = (
        r"of 2 segments asked for, none can be used: 1 are not in rgb-\w+, 1 are not in flow-\w+, "
        r"1 have no row that starts at the same time under all recipes \(apart_0"
    )
    with pytest.raises(UsageError, match=why):
        FeatureDataset(out, ["rgb", "flow"], wanted)


def test_every_split_numbers_classes_and_labels_alike(out):
    """Labels of one split only, and two labels in one split only, change nothing in the other."""
    manifest = manifest_of(
        segment(0, "b", split="train"),
        segment(1, "c", "b", split="train"),
        segment(2, "c", split="val"),
        segment(3, "a", split="val"),
    )
    train, val = (FeatureDataset(out, "rgb", manifest, split) for split in ("train", "val"))
    assert train.classes == val.classes == ("a", "b", "c")
    assert train.targets.tolist() == [[0, 1, 0], [0, 1, 1]]
    assert val.multi_label and val.targets.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_collate_pads_and_masks(out):
    data = FeatureDataset(out, ["rgb", "flow"])
    batch = collate([data[n] for n in (3, 0, 7)])
    assert batch.mask.sum(1).tolist() == [4, 1, 8] and batch.rows[0].shape == (3, 8, 4)
    assert (batch.rows[0][~batch.mask] == 0).all() and (batch.rows[1][~batch.mask] == 0).all()
    assert batch.targets.tolist() == data.targets[[3, 0, 7]].tolist()
    fast = data.__getitems__([3, 0, 7])
    assert collate(fast) is fast and fast.keys == batch.keys
    for slow_rows, fast_rows in zip(batch.rows, fast.rows, strict=True):
        assert torch.equal(slow_rows, fast_rows)
    assert torch.equal(batch.mask, fast.mask) and torch.equal(batch.targets, fast.targets)
    assert torch.equal(fast.head_input.rows[1], fast.rows[1])


def test_a_batch_that_is_kept_is_not_overwritten(out):
    data = FeatureDataset(out, "rgb")
    kept = [data.__getitems__([n, n + 1]) for n in range(SEGMENTS - 1)]
    for number, batch in enumerate(kept):
        expected = collate([data[number], data[number + 1]])
        assert torch.equal(batch.rows[0], expected.rows[0])
    view = data.__getitems__([5]).rows[0][0, :3]
    copy = view.clone()
    data.__getitems__([6])
    data.__getitems__([7])
    assert torch.equal(view, copy), "a view keeps its batch"


def test_memory_is_used_again_once_a_batch_is_gone(out):
    data = FeatureDataset(out, "rgb")
    places = set()
    for number in range(SEGMENTS):
        places.add(data.__getitems__([SEGMENTS - 1, number]).rows[0].data_ptr())
    assert len(places) == 1


def test_in_memory_gives_the_same(out):
    disk, memory = (FeatureDataset(out, ["rgb", "flow"], in_memory=m) for m in (False, True))
    for number in range(SEGMENTS):
        for left, right in zip(disk[number].rows, memory[number].rows, strict=True):
            assert torch.equal(left, right)
    left, right = disk.__getitems__([2, 9]), memory.__getitems__([2, 9])
    assert torch.equal(left.rows[1], right.rows[1]) and torch.equal(left.mask, right.mask)


def test_float16_features_come_as_float32(tmp_path, monkeypatch):
    Store.create(tmp_path, buckets=1)
    shards = RecipeShards.create(tmp_path, RGB)
    features = Features(np.full((2, 4), 0.5, np.float16), np.zeros((2, 2)))
    row = SegmentRow(
        key="a", video="a", start_seconds=0, end_seconds=1, label="x", features=features
    )
    shards.commit(0, [row], [], {})
    data = FeatureDataset(tmp_path, "rgb")
    for rows in (data[0].rows[0], data.__getitems__([0]).rows[0]):
        assert rows.dtype == torch.float32 and rows.sum() == 4


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_read_the_same_numbers(out, start):
    data = FeatureDataset(out, ["rgb", "flow"])
    data[0]  # a file is open when the workers are started
    loader = DataLoader(data, 3, collate_fn=collate, num_workers=2, multiprocessing_context=start)
    found = rows_by_key(list(loader))
    assert found.keys() == set(data.keys)
    for number, key in enumerate(data.keys):
        assert torch.equal(found[key], data[number].rows[0])


def test_a_subset_reads_whole_batches_too(out):
    data = FeatureDataset(out, "rgb")
    chosen = [1, 5, 9]
    (batch,) = DataLoader(Subset(data, chosen), 3, collate_fn=collate)
    assert batch.keys == tuple(data.keys[n] for n in chosen)


def runs_of_shards(order: list[int], shards: np.ndarray) -> int:
    """How often reading in this order goes to another shard."""
    return int((np.diff(shards[order]) != 0).sum())


def test_the_sampler_visits_all_and_stays_within_few_shards(out):
    data = FeatureDataset(out, "rgb")
    sampler = ShardSampler(data, seed=1, shards_in_buffer=1)
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(SEGMENTS)) and first != second
    assert len(sampler) == SEGMENTS
    assert runs_of_shards(first, data.shards) == len(set(data.shards.tolist())) - 1
    again = ShardSampler(data, seed=1, shards_in_buffer=1)
    assert list(again) == first
    again.epoch = 1
    assert list(again) == second
    assert sorted(ShardSampler(data, shards_in_buffer=100)) == list(range(SEGMENTS))
    with pytest.raises(UsageError, match="at least 1"):
        ShardSampler(data, shards_in_buffer=0)


def test_a_shard_that_changed_under_us_is_an_error(out):
    data = FeatureDataset(out, "rgb")
    shards = out / data.recipes[0] / "shards"
    for path in shards.iterdir():
        path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(StoreError, match="as when the store was opened"):
        data[0]


def test_many_shards_need_few_open_files(out, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipeline.store.spans.MAX_OPEN_FILES", 1)
    data = FeatureDataset(out, "rgb")
    before = open_files()
    for number in (*range(SEGMENTS), *range(SEGMENTS)):
        assert len(data[number].rows[0]) == 2 + number
    assert open_files() <= before + 1


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
