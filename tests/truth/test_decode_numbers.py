"""For any stretch and rate, the frames are exactly those of the nearest-timestamp rule."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline import decode
from pipeline.frames import View
from pipeline.sampling import Grid
from tests.truth.conftest import CUT_SECONDS, NAMES
from tests.truth.nearest_rule import expected_frames
from tests.truth.numbered_video import number_in

VIEW = View(32, 48, "gray", "area")
CASES_PER_VIDEO = 18
SLOW_CASES_PER_VIDEO = 120
RATES = (
    None, Fraction(1), Fraction(3), Fraction(5), Fraction(10), Fraction(25, 2), Fraction(20),
    Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(50),
)  # fmt: skip


def packet_times(path: Path, info: decode.VideoInfo) -> list[Fraction]:
    """Shown times by the packets alone, from second 0, in order."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        unit = stream.time_base
        ticks = [p.pts for p in container.demux(stream) if p.pts is not None and not p.is_discard]
    times = sorted(tick * unit - info.start_seconds for tick in ticks)
    return [time for time in times if time >= 0]


def first_number(name: str) -> int:
    """Number that the first shown frame shows."""
    return int(CUT_SECONDS * 25) if name.startswith("edit_list") else 0


def random_grids(seed: int, last: Fraction, cases: int) -> Iterator[Grid]:
    """Grids with ties, stretches beyond the end, between two frames, and open ends among them."""
    random = np.random.default_rng(seed)
    for _ in range(cases):
        unit = int(random.choice([10, 25, 50, 1000]))
        start = Fraction(int(random.integers(0, max(1, int(last * unit * Fraction(11, 10))))), unit)
        length = Fraction(int(random.integers(1, int(last * unit) + 2)), unit)
        end = (
            None
            if random.random() < 0.2
            else start + length * Fraction(int(random.choice([1, 5])), 5)
        )
        fps = RATES[int(random.integers(len(RATES)))]
        yield Grid(start, end, fps, "hold" if random.random() < 0.25 else "nearest")


def check(path: Path, info: decode.VideoInfo, times: list[Fraction], grids: list[Grid]) -> None:
    stream = decode.frames(path, [decode.Request(grid, (VIEW,)) for grid in grids], info=info)
    got: list[dict[int, tuple[int, Fraction]]] = [{} for _ in grids]
    for frame in stream:
        number = number_in(frame.images[VIEW])
        for found, samples in zip(got, frame.samples, strict=True):
            found.update((sample, (number, frame.pts_seconds)) for sample in samples)
    first = first_number(path.name)
    for grid, found, counts in zip(grids, got, stream.counts, strict=True):
        served = expected_frames(times, grid, info.frame_interval)
        wanted = {k: (first + place, times[place]) for k, place in served.items()}
        assert found == wanted, f"{path.name} {grid}"
        assert counts.served == len(served)
        assert counts.repeated == len(served) - len(set(served.values()))
        if grid.expected is not None:
            assert counts.missing == grid.expected - len(served)


