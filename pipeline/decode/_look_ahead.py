"""Which packets hold unwanted frames, known before they are decoded, by reading a little ahead.

Packets come in decoding order, frames are chosen in presentation order. H.264 and HEVC reorder by
at most 16 frames, so once 17 later packets were read the smallest timestamp waiting is the next one
shown, and the same arithmetic that will choose the frames tells whether it is wanted. At the first
irregularity (a packet without a timestamp, one timestamp twice, an order beyond 16 frames) every
packet from there on counts as wanted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from pipeline.decode._backend import Decoded, Judge

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

    VideoPacket = Packet[VideoStream]

MAX_REORDERED_FRAMES = 16


class LookAhead:
    """Reads packets ahead and gives each with whether its frame is wanted.

    Parameters
    ----------
    judge : Judge
        Fresh; it is pushed the times of all packets that will be shown.
    seconds : callable
        Time of a timestamp.
    first : Fraction or None
        Frames before it are not shown (after a seek).
    """

    def __init__(
        self, judge: Judge, seconds: Callable[[int], Fraction], first: Fraction | None
    ) -> None:
        self._judge = judge
        self._seconds = seconds
        self._first = first
        self._unordered: list[int] = []
        self._verdicts: dict[int, bool] = {}
        self._shown: int | None = None

    def of(self, packets: Iterable[VideoPacket]) -> Iterator[tuple[VideoPacket, bool]]:
        """Yield every packet, in order, with whether its frame is wanted."""
        waiting: deque[VideoPacket] = deque()
        packets = iter(packets)
        regular = True
        for packet in packets:
            waiting.append(packet)
            if packet.size == 0:
                break
            regular = self._read(packet)
            if not regular:
                break
            while waiting and self._known(waiting[0]):
                yield self._judged(waiting.popleft())
        if regular:
            self._drain()
        for packet in waiting:
            yield self._judged(packet)
        for packet in packets:
            yield packet, True

    def _read(self, packet: VideoPacket) -> bool:
        """Take note of a packet; tell whether the stream is still regular."""
        ticks = packet.pts
        if ticks is None or (self._shown is not None and ticks <= self._shown):
            return False
        if packet.is_discard or (self._first is not None and self._seconds(ticks) < self._first):
            self._verdicts[ticks] = True
            return True
        if ticks in self._unordered:
            return False
        heappush(self._unordered, ticks)
        if len(self._unordered) > MAX_REORDERED_FRAMES:
            self._show(heappop(self._unordered))
        return True

    def _show(self, ticks: int) -> None:
        wanted = self._judge.push(self._seconds(ticks))
        if self._shown is not None:
            self._verdicts[self._shown] = wanted
        self._shown = ticks

    def _drain(self) -> None:
        while self._unordered:
            self._show(heappop(self._unordered))
        if self._shown is not None:
            self._verdicts[self._shown] = self._judge.finish()

    def _known(self, packet: VideoPacket) -> bool:
        return packet.pts in self._verdicts

    def _judged(self, packet: VideoPacket) -> tuple[VideoPacket, bool]:
        return packet, packet.pts is None or self._verdicts.pop(packet.pts, True)


class Gaps:
    """The times of frames that were left undecoded, given back in their place among the others."""

    def __init__(self) -> None:
        self._skipped: list[Fraction] = []

    def add(self, seconds: Fraction) -> None:
        """Note a frame that will not come out."""
        heappush(self._skipped, seconds)

    def before(self, seconds: Fraction) -> Iterator[Decoded]:
        """Yield the skipped frames before one that came out."""
        while self._skipped and self._skipped[0] < seconds:
            yield Decoded(heappop(self._skipped), None)

    def rest(self) -> Iterator[Decoded]:
        """Yield the skipped frames after the last one that came out."""
        while self._skipped:
            yield Decoded(heappop(self._skipped), None)
