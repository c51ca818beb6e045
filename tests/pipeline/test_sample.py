"""The offline sample: its motions are the stated ones, and single frames tell nothing."""

import json
from collections import Counter
from itertools import islice

import av
import click.testing
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, uniform_filter

import manifests
from pipeline.cli.sample import sample as command
from pipeline.errors import UsageError
from pipeline.sample import (
    HEIGHT_PX,
    LABELS,
    PHOTOGRAPH_PX,
    PHOTOGRAPHS,
    WIDTH_PX,
    SampleOptions,
    Video,
    encode,
    make_sample,
    photograph,
    plan,
    render,
    segments,
)

INSIDE = slice(20, -20)


def bilinear(picture, points):
    """Sample (H, W, C) at points (..., 2) given in pixels, first centre at 0.5."""
    x, y = points[..., 0] - 0.5, points[..., 1] - 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, below = (x - left)[..., None], (y - top)[..., None]
    upper = picture[top, left] * (1 - right) + picture[top, left + 1] * right
    lower = picture[top + 1, left] * (1 - right) + picture[top + 1, left + 1] * right
    return upper * (1 - below) + lower * below


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    paths = list(make_sample(folder, SampleOptions()))
    return folder, paths


def test_ten_videos_two_seconds_h264(made):
    folder, paths = made
    assert len(paths) == 10
    for path in paths:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            times = [frame.time for frame in container.decode(stream)]
            assert stream.codec_context.name == "h264"
            assert (stream.width, stream.height) == (WIDTH_PX, HEIGHT_PX)
        assert times == [pytest.approx(k / 25) for k in range(50)]
    assert not list(folder.rglob("*.part"))


def test_lists_name_the_files(made):
    folder, paths = made
    kinetics = manifests.load(folder / "sample.csv", strict=True)
    generic = manifests.load(folder / "sample_groups.csv", strict=True)
    assert (kinetics.dataset, generic.dataset) == ("kinetics", "generic")
    assert {f"{s.key}.mp4" for s in kinetics} == {path.name for path in paths}
    assert [s.key for s in kinetics] == [s.key for s in generic]
    assert kinetics.classes == tuple(sorted(LABELS))
    assert {s.group for s in generic} == {"chelsea", "coffee"}
    assert all(s.seconds == 2 for s in kinetics)


@pytest.mark.parametrize("label", LABELS)
def test_flow_is_the_stated_one(label):
    video = next(v for v in plan(SampleOptions()) if v.label == label)
    first, second = (  # smoothed, so that the bilinear look-up here is exact enough
        gaussian_filter(frame.astype(np.float64), (2, 2, 0)) for frame in islice(render(video), 2)
    )
    flow = video.flow()
    y, x = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX] + 0.5
    points = np.stack([x, y], axis=-1)[INSIDE, INSIDE]
    first = first[INSIDE, INSIDE]
    unmoved = np.abs(second[INSIDE, INSIDE] - first).mean()

    def error(offset):
        found = bilinear(second, points + flow[INSIDE, INSIDE] + offset)
        return np.abs(found - first).mean()

    assert error((0, 0)) < 0.2 * unmoved
    for offset in ((0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1)):
        assert error(offset) > error((0, 0))
    assert 0.5 < np.linalg.norm(flow, axis=-1).max() < 3


def test_directions():
    centre = np.array([WIDTH_PX / 2, HEIGHT_PX / 2])
    moved = {}
    for video in plan(SampleOptions(per_class=1)):
        moved[video.label] = video.flow()
    assert (moved["pan left"][..., 0] > 1).all() and (moved["pan right"][..., 0] < -1).all()
    corner = moved["zoom in"][0, 0]
    assert (corner < 0).all() and (moved["zoom out"][0, 0] > 0).all()
    y, x = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX] + 0.5
    clockwise = (x - centre[0]) * moved["rotate"][..., 1] - (y - centre[1]) * moved["rotate"][
        ..., 0
    ]
    assert (clockwise > -1e-5).all()


def test_opposite_motions_show_the_same_frames():
    videos = {v.label: v for v in plan(SampleOptions(per_class=1, seconds=1, fps=5))}
    for one, other in (("pan left", "pan right"), ("zoom in", "zoom out")):
        forwards, backwards = list(render(videos[one])), list(render(videos[other]))[::-1]
        assert all((a == b).all() for a, b in zip(forwards, backwards, strict=True))
        assert (forwards[0] != forwards[-1]).any()


