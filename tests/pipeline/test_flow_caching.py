"""Features from cached flow are the features of inline flow; a cache is filled once."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import pipeline.cli
from pipeline.errors import UsageError
from pipeline.store import FeatureStore
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


def run(*arguments: object, status: int = 0) -> str:
    pipeline.cli._collect()
    result = CliRunner().invoke(pipeline.cli.cli, [str(word) for word in arguments],
                                standalone_mode=False)  # fmt: skip
    if result.exception is not None:
        raise result.exception
    assert (result.return_value or 0) == status, result.output
    return result.output


def rows(out: Path) -> dict:
    store = FeatureStore(out)
    (recipe,) = store.recipes
    return {key: store[recipe][key].vectors for key in store[recipe].keys()}  # noqa: SIM118


def test_cached_flow_gives_the_same_bits_as_inline(tmp_path: Path, videos: Path) -> None:
    inline, filling, reading = (tmp_path / name for name in ("inline", "filling", "reading"))
    cache = ("--flow-cache", tmp_path / "cache")
    run("extract", "-m", videos, "-o", inline, *RANDOM, *FLAGS)
    text = run("extract", "-m", videos, "-o", filling, *RANDOM, *FLAGS, *cache)
    assert "an hour of video at 25 fps" in text
    text = run("extract", "-m", videos, "-o", reading, *RANDOM, *FLAGS, *cache)
    assert "flows kept" not in text
    expected = rows(inline)
    assert len(expected) == 2
    for found in (rows(filling), rows(reading)):
        for key, vectors in expected.items():
            np.testing.assert_array_equal(found[key], vectors)


def test_flow_alone_is_computed_once(tmp_path: Path, videos: Path) -> None:
    wanted = ("flow", "-m", videos, "--flow-cache", tmp_path / "cache", "-w", "0")
    assert "2 to do" in run(*wanted)
    assert "2 done, 0 to do" in run(*wanted)
    video = videos / "a.mp4"
    content = video.read_bytes()
    video.write_bytes(content)  # the same bytes, but a new time: another version of the file
    assert "1 done, 1 to do" in run(*wanted)


def test_a_cache_holds_8_bit_flow_only(tmp_path: Path, videos: Path) -> None:
    with pytest.raises(UsageError, match="--flow-depth is float32"):
        run("extract", "-m", videos, "-o", tmp_path / "out", *RANDOM, *FLAGS,
            "--flow-cache", tmp_path / "cache", "--flow-depth", "float32")  # fmt: skip


def test_an_rgb_extractor_has_no_flow(tmp_path: Path, videos: Path) -> None:
    with pytest.raises(UsageError, match="looks at rgb"):
        run("flow", "-m", videos, "--flow-cache", tmp_path, "-e", "efficientnet-lite0")
