"""A network with its weights in its place, called with windows and answering with rows.

Networks run at one fixed batch size, the last batch filled up with zeros, because another batch
size moves the last bits of a float: a row must not depend on the company its window was in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from extractors import _checkpoint, _classes, _preprocess, _weights
from extractors._errors import ExtractorError, WeightsError
from extractors._layers import fold_batch_norms
from extractors._preprocess import Window
from extractors._spec import Spec

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Network = Callable[[Tensor], Tensor]
SharedRun = Callable[[Tensor, Window, int], Tensor]


class Extractor:
    """A frozen network that turns windows of frames into rows; made by `extractors.build`.

    Attributes
    ----------
    spec : Spec
        What it is.
    weights_digest : str
        sha256 of its weights, or ``random:<seed>``.
    class_names : tuple of str or None
        Names of the columns where the layer is ``logits`` and the names are known.
    device : torch.device
        Where it runs.
    """

    def __init__(self, spec: Spec, net: Network, place: Place, loaded: Loaded) -> None:
        self.spec = spec
        self.weights_digest = loaded.digest
        self.class_names = loaded.class_names
        self.device = place.device
        self._dtype = place.dtype
        self._net = net
        self._mean_cube = loaded.mean_cube
        self._shared = loaded.shared

    def __call__(self, windows: Sequence[Window]) -> NDArray[np.float32]:
        """Return the rows of some windows.

        Parameters
        ----------
        windows : sequence of sequences of arrays
            At most ``spec.batch_windows`` windows of T frames each: ``(H, W, 3)`` uint8 RGB, or
            ``(H, W, 2)`` float32 flow in pixels per frame; resized to
            ``spec.geometry.resized``, not cropped. Windows may share frames.

        Returns
        -------
        array, shape (N, R, D), float32
            R is 1, or the time steps of ``layer=steps``, times the crops where they are kept.

        Raises
        ------
        ExtractorError
            On windows that the extractor cannot take, or whose numbers of rows differ.
        """
        if len(windows) > self.spec.batch_windows:
            raise ExtractorError(
                f"{self.spec.name}: {len(windows)} windows in one call, expected at most "
                f"{self.spec.batch_windows}"
            )
        _preprocess.check(windows, self.spec)
        if not windows:
            return np.empty((0, 1, self.spec.dim), np.float32)
        with torch.inference_mode():
            rows = [row.cpu().numpy() for row in self._rows(windows)]
        if len({row.shape for row in rows}) > 1:
            raise ExtractorError(
                f"{self.spec.name}: windows of different lengths have different numbers of rows; "
                "call with one window at a time"
            )
        return np.stack(rows)

    def _rows(self, windows: Sequence[Window]) -> list[Tensor]:
        """Return (R, D) of each window."""
        inputs = [
            _preprocess.to_tensors(window, self.spec, self.device, self._mean_cube)
            for window in windows
        ]
        if self._shared is not None:
            outputs = iter(self._run_shared(windows, inputs))
        else:
            outputs = iter(self._run([crop for crops in inputs for crop in crops]))
        rows = []
        for crops in inputs:
            found = torch.stack([next(outputs) for _ in crops])  # crops x steps x D
            kept = found.flatten(0, 1) if self.spec.geometry.keep_crops else found.mean(0)
            rows.append(kept)
        return rows

    def _run_shared(self, windows: Sequence[Window], inputs: list[list[Tensor]]) -> list[Tensor]:
        """Return (steps, D) float32 of each crop of each window, which share what they can."""
        assert self._shared is not None
        found = []
        for window, crops in zip(windows, inputs, strict=True):
            for number, x in enumerate(crops):
                y = self._shared(x[None].to(self._dtype), window, number)[0].float()
                found.append(y.unsqueeze(0) if y.ndim == 1 else y)
        return found

    def _run(self, inputs: list[Tensor]) -> list[Tensor]:
        """Return (steps, D) float32 of each network input, equal shapes sharing batches."""
        batch = 1 if self.spec.sampling.mode == "whole" else self.spec.batch_windows
        by_shape: dict[torch.Size, list[int]] = {}
        for index, x in enumerate(inputs):
            by_shape.setdefault(x.shape, []).append(index)
        found: dict[int, Tensor] = {}
        for shape, indices in by_shape.items():
            for start in range(0, len(indices), batch):
                some = indices[start : start + batch]
                x = torch.zeros((batch, *shape), dtype=self._dtype, device=self.device)
                for place, index in enumerate(some):
                    x[place] = inputs[index]
                y = self._net(x).float()
                y = y.unsqueeze(1) if y.ndim == 2 else y  # batch x steps x D
                found.update(zip(some, y, strict=False))
        return [found[index] for index in range(len(inputs))]


class Place:
    """Where and how a network runs: device, precision, compiled or not.

    Raises
    ------
    ExtractorError
        When the device is not there, or cannot do the precision; nothing is substituted.
    """

    def __init__(self, device: str, precision: str, compile: bool) -> None:
        if precision not in PRECISIONS:
            raise ExtractorError(
                f"precision is {precision!r}, expected one of {', '.join(PRECISIONS)}"
            )
        try:
            self.device = torch.device(device)
            torch.empty(1, device=self.device)
        except (RuntimeError, AssertionError) as trouble:
            reason = str(trouble).splitlines()[0]
            raise ExtractorError(f"device {device!r} is not to be had here: {reason}") from trouble
        if precision == "fp16" and self.device.type == "cpu":
            raise ExtractorError("precision fp16 needs a GPU; use fp32 (or bf16) on a CPU")
        self.dtype = PRECISIONS[precision]
        self.compile = compile

    def settle(self, net: nn.Module) -> Network:
        """Fold `net`, put it in its memory format on the device, and perhaps compile it."""
        net.eval()
        fold_batch_norms(net)
        net = net.to(self.device, self.dtype)
        if getattr(net, "channels_last", False):
            for tensor in net.parameters():
                if tensor.ndim == 4:
                    tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
                elif tensor.ndim == 5:
                    tensor.data = tensor.data.contiguous(memory_format=torch.channels_last_3d)
        return torch.compile(net) if self.compile else net


def untrained(module: ModuleType, spec: Spec) -> nn.Module:
    """Return the family's network with the random weights of ``spec.seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        net: nn.Module = module.network(spec)
    _weights.randomise(net, spec.seed)
    return net.eval()


