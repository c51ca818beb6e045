"""Windows that fill as samples come, against the list for the finished segment."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extractors import Sampling
from pipeline.errors import TooShort
from pipeline.sampling import windows
from pipeline.windowing import Sample, WindowStream

INTERVAL = 0.04


@st.composite
def samplings(draw) -> Sampling:
    mode = draw(st.sampled_from(["dense", "centred", "whole", "uniform"]))
    return Sampling(
        fps=None,
        window=draw(st.integers(1, 9)),
        stride=draw(st.integers(1, 11)),
        mode=mode,
        count=draw(st.integers(1, 6)) if mode == "uniform" else 0,
        tail=draw(st.sampled_from(["drop", "repeat-last", "loop", "re-anchor", "error"])),
        short=draw(st.sampled_from(["loop", "fail"])),
    )


def streamed(samples: int, sampling: Sampling) -> list[tuple[int, ...]]:
    stream: WindowStream[int] = WindowStream(sampling, INTERVAL, samples)
    found = [
        window.images for k in range(samples) for window in stream.push(Sample(k, k * INTERVAL, k))
    ]
    return found + [window.images for window in stream.finish()]


@settings(max_examples=800, deadline=None)
@given(st.integers(1, 40), samplings())
def test_streaming_gives_the_windows_of_the_finished_segment(samples, sampling) -> None:
    try:
        expected = windows(samples, sampling)
    except ValueError:
        with pytest.raises(TooShort):
            streamed(samples, sampling)
    else:
        assert streamed(samples, sampling) == expected


def test_no_sample_is_too_short() -> None:
    stream: WindowStream[int] = WindowStream(Sampling(fps=None, window=1, stride=1), INTERVAL)
    with pytest.raises(TooShort, match="no frame"):
        list(stream.finish())


def test_a_window_covers_its_first_sample_to_the_end_of_its_last() -> None:
    stream: WindowStream[str] = WindowStream(Sampling(fps=None, window=2, stride=2), INTERVAL)
    list(stream.push(Sample(0, 10.0, "a")))
    (window,) = stream.push(Sample(1, 10.04, "b"))
    assert window.images == ("a", "b")
    assert (window.start_seconds, window.end_seconds) == pytest.approx((10.0, 10.08))


def test_a_centred_window_covers_its_stride_from_the_centre() -> None:
    centred = Sampling(fps=None, window=4, stride=2, mode="centred")
    stream: WindowStream[int] = WindowStream(centred, INTERVAL)
    found = [w for k in range(5) for w in stream.push(Sample(k, k * INTERVAL, k))]
    found += stream.finish()
    assert [w.start_seconds for w in found] == pytest.approx([0.0, 0.08, 0.16])
    assert [w.end_seconds for w in found] == pytest.approx([0.08, 0.16, 0.24])


def test_memory_holds_one_window() -> None:
    stream: WindowStream[int] = WindowStream(Sampling(fps=None, window=3, stride=1), INTERVAL)
    for k in range(100):
        list(stream.push(Sample(k, k * INTERVAL, k)))
    assert len(stream._held) == 3


def test_a_segment_between_two_centres_is_too_short_and_no_empty_row() -> None:
    centred = Sampling(fps=None, window=10, stride=5, mode="centred")
    stream: WindowStream[int] = WindowStream(centred, INTERVAL)
    assert not [w for k in (1, 2, 3) for w in stream.push(Sample(k, k * INTERVAL, k))]
    with pytest.raises(TooShort, match="3 samples"):
        list(stream.finish())


@pytest.mark.parametrize("missing", range(7))
def test_centred_windows_stand_on_grid_numbers_when_the_first_samples_are_missing(missing) -> None:
    centred = Sampling(fps=None, window=10, stride=5, mode="centred")
    stream: WindowStream[int] = WindowStream(centred, INTERVAL)
    numbers = range(missing, 40)
    found = [w for k in numbers for w in stream.push(Sample(k, k * INTERVAL, k))]
    found += stream.finish()
    starts = [round(window.start_seconds / INTERVAL) for window in found]
    assert starts == [k for k in numbers if k % 5 == 0]
