"""Labels, splits and groups of segments: from a manifest, or as the store noted them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from manifests import Manifest
from pipeline.errors import UsageError
from pipeline.store import FeatureSet

NAMED_IN_ERRORS = 5
UNLABELLED = -1


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known of some segments besides their features, in one order.

    Attributes
    ----------
    keys, splits, groups : tuple of str
    names : tuple of tuple of str
        Labels of each segment.
    classes : tuple of str
        Every class name in index order; empty when the list does not say.
    """

    keys: tuple[str, ...]
    splits: tuple[str, ...]
    groups: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    classes: tuple[str, ...] = ()

    @classmethod
    def of_manifest(cls, manifest: Manifest) -> Labels:
        """Take them from a manifest."""
        rows = manifest.segments
        return cls(
            tuple(s.key for s in rows),
            tuple(s.split for s in rows),
            tuple(s.group for s in rows),
            tuple(s.labels for s in rows),
            manifest.classes,
        )

    @classmethod
    def of_store(cls, features: FeatureSet) -> Labels:
        """Take them from what the store noted when the features were made."""
        items = features.items
        keys, splits, groups = (tuple(items[name].tolist()) for name in ("key", "split", "group"))
        names = tuple(tuple(filter(None, text.split("|"))) for text in items["label"])
        return cls(keys, splits, groups, names)

    def keep(self, chosen: Sequence[int]) -> Labels:
        """Return some of the segments."""
        return Labels(
            tuple(self.keys[k] for k in chosen),
            tuple(self.splits[k] for k in chosen),
            tuple(self.groups[k] for k in chosen),
            tuple(self.names[k] for k in chosen),
            self.classes,
        )

    def of_split(self, split: str | None) -> Labels:
        """Return the segments of one split, or all for None.

        Raises
        ------
        UsageError
            When there is none; the message lists the splits there are.
        """
        if split is None:
            return self
        chosen = [n for n, name in enumerate(self.splits) if name == split]
        if not chosen:
            there = ", ".join(sorted(set(self.splits) - {""})) or "none named"
            raise UsageError(f"no segment of split {split!r}; splits there: {there}")
        return self.keep(chosen)

    def found(self) -> tuple[str, ...]:
        """Return every label that occurs, sorted."""
        return tuple(sorted({name for names in self.names for name in names}))


def targets_of(
    labels: Labels, classes: tuple[str, ...], multi_label: bool, labelled: bool
) -> Tensor:
    """Return class numbers, or ones and zeros per class where segments have several labels.

    Parameters
    ----------
    labels : Labels
    classes : tuple of str
        Class names in index order.
    multi_label : bool
        Give (n, C) float32 ones and zeros instead of (n,) int64 numbers.
    labelled : bool
        Demand a label for each; otherwise those without get `UNLABELLED`, or zeros.

    Raises
    ------
    UsageError
        When a label is missing, or is not among the classes; the message names some.
    """
    bare = [key for key, names in zip(labels.keys, labels.names, strict=True) if not names]
    if bare and labelled:
        raise UsageError(
            f"{len(bare)} segments have no label: {some(bare)}; give the manifest that labels "
            "them, or leave them out of it"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    strange = sorted({name for names in labels.names for name in names} - set(numbers))
    if strange:
        raise UsageError(
            f"{len(strange)} labels are not among the {len(classes)} classes: {some(strange)}"
        )
    if not multi_label:
        return torch.tensor([numbers[n[0]] if n else UNLABELLED for n in labels.names])
    targets = torch.zeros(len(labels.keys), len(classes))
    for row, names in enumerate(labels.names):
        targets[row, [numbers[name] for name in names]] = 1.0
    return targets


def some(names: Sequence[str]) -> str:
    """Name the first few, and say how many more there are."""
    more = len(names) - NAMED_IN_ERRORS
    return ", ".join(names[:NAMED_IN_ERRORS]) + (f" and {more} more" if more > 0 else "")
