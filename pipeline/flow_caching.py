"""Flow that is kept: read from a cache when it is there, computed and added to it when not.

The cache holds the 8-bit levels that flow passes through anyway, so features from it are the same
numbers as features made inline. Frames are still decoded (it costs about a hundredth of TV-L1);
only the flow itself is looked up, pair by pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from extractors import Spec
from pipeline import flow, pixels
from pipeline.errors import DamagedShard, UsageError
from pipeline.job import Settings
from pipeline.store.flow_cache import FlowCache, FlowWriter, Levels, SourceStamp
from pipeline.streams import FlowMaker, Image, StreamContext
from pipeline.windowing import Sample


def flow_recipe(spec: Spec, settings: Settings) -> dict[str, Any]:
    """Return everything that decides the flow under an extractor: its recipe without the network.

    Raises
    ------
    UsageError
        When the flow is wanted at another depth than a cache holds.
    """
    if settings.flow_depth != "uint8":
        raise UsageError(
            f"--flow-cache holds 8-bit flow, --flow-depth is {settings.flow_depth}; leave one away"
        )
    geometry = asdict(spec.geometry)
    resize = ("short_side_px", "size_px", "interpolation", "antialias")
    sampling = spec.sampling
    parameters = flow.PRESETS[settings.flow_preset]
    return {
        "fps": "native" if sampling.fps is None else str(sampling.fps),
        "resample": sampling.resample,
        "geometry": {name: geometry[name] for name in resize},
        "decode": {"decoder": settings.decoder, "pixels": pixels.PIXELS_VERSION},
        "flow": flow.declared(settings.flow_backend, parameters, settings.flow_depth),
    }


def open_cache(folder: Path, spec: Spec, settings: Settings) -> FlowCache:
    """Return the part of a cache that serves one extractor."""
    return FlowCache(folder, flow_recipe(spec, settings))


@dataclass(slots=True)
class CachedContext(StreamContext):
    """A stream context whose flow goes through a cache.

    Attributes
    ----------
    folder : Path
        The cache.
    key : str
        The segment's.
    stamp : SourceStamp
        Version of its video.
    entries : ExitStack
        New entries are published when it closes without an error.
    """

    folder: Path = Path()
    key: str = ""
    stamp: SourceStamp = field(default_factory=lambda: SourceStamp(0, 0))
    entries: ExitStack = field(default_factory=ExitStack)
    _written: list[FlowCache] = field(default_factory=list)

    def flow_maker(self, spec: Spec) -> FlowMaker:
        """Return what gives the flow of successive pairs: read, or computed and kept."""
        cache = open_cache(self.folder, spec, self.settings)
        if cache.holds(self.key, self.stamp):
            return self._read(cache.stream(self.key))
        self._written.append(cache)
        return self._kept(self.entries.enter_context(cache.writing(self.key, self.stamp)))

    def written_bytes(self) -> int:
        """Bytes of the entries that were added, once `entries` is closed."""
        return sum(cache.bytes_of(self.key) for cache in self._written)

    def _read(self, entry: Iterator[tuple[float, Levels]]) -> FlowMaker:
        def read(previous: Sample[Image], following: Sample[Image]) -> Image:
            _, levels = next(entry, (0.0, None))
            if levels is None or levels.shape[:2] != following.image.shape:
                raise DamagedShard(
                    f"flow cache {self.folder}: the entry of {self.key} does not match its video; "
                    "delete the cache's entry and run the same command again"
                )
            self.monitor.count("cached_flows")
            return flow.dequantise(levels)

        return read

    def _kept(self, writer: FlowWriter) -> FlowMaker:
        def compute(previous: Sample[Image], following: Sample[Image]) -> Image:
            levels = flow.quantise(self.raw_flow(previous.image, following.image))
            writer.append(levels, previous.seconds)
            return flow.dequantise(levels)

        return compute
