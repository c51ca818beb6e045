"""Overlapping I3D windows share what they have in common, exactly.

The first half of I3D (up to ``mixed_3c``, four fifths of its work) runs at half the frame rate,
so windows whose starts differ by a multiple of 8 frames fall on one grid of positions. Inside a
window a position's activations do not depend on where the window begins; only a border that grows
by one position a layer on each side meets the zeros of ``SAME`` padding. So each layer is computed
in blocks: inside, blocks that repeat every four positions, kept for the next window, and the two
borders anew for each window.

Blocks have the same shapes whether or not they are shared, so a row's bits do not depend on which
windows came before it. Against the plain network rows move by about 1e-6 relative.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from extractors._inception import Mixed
from extractors._layers import convolve, pad_same

BLOCK_POSITIONS = 4
FRAMES_PER_POSITION = 2
STEM_FRAMES = (2, 3)  # zeros of SAME padding around the frames of conv1a, kernel 7, stride 2
FEWEST_FRAMES = 32
LAST_SHARED = "mixed_3c"
MOST_GRAPHS = 64  # of one layer: each block, size and extractor of a process has its own

Span = tuple[int, int]
Layer = Callable[[Tensor, Span], Tensor]


def worthwhile(window: int, stride: int) -> bool:
    """Tell whether windows of this length and stride share whole blocks."""
    grid = BLOCK_POSITIONS * FRAMES_PER_POSITION
    return window >= FEWEST_FRAMES and window % grid == 0 == stride % grid and stride <= window // 2


class SharedWindows:
    """I3D's trunk over windows that come one after the other, as its segment gives them.

    Keeps the blocks of the last window (about 120 MB a crop for 64 frames of 224x224). One call
    runs at a time.

    Parameters
    ----------
    trunk : nn.Sequential
        The network's trunk, folded and in its place.
    compile : bool
        Compile each layer and what follows them.
    """

    def __init__(self, trunk: nn.Sequential, compile: bool = False) -> None:
        layers = list(trunk.named_children())
        end = [name for name, _ in layers].index(LAST_SHARED) + 1
        parts = dict(layers)
        self._layers: list[Layer] = [
            _First(parts["conv1a"], parts["pool2a"], parts["conv2b"]),
            _Second(parts["conv2c"], parts["pool3a"]),
            _Third(parts["mixed_3b"]),
            _Third(parts["mixed_3c"]),
        ]
        self._rest: Callable[[Tensor], Tensor] = nn.Sequential(*(m for _, m in layers[end:]))
        if compile:
            import torch._dynamo.config as limits

            # A whole graph or an error: torch would run what it gives up on uncompiled, in silence.
            limits.recompile_limit = max(limits.recompile_limit, MOST_GRAPHS)
            whole = partial(torch.compile, dynamic=False, fullgraph=True)
            self._layers = [whole(layer) for layer in self._layers]
            self._rest = whole(self._rest)
        self._kept: dict[int, dict[tuple[int, ...], Tensor]] = {}
        self._frames: dict[int, Sequence[object]] = {}
        self._one_at_a_time = threading.Lock()

    def __call__(self, x: Tensor, frames: Sequence[object], crop: int) -> Tensor:
        """Return the trunk's activations of one window.

        Parameters
        ----------
        x : Tensor, shape (1, C, T, H, W)
            The window's network input.
        frames : sequence of T objects
            The frames it was made of; the same object at another place is the same frame.
        crop : int
            Number of the crop; crops share nothing.

        Returns
        -------
        Tensor, shape (1, 1024, T / 8, H / 32, W / 32)
        """
        with self._one_at_a_time:
            return self._rest(self._stem(x, frames, crop))

    def _stem(self, x: Tensor, frames: Sequence[object], crop: int) -> Tensor:
        before, kept = self._kept.get(crop, {}), dict[tuple[int, ...], Tensor]()
        names = [id(frame) for frame in frames]
        positions = len(frames) // FRAMES_PER_POSITION
        for number, layer in enumerate(self._layers):
            blocks = []
            for start, end, inside in _blocks(number, positions):
                key = (number, *_ancestors(number, start, end, names))
                block = before.get(key) if inside else None
                if block is None:
                    block = layer(*_seen(x, number, start, end))
                if inside:
                    kept[key] = block
                blocks.append(block)
            x = torch.cat(blocks, dim=2)
        self._kept[crop], self._frames[crop] = kept, frames  # frames alive: their ids stay theirs
        return x


def _blocks(number: int, positions: int) -> Iterator[tuple[int, int, bool]]:
    """Yield (start, end, inside) of a layer's blocks; the first and the last are borders.

    Inside they repeat every `BLOCK_POSITIONS`, and are cut where the inside ends, so that no more
    than the zeros have reached is computed anew.
    """
    start, last = number + 1, positions - number - 2
    rest = (last - start) % BLOCK_POSITIONS
    sizes = (rest, BLOCK_POSITIONS - rest) if rest else (BLOCK_POSITIONS,)
    yield 0, start, False
    for size in cycle(sizes):
        yield start, start + size, True
        start += size
        if start == last:
            break
    yield last, positions, False


def _ancestors(number: int, start: int, end: int, names: list[int]) -> list[int]:
    """Return the frames that an inside block depends on."""
    first = FRAMES_PER_POSITION * (start - number) - STEM_FRAMES[0]
    return names[first : FRAMES_PER_POSITION * (end + number) + STEM_FRAMES[1]]


def _seen(x: Tensor, number: int, start: int, end: int) -> tuple[Tensor, Span]:
    """Return what a block sees of the layer below, and how many zeros are before and after it."""
    if number == 0:
        first = FRAMES_PER_POSITION * start - STEM_FRAMES[0]
        last = FRAMES_PER_POSITION * end + STEM_FRAMES[1]
    else:
        first, last = start - 1, end + 1
    zeros = max(0, -first), max(0, last - x.shape[2])
    return x[:, :, max(0, first) : last], zeros


def _with_zeros(x: Tensor, zeros: Span) -> Tensor:
    return functional.pad(x, (0, 0, 0, 0, *zeros)) if any(zeros) else x


def _valid(unit: nn.Sequential, x: Tensor) -> Tensor:
    """Run a folded 3x3x3 unit without padding in time."""
    conv, act = unit.get_submodule("conv"), unit.get_submodule("act")
    assert isinstance(conv, nn.Conv3d)
    made: Tensor = act(convolve(x, conv, (0, 1, 1)))
    return made


class _First(nn.Module):
    """conv1a, pool2a, conv2b: frames to positions."""

    def __init__(self, conv1a: nn.Module, pool2a: nn.Module, conv2b: nn.Module) -> None:
        super().__init__()
        self.conv1a, self.pool2a, self.conv2b = conv1a, pool2a, conv2b

    def forward(self, x: Tensor, zeros: Span) -> Tensor:
        conv, act = self.conv1a.get_submodule("conv"), self.conv1a.get_submodule("act")
        assert isinstance(conv, nn.Conv3d)
        x = pad_same(_with_zeros(x, zeros), (1, 7, 7), (1, 2, 2))
        x = act(convolve(x, conv))
        made: Tensor = self.conv2b(self.pool2a(x))
        return made


class _Second(nn.Module):
    """conv2c, pool3a."""

    def __init__(self, conv2c: nn.Module, pool3a: nn.Module) -> None:
        super().__init__()
        self.conv2c, self.pool3a = conv2c, pool3a

    def forward(self, x: Tensor, zeros: Span) -> Tensor:
        assert isinstance(self.conv2c, nn.Sequential)
        made: Tensor = self.pool3a(_valid(self.conv2c, _with_zeros(x, zeros)))
        return made


class _Third(nn.Module):
    """An inception block; zeros go around what its 3x3x3 convolutions see, not before its 1x1."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        assert isinstance(block, Mixed)
        self.block = block

    def forward(self, x: Tensor, zeros: Span) -> Tensor:
        block = self.block
        middle = x[:, :, 1 - zeros[0] : x.shape[2] - 1 + zeros[1]]
        pooled = functional.max_pool3d(_with_zeros(x, zeros), 3, stride=1, padding=(0, 1, 1))
        parts = [
            block.b0(middle),
            _valid(block.b1b, _with_zeros(block.b1a(x), zeros)),
            _valid(block.b2b, _with_zeros(block.b2a(x), zeros)),
            block.b3(pooled),
        ]
        return torch.cat(parts, dim=1)
