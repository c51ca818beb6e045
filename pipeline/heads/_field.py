"""The rows of the field: which systems a store's recipes make, and what is known of each.

A recipe is a network with its sampling, and a system is a recipe, or an RGB and a flow one, under
a head. The names of the rows are those of Karpathy et al. 2014, Simonyan & Zisserman 2014 and
Carreira & Zisserman 2017, so that a row can stand beside the figure published for it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

import extractors
from extractors import ExtractorError, Spec
from pipeline.errors import UsageError
from pipeline.heads._nested import Candidate
from pipeline.heads._train import Plan
from pipeline.heads.late_fusion import parse_weights

ORDER = (
    "single frame", "early fusion", "late fusion", "slow fusion", "multiresolution",
    "ConvNet+LSTM", "3D-ConvNet", "two-stream, RGB", "two-stream, flow", "two-stream, both",
    "I3D, RGB", "I3D, flow", "I3D, both", "other",
)  # fmt: skip
KARPATHY_ROWS = {
    "karpathy-single": "single frame",
    "karpathy-early": "early fusion",
    "karpathy-late": "late fusion",
    "karpathy-slow": "slow fusion",
    "karpathy-multires": "multiresolution",
    "karpathy-slow-multires": "multiresolution",
}
HEADS = ("average", "lstm", "late-fusion")
CHOSEN = "chosen"
"""Weights of a fusion that are found on inner folds of the training groups."""
POOLS = ("mean", "mean+std", "mean+diff")
VIDEO_WORDS = ("Sports-1M", "Kinetics", "Charades", "UCF101", "HMDB51")


@dataclass(frozen=True)
class Stream:
    """One recipe of the store.

    Attributes
    ----------
    folder : str
    recipe : Mapping
        As ``recipe.json`` holds it.
    """

    folder: str
    recipe: Mapping[str, Any]

    @property
    def extractor(self) -> str:
        """Name of the extractor."""
        return str(self.recipe["extractor"])

    @property
    def declared(self) -> Mapping[str, Any]:
        """The spec's settings."""
        found: Mapping[str, Any] = self.recipe["settings"]["spec"]
        return found

    @property
    def is_flow(self) -> bool:
        """True when the network sees flow."""
        return bool(self.declared["modality"] == "flow")

    @property
    def window(self) -> int:
        """Frames of a window."""
        return int(self.declared["sampling"]["window"])

    @property
    def row(self) -> str:
        """The row of the field that the recipe under a pooling head belongs to."""
        name = self.extractor
        for prefix in sorted(KARPATHY_ROWS, key=len, reverse=True):
            if name.startswith(prefix):
                return KARPATHY_ROWS[prefix]
        modality = "flow" if self.is_flow else "RGB"
        if name.startswith("i3d"):
            return f"I3D, {modality}"
        if name.startswith("c3d"):
            return "3D-ConvNet"
        if self.is_flow or self.window == 1 or name.startswith("two-stream"):
            return f"two-stream, {modality}"
        return "other"

    @property
    def spec(self) -> Spec | None:
        """The extractor's spec, None when this installation does not have it."""
        try:
            return extractors.spec(self.extractor)
        except ExtractorError:
            return None

    @property
    def trained_on(self) -> str:
        """What the weights in force were trained on, and what they never saw."""
        digest = str(self.recipe["settings"].get("weights", ""))
        if digest.startswith("random"):
            return "nothing (random weights)"
        spec = self.spec
        known = {w.sha256: w.trained_on for w in (spec.weights if spec else ()) if w.sha256}
        found = known.get(digest.partition("+")[0], "")
        if not found:
            return "unknown (the user's own weights)"
        if "no flow" in found or any(word in found for word in VIDEO_WORDS):
            return found
        unseen = "flow" if self.is_flow else "video"
        return f"{found}; never saw {unseen} in training"

    @property
    def parameters(self) -> int | None:
        """Parameters of the network, None when it cannot be built."""
        spec = self.spec
        return None if spec is None else count_parameters(spec)


def count_parameters(spec: Spec) -> int | None:
    """Count a network's parameters without giving them memory."""
    for entry in pkgutil.iter_modules(extractors.__path__):
        if entry.name.startswith("_"):
            continue
        family = importlib.import_module(f"extractors.{entry.name}")
        named = any(known.name == spec.name for known in getattr(family, "SPECS", ()))
        if named or spec.name.startswith(getattr(family, "PREFIX", ())):
            with torch.device("meta"):
                network: torch.nn.Module = family.network(spec)
            return sum(parameter.numel() for parameter in network.parameters())
    return None


@dataclass(frozen=True)
class Entry:
    """One line of the table.

    Attributes
    ----------
    row : str
        Row of the field.
    head : str
        The head in words.
    streams : tuple of str
        Recipe folders.
    candidates : tuple of Candidate
        What nested cross-validation may choose from; empty for a fusion.
    fused : tuple of int
        Numbers of the entries whose probabilities are averaged.
    weights : str
        Of a fusion: empty for equal ones, ``chosen``, or a ratio RGB:flow.
    """

    row: str
    head: str
    streams: tuple[str, ...]
    candidates: tuple[Candidate, ...] = ()
    fused: tuple[int, ...] = ()
    weights: str = ""


