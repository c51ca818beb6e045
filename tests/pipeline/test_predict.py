"""One video without a store: the same rows as ``extract``, and classes that follow from them."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import extractors
from manifests import Segment
from pipeline.cli.predict import predict
from pipeline.errors import NotVideo, UsageError, WeightsError
from pipeline.frames import Features
from pipeline.job import Batch, Item, Job, Settings, Target, make_recipe
from pipeline.monitor import Monitor
from pipeline.predict import best_classes, fused, video_rows, with_logits
from pipeline.sources import Located
from pipeline.store import FeatureStore, RecipeShards, Store
from pipeline.work import extract_batch
from tests.truth.numbered_video import NumberedVideo, constant, write

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
SMALL = "torchvision:squeezenet1_1"
RANDOM = {"weights": "random", "batch": "4"}


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("video") / "numbers.mp4"
    write(path, NumberedVideo("numbers", **constant(30)))
    return path


def small(**settings):
    return extractors.spec(SMALL).with_settings({**RANDOM, **settings})


def features(vectors, seconds):
    return Features(np.array(vectors, np.float32), np.array(seconds, np.float64))


@pytest.mark.parametrize(
    ("sampling", "stretch"),
    [({}, (0, None)), ({"fps": "native", "mode": "uniform:4"}, (200, 1000))],
)
def test_rows_are_those_that_extract_stores(video, tmp_path, sampling, stretch):
    spec = small(**sampling)
    settings = Settings()
    found = video_rows(video, [spec], settings, stretch)
    target = Target(spec, make_recipe(spec, settings))
    Store.create(tmp_path, 1)
    RecipeShards.create(tmp_path, target.recipe)
    segment = Segment(video="numbers", start_ms=stretch[0], end_ms=stretch[1])
    status = video.stat()
    located = Located(video, False, status.st_size, status.st_mtime_ns, False)
    job = Job(out=tmp_path, targets=(target,), settings=settings)
    batch = Batch("one", 0, (Item(segment, located, (0,)),))
    extract_batch(job, batch, Monitor("one", lambda _event: None))
    vectors, seconds = FeatureStore(tmp_path)[SMALL][segment.key]
    assert len(vectors) == len(found.streams[0]) > 3
    assert np.array_equal(found.streams[0].vectors, vectors)
    assert np.array_equal(found.streams[0].seconds, seconds)
    assert found.damage == ""


def test_the_whole_video_is_the_mean_of_its_windows_and_probabilities_are_a_softmax():
    logits = features([[1, 2, 0], [3, 0, 0]], [[0, 1], [1, 2.5]])
    whole, windows = best_classes(logits, ("a", "b", "c"), 2)
    exponentials = np.exp([2, 1, 0])
    assert (whole.start_seconds, whole.end_seconds) == (0, 2.5)
    assert [name for name, _, _ in whole.classes] == ["a", "b"]
    assert [score for _, _, score in whole.classes] == [2, 1]
    expected = (exponentials / exponentials.sum())[:2]
    np.testing.assert_allclose([p for _, p, _ in whole.classes], expected)
    assert [w.classes[0][0] for w in windows] == ["b", "a"]
    assert [(w.start_seconds, w.end_seconds) for w in windows] == [(0, 1), (1, 2.5)]


def test_huge_logits_do_not_overflow_and_classes_without_names_have_numbers():
    whole, _ = best_classes(features([[1e4, 0, 9.99e3]], [[0, 1]]), None, 1)
    name, probability, _ = whole.classes[0]
    assert name == "class 0"
    assert probability == pytest.approx(1 / (1 + np.exp(-10)))


def test_logits_of_two_streams_are_added_where_they_start_together():
    rgb = features([[1, 0], [2, 0], [3, 0]], [[0, 1], [1, 2], [2, 3]])
    flow = features([[0, 5], [0, 7]], [[0, 0.9], [2 + 1e-9, 3.5]])
    joint = fused([rgb, flow])
    assert joint.vectors.tolist() == [[1, 5], [3, 7]]
    assert joint.seconds.tolist() == [[0, 1], [2, 3.5]]


def test_streams_that_cannot_be_added_say_why():
    one = features([[1, 0]], [[0, 1]])
    with pytest.raises(UsageError, match="2, 3 classes"):
        fused([one, features([[1, 0, 0]], [[0, 1]])])
    with pytest.raises(UsageError, match="start together"):
        fused([one, features([[1, 0]], [[0.5, 1]])])


def test_two_streams_of_one_pass_are_those_of_two_passes(video):
    first, second = small(), small(seed="5", fps="2")
    together = video_rows(video, [first, second])
    for stream, spec in zip(together.streams, (first, second), strict=True):
        assert np.array_equal(stream.vectors, video_rows(video, [spec]).streams[0].vectors)


def test_an_extractor_without_logits_is_refused():
    with pytest.raises(UsageError, match="efficientnet-lite0-flow has no logits, only pool"):
        with_logits(extractors.spec("efficientnet-lite0-flow"))


def test_the_same_extractor_twice_is_refused(video):
    with pytest.raises(UsageError, match="given twice"):
        video_rows(video, [small(), small()])


def test_missing_weights_are_named_before_anything_is_decoded(video, tmp_path):
    with pytest.raises(WeightsError, match="pipeline weights fetch"):
        video_rows(video, [extractors.spec(SMALL)], Settings(weights=tmp_path))


def test_a_file_that_is_no_video_is_refused(tmp_path):
    (tmp_path / "page.mp4").write_text("<html>not found</html>" * 50)
    with pytest.raises(NotVideo):
        video_rows(tmp_path / "page.mp4", [small()])


def run(*arguments):
    result = CliRunner().invoke(predict, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert ("weights are random" in result.stderr) == any("random" in str(a) for a in arguments)
    return result.stdout


def test_the_command_prints_json_for_programs(video):
    settings = [f"--set={SMALL}.{key}={value}" for key, value in RANDOM.items()]
    answer = json.loads(run(video, "-e", SMALL, *settings, "--json", "--top", 2, "--start", 0.4))
    assert [w["start_seconds"] for w in answer["windows"]] == pytest.approx([0.4, 0.6, 0.8, 1.0])
    assert len(answer["whole"]["classes"]) == 2
    scores = (
        video_rows(video, [with_logits(small())], stretch_ms=(400, None))
        .streams[0]
        .vectors.mean(axis=0)
    )
    assert answer["whole"]["classes"][0][0] == f"class {scores.argmax()}"
    assert answer["whole"]["classes"][0][2] == pytest.approx(float(scores.max()), rel=1e-6)


def test_the_command_prints_classes_with_times(video):
    lines = run(video, "--end", 0.4, "--top", 3).splitlines()
    assert lines[0] == "numbers.mp4: 96x64, 25 fps; efficientnet-lite0"
    whole = lines[3:6]
    assert [float(line.split()[0]) for line in whole] == sorted(
        (float(line.split()[0]) for line in whole), reverse=True
    )
    assert [line.split()[:3] for line in lines[-2:]] == [
        ["0.00", "-", "0.20"],
        ["0.20", "-", "0.40"],
    ]


def test_an_end_before_the_start_is_a_usage_error(video):
    with pytest.raises(UsageError, match="--end 1 is not after --start 2"):
        run(video, "--start", 2, "--end", 1)


def test_imagenet_weights_see_a_bicycle_in_a_real_video():
    biking = DATA / "videos" / "ucf101" / "v_Biking_g06_c03.avi"
    if not biking.is_file():
        pytest.skip("shared test videos are not beside the checkout")
    found = video_rows(
        biking, [with_logits(extractors.spec("efficientnet-lite0"))], None, (0, 1000)
    )
    whole, windows = best_classes(found.streams[0], found.class_names, 3)
    assert len(windows) == 5
    assert {"mountain bike", "bicycle-built-for-two"} & {name for name, _, _ in whole.classes}
    assert found.info.nominal_fps == Fraction(30000, 1001)
