from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.errors import DamagedShard, StoreError
from pipeline.store.flow_cache import FlowCache, SourceStamp, bytes_per_hour

STAMP = SourceStamp(size=100, mtime_ns=5)


def _levels(count: int = 5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 6, 9, 2), dtype=np.uint8)


def _write(cache: FlowCache, key: str, levels: np.ndarray, stamp: SourceStamp = STAMP) -> None:
    with cache.writing(key, stamp) as writer:
        for number, one in enumerate(levels):
            writer.append(one, number / 25)


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    cache = FlowCache(tmp_path, {"flow": "tvl1"})
    levels = _levels()
    _write(cache, "a/b c_000001_000002", levels)
    back = cache.read("a/b c_000001_000002")
    assert np.array_equal(back.levels, levels)
    assert np.allclose(back.seconds, np.arange(5) / 25)
    streamed = list(cache.stream("a/b c_000001_000002"))
    assert np.array_equal([one for _, one in streamed], levels)
    assert [seconds for seconds, _ in streamed] == pytest.approx(back.seconds)


def test_it_knows_what_is_done_and_for_which_file(tmp_path: Path) -> None:
    cache = FlowCache(tmp_path, {})
    assert not cache.holds("v", STAMP)
    assert cache.bytes_of("v") == 0
    _write(cache, "v", _levels())
    assert cache.holds("v", STAMP)
    assert not cache.holds("v", SourceStamp(101, 5))
    assert cache.bytes_of("v") > 0
    with pytest.raises(KeyError):
        cache.read("w")


def test_an_interrupted_segment_leaves_nothing(tmp_path: Path) -> None:
    cache = FlowCache(tmp_path, {})
    with pytest.raises(KeyboardInterrupt), cache.writing("v", STAMP) as writer:
        writer.append(_levels()[0], 0.0)
        raise KeyboardInterrupt
    assert not cache.holds("v", STAMP)
    assert [path.name for path in cache.folder.rglob("*")] == ["recipe.json"]


def test_the_first_of_two_writers_wins_and_a_changed_file_replaces(tmp_path: Path) -> None:
    cache = FlowCache(tmp_path, {})
    first, second = _levels(seed=1), _levels(seed=2)
    _write(cache, "v", first)
    _write(cache, "v", second)
    assert np.array_equal(cache.read("v").levels, first)
    _write(cache, "v", second, SourceStamp(7, 7))
    assert np.array_equal(cache.read("v").levels, second)


def test_a_segment_of_one_frame_has_an_empty_entry(tmp_path: Path) -> None:
    cache = FlowCache(tmp_path, {})
    _write(cache, "v", _levels(0))
    assert cache.holds("v", STAMP)
    assert len(cache.read("v").levels) == 0
    assert list(cache.stream("v")) == []


def test_recipes_do_not_mix(tmp_path: Path) -> None:
    one, other = FlowCache(tmp_path, {"short": 256}), FlowCache(tmp_path, {"short": 128})
    _write(one, "v", _levels())
    assert not other.holds("v", STAMP)
    (one.folder / "recipe.json").write_text("{}")
    with pytest.raises(StoreError, match="holds another recipe"):
        FlowCache(tmp_path, {"short": 256})


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_damaged_file_is_named(tmp_path: Path, keep: float) -> None:
    cache = FlowCache(tmp_path, {})
    _write(cache, "v", _levels())
    path = next(cache.folder.rglob("*.h5"))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(DamagedShard, match=path.name):
        cache.read("v")


def test_flows_of_two_sizes_are_refused(tmp_path: Path) -> None:
    cache = FlowCache(tmp_path, {})
    with pytest.raises(ValueError, match="expected"), cache.writing("v", STAMP) as writer:
        writer.append(np.zeros((6, 9, 2), np.uint8), 0)
        writer.append(np.zeros((6, 8, 2), np.uint8), 0)


def test_bytes_per_hour() -> None:
    assert bytes_per_hour(1000, 10, 25.0) == 100 * 25 * 3600


def _spoilt(cache: FlowCache, spoil: Callable[[h5py.File], None]) -> None:
    _write(cache, "v", _levels())
    with h5py.File(next(cache.folder.rglob("*.h5")), "r+") as file:
        spoil(file)


def _retype(file: h5py.File) -> None:
    levels = file["levels"][:]
    del file["levels"]
    file.create_dataset("levels", data=levels.astype("f4"), chunks=(1, *levels.shape[1:]))


def _lose_the_times(file: h5py.File) -> None:
    del file["seconds"]


def _claim_more(file: h5py.File) -> None:
    for name in ("levels", "seconds"):
        file[name].resize(10**9, axis=0)  # chunks that nobody wrote


def _link_out(file: h5py.File) -> None:
    del file["seconds"]
    file["seconds"] = h5py.ExternalLink("/etc/hostname", "/seconds")


def _lose_the_stamp(file: h5py.File) -> None:
    del file.attrs["source_size"]


def _another_schema(file: h5py.File) -> None:
    file.attrs["schema"] = 99


@pytest.mark.parametrize(
    "spoil",
    [_retype, _lose_the_times, _claim_more, _link_out, _lose_the_stamp, _another_schema],
)
def test_a_file_that_is_not_as_written_is_named_by_whoever_looks(
    tmp_path: Path, spoil: Callable[[h5py.File], None]
) -> None:
    cache = FlowCache(tmp_path, {})
    _spoilt(cache, spoil)
    for look in (cache.read, lambda key: list(cache.stream(key)), lambda k: cache.holds(k, STAMP)):
        with pytest.raises(DamagedShard, match=r"\.h5: .*delete the file"):
            look("v")


def test_what_is_there_can_be_listed(tmp_path: Path) -> None:
    cache = FlowCache(tmp_path, {})
    _write(cache, "v", _levels())
    _write(cache, "w", _levels(0))
    assert sorted(cache.done()) == ["v", "w"]
    assert dict(cache.done())["v"] == (STAMP.size, STAMP.mtime_ns)
