"""Frozen networks that turn windows of frames into vectors: knows torch, nothing of videos or Dask.

A module whose name has no leading underscore is one family of networks. It declares

``SPECS``
    a tuple of `Spec`, one per name on the command line, and/or
``PREFIX`` with ``resolve(name) -> Spec``
    for names that another library lists, such as ``torchvision:resnet50``; a tuple of prefixes
    is fine;
``network(spec) -> nn.Module``
    the untrained network; it maps ``(N, C, T, H, W)`` to rows ``(N, D)`` or ``(N, steps, D)``
    of ``spec.layer`` (``C`` is 2 T and ``T`` is 1 where ``spec.flow_stack``);
``load(net, spec, state)``, optional
    puts a checkpoint's tensors into it, whatever layout they come in; without it the keys must
    be the network's own;
``mean_cube(spec, weights_dir) -> Path | None`` with ``read_mean_cube(path)``, optional
    names a mean volume that is subtracted before the crop instead of the means per channel;
``fetch(known, folder) -> Path``, optional
    brings a weights file that has no plain address into the weights folder, checked;
``sharing(net, spec, compile)``, optional
    returns how overlapping windows are run together, or None.

Adding a backbone is adding one such file: there is no list to edit.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from extractors._errors import ExtractorError, WeightsError
from extractors._spec import Geometry, Normalisation, Sampling, Spec, Weights

if TYPE_CHECKING:
    from extractors._extractor import Extractor

__all__ = [
    "ExtractorError",
    "Geometry",
    "Normalisation",
    "Sampling",
    "Spec",
    "Weights",
    "WeightsError",
    "build",
    "digest_weights",
    "fetcher",
    "names",
    "prefixes",
    "spec",
]


def _families() -> list[str]:
    found = [module.name for module in pkgutil.iter_modules(__path__)]
    return sorted(name for name in found if not name.startswith("_"))


def _modules(name: str = "") -> Iterator[ModuleType]:
    """Import the families one by one, those that `name` begins with first."""

    def unlike(family: str) -> bool:
        return not name.startswith(family.replace("_", "-"))

    for family in sorted(_families(), key=unlike):
        yield importlib.import_module(f"extractors.{family}")


def _resolve(name: str) -> tuple[ModuleType, Spec]:
    for module in _modules(name):
        for known in getattr(module, "SPECS", ()):
            if known.name == name:
                return module, known
        if name.startswith(getattr(module, "PREFIX", ())):
            resolved: Spec = module.resolve(name)
            return module, resolved
    near = difflib.get_close_matches(name, names(), n=3, cutoff=0.4) or names()
    others = "".join(f", or {prefix}NAME" for prefix in prefixes())
    raise ExtractorError(
        f"no extractor is called {name!r}; the nearest are {', '.join(near)}{others}"
    )


def names() -> tuple[str, ...]:
    """Return the name of every extractor that a family declares, sorted."""
    return tuple(sorted(s.name for module in _modules() for s in getattr(module, "SPECS", ())))


def prefixes() -> tuple[str, ...]:
    """Return the prefixes, such as ``torchvision:``, that open another library's list."""
    found: list[str] = []
    for module in _modules():
        prefix: str | tuple[str, ...] = getattr(module, "PREFIX", ())
        found += [prefix] if isinstance(prefix, str) else prefix
    return tuple(sorted(found))


def spec(name: str) -> Spec:
    """Return the `Spec` of an extractor.

    Parameters
    ----------
    name : str
        One of `names`, or a name behind one of `prefixes`.

    Raises
    ------
    ExtractorError
        When nothing is called so; the message holds the nearest names.
    """
    return _resolve(name)[1]


def fetcher(name: str) -> Callable[[Weights, Path], Path] | None:
    """Return how a family brings weights that have no plain address, None where they have one."""
    found: Callable[[Weights, Path], Path] | None = getattr(_resolve(name)[0], "fetch", None)
    return found


def build(
    spec: Spec,
    *,
    weights_dir: Path | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    compile: bool = False,
) -> Extractor:
    """Make an extractor ready to call: network, weights, and its place on a device.

    Parameters
    ----------
    spec : Spec
        What to build, from `spec` and perhaps ``with_settings``.
    weights_dir : Path, optional
        Folder of downloaded weights; the user's cache folder by default.
    device : str
        ``cpu``, ``cuda``, ``cuda:1``, ...; never exchanged for another.
    precision : {"fp32", "bf16", "fp16"}
        Arithmetic of the network; rows are float32 always.
    compile : bool
        Compile the network with `torch.compile`.

    Raises
    ------
    WeightsError
        When the weights are missing, damaged or of another network.
    ExtractorError
        When the device or precision is not to be had.
    """
    from extractors import _extractor

    place = _extractor.Place(device, precision, compile)
    return _extractor.assemble(_resolve(spec.name)[0], spec, weights_dir, place)


def digest_weights(spec: Spec, weights_dir: Path | None = None) -> str:
    """Return what identifies the weights in a recipe, without building anything.

    Returns
    -------
    str
        sha256 of the file (of its source, for a converted file), or ``random:<seed>``; a mean
        cube's sha256 follows a ``+`` where the spec asks for one.

    Raises
    ------
    WeightsError
        When the file is missing; the message says where to get it.
    """
    from extractors import _extractor

    return _extractor.digest(_resolve(spec.name)[0], spec, weights_dir)
