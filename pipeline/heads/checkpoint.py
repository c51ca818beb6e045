"""A trained head on disk: ``head.safetensors`` and ``head.json`` in one folder, nothing pickled.

The JSON says everything needed to use the weights on a new video: the head and its settings, the
recipes its rows must come from (whole, so that the extractor can be set up alike), and the
classes; and how good it was, on which segments, so that nobody has to remember.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.frames import Features
from pipeline.heads._head import Batch, Head, Task, build

WEIGHTS_FILE, NOTE_FILE = "head.safetensors", "head.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Note:
    """What stands beside the weights.

    Attributes
    ----------
    head : str
    settings : Mapping of str to str
    dims : tuple of int
        D of each stream.
    task : Task
    recipes : tuple of Mapping
        ``recipe.json`` of each stream, with its ``folder`` name, in the order of `dims`.
    figures, training : Mapping
        What was measured, and how it was trained (plan, seed, splits, chosen values).
    """

    head: str
    settings: Mapping[str, str]
    dims: tuple[int, ...]
    task: Task
    recipes: tuple[Mapping[str, Any], ...]
    figures: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """A head ready to be used.

    Attributes
    ----------
    module : Head
        In evaluation mode.
    note : Note
    """

    module: Head
    note: Note

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the probabilities."""
        return self.note.task.classes

    @property
    def recipes(self) -> tuple[Mapping[str, Any], ...]:
        """The recipe of each stream, as ``recipe.json`` holds it."""
        return self.note.recipes

    def probabilities(self, streams: Sequence[Features]) -> NDArray[np.float64]:
        """Return the probability of each class for one stretch of video, (C,).

        Parameters
        ----------
        streams : sequence of Features
            One per recipe, in the order of `recipes`; rows joined by time, so equally many.

        Raises
        ------
        UsageError
            When streams, lengths or dimensions are not what the head was trained on.
        """
        shapes = [features.vectors.shape for features in streams]
        wanted = [(shapes[0][0] if shapes else 1, dim) for dim in self.note.dims]
        if shapes != wanted or not shapes[0][0]:
            raise UsageError(
                f"the head takes {len(wanted)} streams of (rows, {list(self.note.dims)}) with as "
                f"many rows each and at least one, got {shapes}"
            )
        rows = tuple(torch.from_numpy(np.float32(f.vectors)).unsqueeze(0) for f in streams)
        mask = torch.ones(1, shapes[0][0], dtype=torch.bool)
        with torch.inference_mode():
            found = self.module(Batch(rows, mask, torch.zeros(1, dtype=torch.int64)))
        return np.asarray(found[0].double().numpy())


def save(folder: Path, module: Head, note: Note) -> None:
    """Write a checkpoint; a reader sees the old one or the new one, never half of one.

    The weights are written first; the note, written last, makes the checkpoint valid.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: t.detach().cpu().contiguous().clone() for k, t in module.state_dict().items()}
    temporary = folder / (WEIGHTS_FILE + ".writing")
    save_file(tensors, temporary)
    os.replace(temporary, folder / WEIGHTS_FILE)
    plain = {"format": FORMAT, **asdict(note)}
    text = folder / (NOTE_FILE + ".writing")
    text.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(text, folder / NOTE_FILE)


def read_note(folder: Path) -> Note:
    """Return what stands beside the weights of a checkpoint.

    Raises
    ------
    UsageError
        When the folder is no checkpoint, or of a later format.
    """
    path = folder / NOTE_FILE
    try:
        plain = json.loads(path.read_text("utf-8"))
        if plain.pop("format") != FORMAT:
            raise UsageError(f"{path}: written by another version; train again")
        task = Task(
            tuple(plain["task"]["classes"]),
            bool(plain["task"]["multi_label"]),
            tuple(plain["task"]["class_weights"]),
        )
        recipes = tuple(plain.pop("recipes"))
        return Note(**{**plain, "task": task, "dims": tuple(plain["dims"]), "recipes": recipes})
    except FileNotFoundError:
        raise UsageError(
            f"{folder}: no trained head here ({NOTE_FILE} is missing); "
            "make one with pipeline train --checkpoint"
        ) from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not a head's note ({error}); train again") from None


def load(checkpoint: Path | str) -> Trained:
    """Return a trained head from its folder.

    Raises
    ------
    UsageError
        When it is no checkpoint, or its weights do not belong to its note.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(checkpoint)
    note = read_note(folder)
    module = build(note.head, note.task, note.dims, note.settings)
    try:
        module.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UsageError(
            f"{folder / WEIGHTS_FILE}: not the weights of this {note.head} head ({error}); "
            "train again"
        ) from None
    return Trained(module.eval(), note)


def predict_features(checkpoint: Path | str, features: Sequence[Features]) -> NDArray[np.float64]:
    """Return class probabilities (C,) of one stretch of video; see `Trained.probabilities`."""
    return load(checkpoint).probabilities(features)