@dataclass(frozen=True)
class Effort:
    """How much is tried.

    Attributes
    ----------
    plan : Plan
        For heads trained by descent.
    lstm : tuple of Mapping
        Settings of the LSTM candidates.
    heads : tuple of str
        Of `HEADS`.
    fusion : tuple of str
        Weights of RGB and flow beside equal ones: ratios, or ``chosen`` on inner folds.

    Raises
    ------
    UsageError
        On an unknown head, or weights that are no ratio of two.
    """

    plan: Plan = field(default_factory=Plan)
    lstm: tuple[Mapping[str, str], ...] = ({},)
    heads: tuple[str, ...] = HEADS
    fusion: tuple[str, ...] = (CHOSEN,)

    def __post_init__(self) -> None:
        strange = [name for name in self.heads if name not in HEADS]
        if strange or not self.heads:
            raise UsageError(
                f"heads to compare are {', '.join(self.heads) or 'none'}; expected some of "
                f"{', '.join(HEADS)}"
            )
        for text in self.fusion:
            if text != CHOSEN:
                parse_weights(text, 2)


def entries(streams: Sequence[Stream], effort: Effort) -> list[Entry]:
    """Return every suitable head on every recipe, and the fusions of RGB with flow."""
    found: list[Entry] = []
    for stream in streams:
        found += _single(stream, effort)
    if "late-fusion" in effort.heads:
        for rgb, flow in pairs(streams):
            found += _both(found, rgb, flow, effort)
    order = {row: number for number, row in enumerate(ORDER)}
    places = sorted(range(len(found)), key=lambda k: order[found[k].row])
    moved = {old: new for new, old in enumerate(places)}
    return [_renumbered(found[k], moved) for k in places]


def _renumbered(entry: Entry, moved: Mapping[int, int]) -> Entry:
    return replace(entry, fused=tuple(moved[k] for k in entry.fused))


def _single(stream: Stream, effort: Effort) -> list[Entry]:
    """Heads on one recipe."""
    mine = (stream.folder,)
    found: list[Entry] = []
    if "average" in effort.heads:
        if stream.row == "two-stream, RGB":
            middle = Candidate("average", {"pool": "middle"})
            found.append(Entry("single frame", "middle row only", mine, (middle,)))
        mean = Candidate("average", {"pool": "mean"})
        found.append(Entry(stream.row, "mean", mine, (mean,)))
        pools = tuple(Candidate("average", {"pool": pool}) for pool in POOLS)
        found.append(Entry(stream.row, "pooled, chosen inside", mine, pools))
    if "lstm" in effort.heads:
        lstm = tuple(Candidate("lstm", settings, effort.plan) for settings in effort.lstm)
        framewise = stream.row == "two-stream, RGB"
        found.append(Entry("ConvNet+LSTM" if framewise else stream.row, "LSTM", mine, lstm))
    return found


def pairs(streams: Sequence[Stream]) -> list[tuple[Stream, Stream]]:
    """Return each RGB recipe with each flow recipe of its own kind of network."""
    found = []
    for rgb in streams:
        for flow in streams:
            kind = rgb.row.removesuffix(", RGB")
            if kind != rgb.row and flow.row == f"{kind}, flow":
                found.append((rgb, flow))
    return found


_FUSED = {"": "scores averaged", CHOSEN: "weights chosen inside"}


def _both(found: Sequence[Entry], rgb: Stream, flow: Stream, effort: Effort) -> list[Entry]:
    """Fusions of an RGB and a flow recipe, head by head, and of all four heads."""

    def number(stream: Stream, head: str) -> list[int]:
        wanted = (stream.folder,)
        return [k for k, e in enumerate(found) if e.streams == wanted and e.head == head]

    row = flow.row.replace("flow", "both")
    folders = (rgb.folder, flow.folder)
    made: list[Entry] = []
    parts: list[int] = []

    def fuse(head: str, own: list[int]) -> None:
        for weights in dict.fromkeys(("", *effort.fusion)):
            text = f"{head}; {_FUSED.get(weights, f'scores averaged {weights}')}"
            made.append(Entry(row, text, folders, fused=tuple(own), weights=weights))

    for head in ("mean", "pooled, chosen inside", "LSTM"):
        own = number(rgb, head) + number(flow, head)
        if len(own) == 2:
            fuse(head, own)
            if head != "mean":
                parts += own
    if len(parts) == 4:
        fuse("pooled and LSTM, four scores", parts)
    if "average" in effort.heads:
        pools = tuple(Candidate("average", {"pool": pool}) for pool in POOLS)
        made.append(Entry(row, "learned fusion, pooled", folders, pools))
    return made