def test_views_of_random_frames_are_distributed_alike():
    """Place, size and turn of a random frame, averaged, do not depend on the class."""
    options = SampleOptions(per_class=600, seconds=1, fps=11)
    generator = np.random.default_rng(5)
    seen = {label: [] for label in LABELS}
    for video in plan(options):
        view = video.view(int(generator.integers(options.frames)))
        scale = np.hypot(view[0, 0], view[1, 0])
        seen[video.label].append([np.log(scale), np.arctan2(view[1, 0], view[0, 0]), view[0, 2]])
    means = np.array([np.mean(seen[label], axis=0) for label in LABELS])
    spreads = np.array([np.std(seen[label], axis=0) for label in LABELS])
    assert (np.abs(means) < 0.2 * spreads).all()
    assert (spreads.max(axis=0) < 1.25 * spreads.min(axis=0)).all()


def test_photographs_are_shared_evenly_and_stay_on_one_side():
    options = SampleOptions(per_class=2 * len(PHOTOGRAPHS))
    videos = plan(options)
    shares = Counter((video.label, video.photograph) for video in videos)
    assert set(shares.values()) == {2} and len(shares) == len(LABELS) * len(PHOTOGRAPHS)
    sides = {(row.group, row.split) for row in segments(videos, options)}
    assert len(sides) == len(PHOTOGRAPHS)
    assert {split for _, split in sides} == {"train", "val"}
    assert len({video.identity for video in videos}) == len(videos)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_have_texture_where_flow_is_measured(name):
    grey = np.asarray(photograph(name).convert("L"), np.float64)
    mean, mean_square = uniform_filter(grey, 16), uniform_filter(grey**2, 16)
    assert (np.sqrt(np.maximum(mean_square - mean**2, 0)) < 2).mean() < 0.1


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("extreme", [-1.0, 1.0])
def test_frames_never_leave_the_photograph(name, extreme):
    picture = photograph(name)
    assert picture.width >= PHOTOGRAPH_PX[0] and picture.height >= PHOTOGRAPH_PX[1]
    for label in LABELS:
        video = Video(
            identity="x" * 11,
            label=label,
            photograph=name,
            place=(extreme, -extreme),
            sweep=1.0,
            held=(extreme, -1.0, extreme),
            frames=2,
        )
        for frame in range(video.frames):
            corners = np.array([[u, v] for u in (-160, 160) for v in (-120, 120)])
            view = video.view(frame)
            reach = np.abs(corners @ view[:, :2].T + view[:, 2]).max(axis=0)
            assert (reach <= np.array(PHOTOGRAPH_PX) / 2 - 2).all()  # 2: reach of bicubic


def test_equal_seeds_make_equal_files(tmp_path):
    options = SampleOptions(per_class=1, seconds=1, fps=5, seed=3)
    one = {p.name: p.read_bytes() for p in make_sample(tmp_path / "one", options)}
    other = {p.name: p.read_bytes() for p in make_sample(tmp_path / "other", options)}
    assert one == other
    changed = {video.identity for video in plan(SampleOptions(per_class=1, seconds=1, fps=5))}
    assert not changed & {name[:11] for name in one}


def test_what_is_there_is_kept(made):
    folder, paths = made
    before = [path.stat().st_mtime_ns for path in paths]
    assert list(make_sample(folder, SampleOptions())) == paths
    assert [path.stat().st_mtime_ns for path in paths] == before


def test_truth_is_written(made):
    folder, _ = made
    truth = json.loads((folder / "motions.json").read_text())
    videos = {video.identity: video for video in plan(SampleOptions())}
    assert truth.keys() == videos.keys()
    for identity, entry in truth.items():
        assert np.allclose(entry["step"], videos[identity].step())
        assert entry["label"] == videos[identity].label


def test_a_failed_encoding_leaves_nothing(tmp_path):
    def frames():
        yield np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode(tmp_path / "x.mp4", frames(), 25)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"per_class": 0}, {"seconds": 0}, {"seconds": 61}, {"fps": 0}])
def test_impossible_wishes(wrong):
    with pytest.raises(UsageError, match="cannot be made"):
        SampleOptions(**wrong)


def test_missing_photograph():
    with pytest.raises(UsageError, match="install scikit-image"):
        photograph("no-such.png")


def test_command(tmp_path):
    runner = click.testing.CliRunner()
    result = runner.invoke(command, [str(tmp_path / "s"), "--per-class", "1", "--seconds", "1"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("5 videos in ")
    assert len(list((tmp_path / "s" / "videos").iterdir())) == 5
