from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.frames import Features
from pipeline.heads import checkpoint
from pipeline.heads._head import build
from pipeline.heads._train import Job, Plan, fit, predict
from pipeline.job import Settings
from pipeline.predict_head import set_up


@pytest.fixture
def saved(make_examples, tmp_path):
    data = make_examples(streams=2)
    settings = {"weights": "1:1.5", "l2": "0.01"}
    head = build("late-fusion", data.task, data.dims, settings)
    fit(head, Job(data, range(30)), Plan())
    recipes = ({"extractor": "a", "folder": "a-1"}, {"extractor": "b", "folder": "b-2"})
    note = checkpoint.Note(
        head="late-fusion", settings=settings, dims=data.dims, task=data.task, recipes=recipes
    )
    checkpoint.save(tmp_path / "head", head, note)
    return data, head, tmp_path / "head"


def features_of(data, segment) -> list[Features]:
    rows = [stream[segment].numpy() for stream in data.rows]
    return [Features(r, np.zeros((len(r), 2))) for r in rows]


def test_a_loaded_head_predicts_the_same(saved):
    data, head, folder = saved
    trained = checkpoint.load(folder)
    assert trained.classes == data.task.classes
    assert [recipe["folder"] for recipe in trained.recipes] == ["a-1", "b-2"]
    expected = predict(head, data, [7], Plan())[0][0]
    found = checkpoint.predict_features(folder, features_of(data, 7))
    np.testing.assert_allclose(found, expected, atol=1e-7)
    np.testing.assert_array_equal(trained.probabilities(features_of(data, 7)), found)


def test_a_note_whose_recipes_are_none_is_refused(saved):
    with pytest.raises(
        UsageError, match=r"a recipe that no release wrote \(KeyError\('settings'\)"
    ):
        set_up(checkpoint.load(saved[2]), Settings(), {})


def test_streams_that_do_not_fit_are_refused(saved):
    data, _, folder = saved
    with pytest.raises(UsageError, match="2 streams"):
        checkpoint.predict_features(folder, features_of(data, 7)[:1])
    one, two = features_of(data, 7)[0], features_of(data, 6)[1]
    with pytest.raises(UsageError, match="as many rows each"):
        checkpoint.predict_features(folder, [one, two])


def test_a_folder_without_a_head_says_how_to_make_one(tmp_path):
    with pytest.raises(UsageError, match="pipeline train --checkpoint"):
        checkpoint.load(tmp_path)


def test_weights_of_another_head_are_refused(saved):
    _, _, folder = saved
    note = json.loads((folder / checkpoint.NOTE_FILE).read_text())
    note["dims"] = [4, 4]
    (folder / checkpoint.NOTE_FILE).write_text(json.dumps(note))
    with pytest.raises(UsageError, match="not the weights of this late-fusion head"):
        checkpoint.load(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 1}'])
def test_a_damaged_note_is_refused(saved, text):
    folder = saved[2]
    (folder / checkpoint.NOTE_FILE).write_text(text)
    with pytest.raises(UsageError, match="train again"):
        checkpoint.load(folder)


def test_a_later_format_is_refused(saved):
    folder = saved[2]
    note = json.loads((folder / checkpoint.NOTE_FILE).read_text())
    (folder / checkpoint.NOTE_FILE).write_text(json.dumps({**note, "format": 99}))
    with pytest.raises(UsageError, match="another version"):
        checkpoint.load(folder)