def check_many(path: Path, seed: int, cases: int) -> None:
    info = decode.probe(path)
    times = packet_times(path, info)
    grids = list(random_grids(seed, times[-1] + info.frame_interval, cases))
    singles, together = grids[: cases * 2 // 3], grids[cases * 2 // 3 :]
    for grid in singles:
        check(path, info, times, [grid])
    for k in range(0, len(together), 3):
        check(path, info, times, together[k : k + 3])


@pytest.mark.parametrize("name", NAMES)
def test_random_stretches_and_rates_give_the_frames_of_the_rule(numbered: Path, name: str) -> None:
    check_many(numbered / name, seed=NAMES.index(name), cases=CASES_PER_VIDEO)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_more_stretches_and_rates(numbered: Path, name: str) -> None:
    check_many(numbered / name, seed=1000 + NAMES.index(name), cases=SLOW_CASES_PER_VIDEO)


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_video_is_every_number_in_order(numbered: Path, name: str) -> None:
    path = numbered / name
    info = decode.probe(path)
    times = packet_times(path, info)
    stream = decode.frames(path, [decode.Request(Grid(Fraction(0), None, None), (VIEW,))])
    shown = [(frame.pts_seconds, number_in(frame.images[VIEW])) for frame in stream]
    first = first_number(name)
    assert shown == [(time, first + place) for place, time in enumerate(times)]
    assert stream.coverage[0] > 0.999
    assert stream.damage is None


@pytest.mark.parametrize(
    "name",
    ["h264.mp4", "open_gop.mp4", "open_gop.mkv", "open_gop_hevc.mp4", "vp9_milliseconds.webm"],
)
def test_a_seek_costs_about_one_group_of_pictures(numbered: Path, name: str) -> None:
    grid = Grid(Fraction(4), Fraction(21, 5), None)
    stream = decode.frames(numbered / name, [decode.Request(grid, (VIEW,))])
    assert [number_in(frame.images[VIEW]) for frame in stream]
    assert stream.decoded <= 24 + 24


def test_late_start_counts_from_the_containers_start(numbered: Path) -> None:
    info = decode.probe(numbered / "late_start.mkv")
    assert info.start_seconds == 5
    assert info.first_frame_seconds == 0
    assert info.duration_seconds == 6


def test_turned_video_stands_upright(numbered: Path) -> None:
    info = decode.probe(numbered / "turned.mp4")
    assert (info.height_px, info.width_px) == (64, 96)
    assert info.orientation.transpose


def test_sample_aspect_is_recorded_and_not_applied(numbered: Path) -> None:
    info = decode.probe(numbered / "wide_pixels.mp4")
    assert info.sample_aspect == Fraction(4, 3)
    assert (info.height_px, info.width_px) == (64, 96)


@pytest.mark.parametrize(
    ("name", "trusted"), [("h264.mp4", True), ("edit_list.mp4", False), ("av1.mkv", False)]
)
def test_the_headers_count_is_trusted_only_where_it_is_right(
    numbered: Path, name: str, trusted: bool
) -> None:
    info = decode.probe(numbered / name)
    assert info.header_frames_trusted is trusted
    if trusted:
        counted = decode.count_samples(numbered / name, Grid(Fraction(0), None, None))
        assert info.header_frames == counted


@pytest.mark.parametrize("name", ["h264.mp4", "open_gop_hevc.mp4", "variable.mp4", "turned.mp4"])
def test_leaving_unwanted_frames_undecoded_changes_no_bit(numbered: Path, name: str) -> None:
    path = numbered / name
    info = decode.probe(path)
    view = View(info.height_px, info.width_px)
    sparse = decode.Request(Grid(Fraction(0), None, Fraction(3)), (view,))
    all_frames = decode.Request(Grid(Fraction(0), None, None), ())
    skipping = decode.frames(path, [sparse], info=info)
    whole = decode.frames(path, [sparse, all_frames], info=info)
    quick = {frame.pts_seconds: frame.images[view] for frame in skipping}
    exact = {frame.pts_seconds: frame.images[view] for frame in whole if frame.images}
    assert quick.keys() == exact.keys()
    assert all(np.array_equal(quick[time], exact[time]) for time in exact)
    assert skipping.counts[0] == whole.counts[0]
    assert skipping.decoded < whole.decoded * 0.8


def test_two_threads_give_the_frames_of_one(numbered: Path) -> None:
    grid = Grid(Fraction(3, 2), None, Fraction(25))
    request = decode.Request(grid, (View(64, 96),))
    one, two = (
        [frame.images[request.views[0]] for frame in decode.frames(
            numbered / "open_gop.mp4", [request], options=decode.DecodeOptions(threads=threads)
        )]
        for threads in (1, 2)
    )  # fmt: skip
    assert np.array_equal(one, two)
