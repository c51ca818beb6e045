"""The sampling arithmetic against a brute-force reading of its rules."""

import doctest
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import pipeline.sampling
from extractors import Sampling
from pipeline.sampling import Grid, Selector, select, windows

MS = Fraction(1, 1000)
milliseconds = st.integers(0, 4000)


def brute_force(grid: Grid, pts: list[Fraction], interval: Fraction) -> dict[int, Fraction]:
    """The rule word for word: sample number -> time of the frame that serves it."""
    end = grid.end if grid.end is not None else pts[-1] + interval
    inside = [p for p in pts if grid.start <= p < end]
    if grid.fps is None:
        return dict(enumerate(inside))
    before = [p for p in pts if p < grid.start][-1:]
    after = [p for p in pts if p >= end][:1]
    candidates = inside or before + after
    served = {}
    number = 0
    while (time := grid.start + number / grid.fps) < end:
        if grid.resample == "hold":
            chosen = max((p for p in candidates if p <= time), default=candidates[0])
        else:
            chosen = min(candidates, key=lambda p: (abs(p - time), -p))
        too_early = chosen == candidates[0] and not before_serves(inside, before)
        too_early = too_early and time < chosen - interval
        past_the_end = not after and chosen == candidates[-1] and time >= chosen + interval
        if not too_early and not past_the_end:
            served[number] = chosen
        number += 1
    return served


def before_serves(inside: list[Fraction], before: list[Fraction]) -> bool:
    return not inside and bool(before)


@st.composite
def cases(draw):
    gaps = draw(st.lists(st.integers(1, 400), min_size=1, max_size=25))
    first = draw(st.integers(0, 300))
    pts = [Fraction(first + sum(gaps[:n]), 1000) for n in range(len(gaps))]
    start = draw(milliseconds)
    end = draw(st.one_of(st.none(), st.integers(start + 1, start + 3000)))
    fps = draw(
        st.sampled_from([None, Fraction(1), Fraction(5), Fraction(25), Fraction(30000, 1001)])
    )
    resample = draw(st.sampled_from(["nearest", "hold"]))
    grid = Grid(start * MS, None if end is None else end * MS, fps, resample)
    return grid, pts, Fraction(draw(st.sampled_from([20, 40, 100])), 1000)


@settings(max_examples=600, deadline=None)
@given(cases())
def test_every_sample_gets_the_frame_the_rule_names(case) -> None:
    grid, pts, interval = case
    answers = select(grid, pts, interval)
    found = {number: p for p, served in zip(pts, answers, strict=False) for number in served}
    # A segment that begins after its video is judged by its coverage, not here.
    assume(grid.end is not None or grid.start <= pts[-1])
    assert found == brute_force(grid, pts, interval)


@settings(max_examples=200, deadline=None)
@given(cases())
def test_the_counts_add_up(case) -> None:
    grid, pts, interval = case
    selector = Selector(grid, interval)
    served = []
    for time in pts:
        served.append(selector.push(time))
        if selector.done:
            break
    served.append(selector.finish())
    numbers = [number for answer in served for number in answer]
    assert numbers == sorted(set(numbers))
    assert selector.served == len(numbers)
    assert selector.repeated == sum(max(0, len(answer) - 1) for answer in served)
    if grid.expected is not None:
        assert selector.served + selector.missing == grid.expected


def test_a_tie_goes_to_the_later_frame() -> None:
    grid = Grid(Fraction(0), Fraction(3), Fraction(1))
    assert select(grid, [Fraction(1, 2), Fraction(3, 2)], Fraction(1)) == [range(0, 1), range(1, 3)]


def test_no_frame_inside_shares_the_samples_between_the_neighbours() -> None:
    grid = Grid(Fraction(1), Fraction(2), Fraction(4))
    answers = select(grid, [Fraction(9, 10), Fraction(2)], Fraction(1, 25))
    assert answers == [range(0, 2), range(2, 4)]


def test_the_last_frame_stands_for_one_interval_only() -> None:
    grid = Grid(Fraction(0), Fraction(10), Fraction(5))
    selector = Selector(grid, Fraction(2, 5))
    selector.push(Fraction(0))
    assert selector.finish() == range(0, 2)
    assert selector.missing == 48


def test_a_video_that_begins_long_after_the_segment_serves_nothing_of_it() -> None:
    selector = Selector(Grid(Fraction(0), Fraction(1), Fraction(4)), Fraction(1, 25))
    assert selector.push(Fraction(5)) == range(0)
    assert len(selector.finish()) == 0
    assert (selector.served, selector.missing) == (0, 4)


def test_doctests() -> None:
    assert doctest.testmod(pipeline.sampling).failed == 0


@pytest.mark.parametrize(
    ("tail", "last"),
    [
        ("drop", None),
        ("repeat-last", (4, 5, 6, 6)),
        ("loop", (4, 5, 6, 4)),
        ("re-anchor", (3, 4, 5, 6)),
    ],
)
def test_tails(tail: str, last: tuple[int, ...] | None) -> None:
    found = windows(7, Sampling(fps=None, window=4, stride=4, tail=tail))
    assert found == [(0, 1, 2, 3)] + ([last] if last else [])


def test_an_error_tail_raises_only_when_samples_are_left() -> None:
    strict = Sampling(fps=None, window=4, stride=4, tail="error")
    assert windows(8, strict) == [(0, 1, 2, 3), (4, 5, 6, 7)]
    with pytest.raises(ValueError, match="3 samples after"):
        windows(7, strict)


def test_flow_stacks_line_up_with_rgb_rows() -> None:
    rgb = Sampling(fps=Fraction(5), window=1, stride=1)
    flow = Sampling(fps=Fraction(25), window=10, stride=5, mode="centred")
    for length in (200, 1000, 1999, 10_000, 10_040):
        frames = Grid(Fraction(0), length * MS, flow.fps).expected
        pictures = Grid(Fraction(0), length * MS, rgb.fps).expected
        assert len(windows(frames, flow)) == len(windows(pictures, rgb))
