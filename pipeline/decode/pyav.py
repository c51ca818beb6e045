"""PyAV, the default decoder: FFmpeg's own frames, from wheels, on every platform.

A pass starts at the last keyframe that is shown at or before the first wanted time. Seeking is
trusted only where it can be checked: containers with an index of keyframes, a keyframe that is not
late, and a first decoded frame that is that keyframe, whole. Frames of an open group of pictures
that are shown before their keyframe lack their references and are dropped. Wherever a check
fails the file is decoded from its start, which is slower and never wrong.

Where every request samples well below the video's rate, unwanted pictures that no other picture
refers to are left undecoded (`pipeline.decode._look_ahead`, `_disposable`); the others come out
bit-identical.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from pipeline.decode._backend import Decoded, Wishes
from pipeline.decode._container import Clock, no_frame, opened, probe
from pipeline.decode._disposable import disposable_test
from pipeline.decode._extent import missing_bytes
from pipeline.decode._look_ahead import Gaps, LookAhead
from pipeline.decode._video import DecodeOptions, VideoInfo
from pipeline.errors import DecodeError, Timeout
from pipeline.frames import Pixels
from pipeline.pixels import UPRIGHT, Orientation, Picture

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    VideoPacket = Packet[VideoStream]

__all__ = ["decode", "probe"]

INDEXED_CONTAINERS = ("mov", "matroska")
SEEK_ATTEMPTS = 4
NEAR_START_SECONDS = 1

PLANAR_8_BIT = (
    "yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "yuv440p", "yuvj440p",
    "yuv411p", "yuv410p",
)  # fmt: skip
# FFmpeg's AVColorSpace numbers (ITU-T H.273, table 4) to the names of `pipeline.pixels`.
MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}
UNTAGGED = "bt601"
SWSCALE_601 = 5
FULL_RANGE = 2

FRAMES_PER_THREAD = 3
"""Frames in flight for each of several threads, so that none waits while one frame is converted
or for the frame that it refers to; on 2 cores half as many took 6 % longer, more gained nothing."""
MOST_FRAMES_IN_FLIGHT = 16  # FFmpeg advises against more


class _SeekNotTrusted(Exception):
    """The frame after a seek is not the one that was sought; decode from the start instead."""


def decode(
    path: Path, info: VideoInfo, wishes: Wishes, options: DecodeOptions
) -> Iterator[Decoded]:
    """Yield frames in presentation order; see `pipeline.decode._backend.Backend`."""
    if _worth_seeking(info, wishes.start):
        with opened(path, options.limits) as (container, stream):
            run = _Pass(container, stream, wishes, options)
            try:
                yield from run.frames(*run.seek(wishes.start))
                return
            except _SeekNotTrusted:
                pass
    with opened(path, options.limits) as (container, stream):
        run = _Pass(container, stream, wishes, options)
        yield from run.frames(None, container.demux(stream))


def _worth_seeking(info: VideoInfo, start: Fraction) -> bool:
    indexed = any(name in info.container for name in INDEXED_CONTAINERS)
    return indexed and start > info.first_frame_seconds + NEAR_START_SECONDS


def _frames_in_flight(threads: int) -> int:
    return max(threads, min(threads * FRAMES_PER_THREAD, MOST_FRAMES_IN_FLIGHT))


class _Pass:
    """One pass over an open file."""

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        wishes: Wishes,
        options: DecodeOptions,
    ) -> None:
        self._container = container
        self._stream = stream
        self._wishes = wishes
        self._clock = Clock(container, stream)
        self._gaps = Gaps()
        self._patience = options.stall_seconds
        self._progress = monotonic()
        context = stream.codec_context
        self._disposable = disposable_test(context.codec.canonical_name, context.extradata)
        context.thread_count = options.threads
        if options.threads > 1:
            context.thread_count = _frames_in_flight(options.threads)
            context.thread_type = "AUTO"

    def seek(self, start: Fraction) -> tuple[Fraction, Iterator[VideoPacket]]:
        """Go to the last keyframe shown at or before a time; return its time and the packets."""
        import av

        wanted = target = self._clock.ticks(start)
        for _ in range(SEEK_ATTEMPTS):
            try:
                self._container.seek(target, stream=self._stream)
                packets = self._container.demux(self._stream)
                first = next(packets)
            except av.error.FFmpegError as error:
                raise _SeekNotTrusted from error
            if first.pts is None or not first.is_keyframe:
                break
            if first.pts <= wanted:
                return self._clock.seconds(first.pts), chain((first,), packets)
            target = min(target, first.pts if first.dts is None else first.dts) - 1
        raise _SeekNotTrusted

    def frames(
        self, keyframe: Fraction | None, packets: Iterator[VideoPacket]
    ) -> Iterator[Decoded]:
        """Yield the frames of packets, from a sought keyframe on where there is one."""
        whole = keyframe is None
        orientation = self._wishes.info.orientation
        for frame in self._pictures(self._judged(keyframe, packets)):
            seconds = self._clock.of(frame)
            if keyframe is not None and seconds < keyframe:
                continue
            if not whole and (seconds != keyframe or frame.is_corrupt):
                raise _SeekNotTrusted
            whole = True
            yield from self._gaps.before(seconds)
            yield Decoded(seconds, partial(picture_of, frame, orientation))
            self._progress = monotonic()
        if not whole:
            raise _SeekNotTrusted
        yield from self._gaps.rest()

    def _judged(
        self, keyframe: Fraction | None, packets: Iterator[VideoPacket]
    ) -> Iterator[tuple[VideoPacket, bool]]:
        indexed = any(name in self._container.format.name for name in INDEXED_CONTAINERS)
        if self._wishes.sparse and indexed and self._disposable is not None:
            ahead = LookAhead(self._wishes.judge(), self._clock.seconds, keyframe)
            return ahead.of(packets)
        return ((packet, True) for packet in packets)

    def _pictures(self, packets: Iterator[tuple[VideoPacket, bool]]) -> Iterator[VideoFrame]:
        """Decode; packets refused before the first frame are passed over, as FFmpeg does."""
        import av

        begun = False
        refused: av.error.FFmpegError | None = None
        damage: DecodeError | None = None
        in_flight: deque[int | None] = deque([None], self._stream.codec_context.thread_count)
        try:
            for packet, wanted in packets:
                self._check_patience()
                damage = self._damage_at(packet) if begun else None
                if damage is not None:
                    break
                if not wanted and self._left_out(packet):
                    continue
                in_flight.append(packet.dts)
                try:
                    frames = packet.decode()
                except av.error.FFmpegError as error:
                    if begun:
                        raise
                    refused = error
                    continue
                for frame in frames:
                    begun = True
                    yield frame
        except av.error.ExitError as error:
            raise Timeout(f"reading stalled: {error.strerror}") from error
        except av.error.FFmpegError as error:
            refused = error
            damage = DecodeError(f"the decoder stopped: {error.strerror}")
        if not begun:
            raise no_frame(refused)
        if damage is not None:
            yield from self._held_back(in_flight[0])
            raise damage from refused

    def _damage_at(self, packet: VideoPacket) -> DecodeError | None:
        """Tell whether a packet is incomplete, or the end of a file that should go on."""
        if packet.is_corrupt:
            return DecodeError(f"the packet at byte {packet.pos} is incomplete")
        if packet.size == 0:
            lost = missing_bytes(Path(self._container.name.removeprefix("file:")))
            if lost:
                return DecodeError(f"the file lacks its last {lost} bytes")
        return None

    def _held_back(self, sound: int | None) -> Iterator[VideoFrame]:
        """Yield the frames that the decoder was still putting in order when it met damage.

        Packets that are lost come after decoding time `sound` and are shown after it, so what is
        shown until then is complete; what is shown later may have lost a frame before it.
        """
        import av

        try:
            frames = self._stream.codec_context.decode(None)
        except av.error.FFmpegError:
            return
        for frame in frames:
            if frame.pts is None or sound is None or frame.pts > sound:
                return
            yield frame

    def _left_out(self, packet: VideoPacket) -> bool:
        """Leave an unwanted picture undecoded if no other refers to it, noting where it stood."""
        if self._disposable is None or packet.pts is None:
            return False
        if not self._disposable(memoryview(packet)):
            return False
        self._gaps.add(self._clock.seconds(packet.pts))
        return True

    def _check_patience(self) -> None:
        waited = monotonic() - self._progress
        if waited > self._patience:
            raise Timeout(
                f"no frame for {waited:.0f} s of decoding, expected one within {self._patience:g} s"
            )


def picture_of(frame: VideoFrame, orientation: Orientation = UPRIGHT) -> Picture:
    """Return a frame's planes without copying them, or as RGB where they are of a rarer kind."""
    name = frame.format.name
    if name not in PLANAR_8_BIT or any(plane.line_size <= 0 for plane in frame.planes):
        return Picture((_converted(frame),), orientation=orientation)
    planes = tuple(
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[
            : plane.height, : plane.width
        ]
        for plane in frame.planes
    )
    matrix = MATRICES.get(frame.colorspace, UNTAGGED)
    full_range = frame.color_range == FULL_RANGE or name.startswith("yuvj")
    return Picture(planes, matrix, full_range, orientation, partial(_converted, frame))


def _converted(frame: VideoFrame) -> Pixels:
    """Return a frame as RGB by FFmpeg's own conversion, at native size."""
    known = frame.colorspace if frame.colorspace in MATRICES else SWSCALE_601
    converted = frame.reformat(
        format="rgb24",
        src_colorspace=known,
        src_color_range=frame.color_range,
        interpolation="BICUBIC",  # of chroma, where FFmpeg has no direct conversion: its default
        threads=1,
    )
    return np.asarray(converted.to_ndarray(), np.uint8)
