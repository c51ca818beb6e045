"""Features from cached flow are the features of inline flow; a cache is filled once."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.store import FeatureStore
from tests.pipeline.command import run
from tests.truth.numbered_video import NumberedVideo, constant, write

FLAGS = ("-w", "0")
RANDOM = ("-e", "efficientnet-lite0-flow", "--set", "efficientnet-lite0-flow.weights=random")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name in "ab":
        video = NumberedVideo(name, **constant(4, Fraction(25)))
        write(folder / f"{name}.mp4", video)
    return folder


def rows(out: Path) -> dict:
    store = FeatureStore(out)
    (recipe,) = store.recipes
    return {key: store[recipe][key].vectors for key in store[recipe].keys()}  # noqa: SIM118


def test_cached_flow_gives_the_same_bits_as_inline(tmp_path: Path, videos: Path) -> None:
    inline, filling, reading = (tmp_path / name for name in ("inline", "filling", "reading"))
    cache = ("--flow-cache", tmp_path / "cache")
    run("extract", "-m", videos, "-o", inline, *RANDOM, *FLAGS)
    text = run("extract", "-m", videos, "-o", filling, *RANDOM, *FLAGS, *cache).output
    assert "an hour of video at 25 fps" in text
    text = run("extract", "-m", videos, "-o", reading, *RANDOM, *FLAGS, *cache).output
    assert "flows kept" not in text
    expected = rows(inline)
    assert len(expected) == 2
    for found in (rows(filling), rows(reading)):
        for key, vectors in expected.items():
            np.testing.assert_array_equal(found[key], vectors)


def test_flow_alone_is_computed_once(tmp_path: Path, videos: Path) -> None:
    wanted = ("flow", "-m", videos, "--flow-cache", tmp_path / "cache", "-w", "0")
    assert "2 to do" in run(*wanted).output
    assert "2 done, 0 to do" in run(*wanted).output
    video = videos / "a.mp4"
    content = video.read_bytes()
    video.write_bytes(content)  # the same bytes, but a new time: another version of the file
    assert "1 done, 1 to do" in run(*wanted).output


def test_a_cache_holds_8_bit_flow_only(tmp_path: Path, videos: Path) -> None:
    depth = ("--flow-cache", tmp_path / "cache", "--flow-depth", "float32")
    result = run("extract", "-m", videos, "-o", tmp_path / "out", *RANDOM, *FLAGS, *depth)
    assert result.status == 2
    assert "--flow-depth is float32" in result.output


def test_an_rgb_extractor_has_no_flow(tmp_path: Path, videos: Path) -> None:
    result = run("flow", "-m", videos, "--flow-cache", tmp_path, "-e", "efficientnet-lite0")
    assert result.status == 2
    assert "looks at rgb" in result.output
