"""What a worker is told: the job, once; a batch, each time; and what it answers.

All of it is small and picklable: paths, times and settings cross the network, frames never do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import extractors
from extractors import Spec
from manifests import Segment
from pipeline import decode, flow, pixels
from pipeline.provenance import Recipe
from pipeline.sampling import Grid
from pipeline.sources import Located, SourceOptions

if TYPE_CHECKING:
    from extractors._extractor import Extractor

NUMERICS_VERSION = 2
"""Raised whenever the same settings would give other numbers than the release before."""

GridOf = Callable[[Spec], Grid]
Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of a run that are not one extractor's.

    Attributes
    ----------
    decoder : str
        Decoding backend.
    min_coverage : float
        Share of a segment that must decode; less is `Truncated`.
    flow_backend, flow_preset, flow_depth : str
        TV-L1 implementation, its parameters by name, and ``uint8`` or ``float32`` storage depth.
    store_dtype : {"float32", "float16"}
        How vectors are stored.
    device, precision, compile
        Where and how networks run.
    threads : int
        Threads of torch, OpenCV and the decoder in each worker.
    weights : Path or None
        Folder of weights files.
    limits : decode.Limits
        What is refused before decoding.
    decode_stall_seconds : float
        A decoder that gives no frame for so long is a `Timeout`.
    """

    decoder: str = "pyav"
    min_coverage: float = 0.9
    flow_backend: str = "native"
    flow_preset: str = "faithful"
    flow_depth: flow.Depth = "uint8"
    store_dtype: Literal["float32", "float16"] = "float32"
    device: str = "cpu"
    precision: Precision = "fp32"
    compile: bool = False
    threads: int = 1
    weights: Path | None = None
    limits: decode.Limits = field(default_factory=decode.Limits)
    decode_stall_seconds: float = 60.0

    def decode_options(self) -> decode.DecodeOptions:
        """Return how videos are decoded."""
        return decode.DecodeOptions(
            decoder=self.decoder,
            threads=self.threads,
            limits=self.limits,
            stall_seconds=self.decode_stall_seconds,
        )

    def build(self, spec: Spec) -> Extractor:
        """Return a network in its place."""
        return extractors.build(
            spec,
            weights_dir=self.weights,
            device=self.device,
            precision=self.precision,
            compile=self.compile,
        )

    def open_flow(self, specs: Iterable[Spec]) -> flow.FlowBackend | None:
        """Return the TV-L1 implementation, None when no extractor is on flow."""
        if all(spec.modality != "flow" for spec in specs):
            return None
        parameters = flow.PRESETS[self.flow_preset]
        return flow.open_backend(self.flow_backend, parameters, self.device)

    def totals(self, path: Path, specs: Iterable[Spec], grid_of: GridOf) -> dict[Grid, int]:
        """Count the samples of grids whose windows spread evenly over a whole segment."""
        uniform = [spec for spec in specs if spec.sampling.mode == "uniform"]
        grids = {grid_of(spec) for spec in uniform}
        options = self.decode_options()
        return {grid: decode.count_samples(path, grid, options=options) for grid in grids}


@dataclass(frozen=True, slots=True)
class Target:
    """One extractor of a run, and the recipe that names its folder."""

    spec: Spec
    recipe: Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything a worker needs besides the segments.

    Attributes
    ----------
    out : Path
        The store.
    targets : tuple of Target
        The extractors, which share one decoding pass.
    settings : Settings
        The rest.
    sources : tuple of str
        ``--videos`` values that a worker may have to ask (remote ones), in order.
    source_options : SourceOptions
        Scratch folder, credentials by path, limits.
    run : str
        Id of the run, recorded in every shard.
    flow_cache : Path or None
        Where flow is kept.
    flow_only : bool
        Fill the flow cache and run no network.
    """

    out: Path
    targets: tuple[Target, ...]
    settings: Settings
    sources: tuple[str, ...] = ()
    source_options: SourceOptions = field(default_factory=SourceOptions)
    run: str = ""
    flow_cache: Path | None = None
    flow_only: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One segment to do.

    Attributes
    ----------
    segment : Segment
        What to extract.
    located : Located or None
        Its file, when the driver could tell; None lets the worker ask the sources.
    targets : tuple of int
        Positions in `Job.targets` of the recipes that lack it.
    attempts : int
        How often it has failed before.
    shared : bool
        Whether the list has other segments of its video.
    """

    segment: Segment
    located: Located | None
    targets: tuple[int, ...]
    attempts: int = 0
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """The unit of work: missing segments of one hash bucket."""

    name: str
    bucket: int
    items: tuple[Item, ...]
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """A segment that failed, as the driver reports it."""

    key: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a worker committed of a batch.

    Attributes
    ----------
    batch : str
        Name of the batch.
    done : tuple of str
        Keys whose every missing recipe is committed.
    failed : tuple of Failed
        Segments with a failure row.
    left : tuple of str
        Keys not begun, because the worker was asked to stop.
    shards : tuple of str
        Files written, relative to the store.
    rows, bytes : int
        Rows and bytes written.
    seconds : Mapping of str to float
        Time by activity.
    counts : Mapping of str to int
        Frames, flows and windows.
    """

    batch: str
    done: tuple[str, ...]
    failed: tuple[Failed, ...]
    left: tuple[str, ...] = ()
    shards: tuple[str, ...] = ()
    rows: int = 0
    bytes: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain values, for a message."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Receipt:
        """Return what `to_plain` wrote; a message turns tuples into lists."""
        tuples = {name: tuple(plain[name]) for name in ("done", "left", "shards")}
        failed = tuple(Failed(**failed) for failed in plain["failed"])
        return cls(**{**plain, **tuples, "failed": failed})


def make_recipe(spec: Spec, settings: Settings) -> Recipe:
    """Return the recipe of one extractor under a run's settings.

    Raises
    ------
    WeightsError
        When the weights are missing, damaged or of another network.
    """
    declared: dict[str, Any] = {
        "spec": spec.declared(),
        "weights": extractors.digest_weights(spec, settings.weights),
        "decode": {"decoder": settings.decoder, "pixels": pixels.PIXELS_VERSION},
        "min_coverage": settings.min_coverage,
        "dtype": settings.store_dtype,
        "precision": settings.precision,
        "compile": settings.compile,
        "numerics": NUMERICS_VERSION,
    }
    if spec.modality == "flow":
        parameters = flow.PRESETS[settings.flow_preset]
        declared["flow"] = flow.declared(settings.flow_backend, parameters, settings.flow_depth)
    return Recipe(spec.name, declared)