def network_with_weights(module: ModuleType, spec: Spec, weights_dir: Path | None) -> nn.Module:
    """Return the family's network with the weights that `spec` asks for, in plain float32."""
    path = _weights.find(spec, weights_dir)
    net = untrained(module, spec)
    if path is None:
        return net
    known = _weights.chosen(spec)
    if not isinstance(known, Path) and known is not None:
        _weights.verify(path, known)
    state = _checkpoint.read(path)
    try:
        if hasattr(module, "load"):
            module.load(net, spec, state)
        else:
            _weights.load_strictly(net, state, spec.name)
    except (RuntimeError, IndexError) as odd:  # a layout turns axes that such a tensor has not
        raise WeightsError(
            f"{spec.name}: {path} has the names of a known layout, but not its shapes: {odd}"
        ) from odd
    return net


@dataclass(frozen=True, slots=True)
class Loaded:
    """What comes with a network's weights: digest, class names, mean cube, and a shared run."""

    digest: str
    class_names: tuple[str, ...] | None = None
    mean_cube: Tensor | None = None
    shared: SharedRun | None = None


def assemble(module: ModuleType, spec: Spec, weights_dir: Path | None, place: Place) -> Extractor:
    """Return the extractor of one family's `spec`; the work behind `extractors.build`."""
    cube = mean_cube_file(module, spec, weights_dir)
    net = network_with_weights(module, spec, weights_dir)
    settled = place.settle(net)
    loaded = Loaded(
        digest=digest(module, spec, weights_dir),
        class_names=_classes.names(spec, weights_dir),
        mean_cube=None if cube is None else module.read_mean_cube(cube),
        shared=module.sharing(net, spec, place.compile) if hasattr(module, "sharing") else None,
    )
    return Extractor(spec, settled, place, loaded)


def digest(module: ModuleType, spec: Spec, weights_dir: Path | None) -> str:
    """Return the digest of the weights, and of the mean cube where there is one."""
    found = _weights.digest(spec, weights_dir)
    cube = mean_cube_file(module, spec, weights_dir)
    return found if cube is None else f"{found}+{_weights.file_digest(cube)}"


def mean_cube_file(module: ModuleType, spec: Spec, weights_dir: Path | None) -> Path | None:
    """Return the mean cube that the family asks for, if it does."""
    path: Path | None = (
        module.mean_cube(spec, weights_dir) if hasattr(module, "mean_cube") else None
    )
    return path
