"""Other people's names for the same tensors: translation of checkpoint layouts, strictly.

A layout is a mapping from our key to theirs. It is chosen by what the checkpoint holds, never by
its file name, and every key must be accounted for: a checkpoint that lacks one, or brings one
that the layout does not know, is refused with the names as they stand in that checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from extractors._errors import WeightsError

UNUSED = ("num_batches_tracked", "/Momentum", "global_step", "learning_rate")
"""Ends of keys that no result depends on: counters and what the optimiser kept."""


def used(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that a result can depend on."""
    return {key: tensor for key, tensor in state.items() if not key.endswith(UNUSED)}


def translate(
    state: Mapping[str, Tensor], layout: Mapping[str, str], title: str
) -> dict[str, Tensor]:
    """Return a checkpoint's tensors under our keys.

    Parameters
    ----------
    state : Mapping of str to Tensor
        The checkpoint.
    layout : Mapping of str to str
        From our key to the checkpoint's.
    title : str
        Extractor and layout, for the error.

    Raises
    ------
    WeightsError
        Naming every missing and every unexpected key of the checkpoint.
    """
    given = used(state)
    missing = sorted(set(layout.values()) - given.keys())
    unexpected = sorted(given.keys() - set(layout.values()))
    if missing or unexpected:
        raise WeightsError(
            f"{title}: the checkpoint does not have exactly this network's tensors; "
            f"missing: {', '.join(missing) or 'none'}; "
            f"unexpected: {', '.join(unexpected) or 'none'}"
        )
    return {own: given[theirs] for own, theirs in layout.items()}


def unknown(state: Mapping[str, Tensor], owner: str, layouts: Iterable[str]) -> WeightsError:
    """Return the error for a checkpoint that looks like none of the known layouts."""
    some = ", ".join(sorted(state)[:5])
    return WeightsError(
        f"{owner}: the checkpoint begins with {some}, expected the keys of "
        f"{', '.join(layouts)}, or our own"
    )
