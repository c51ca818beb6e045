"""Which packets may be kept from the decoder: what FFmpeg would drop, and never one referred to."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decode._disposable import disposable_test
from tests.truth.numbered_video import NumberedVideo, constant, write

AVCC = bytes([1, 100, 0, 30, 0xFF, 0xE1, 0])
HVCC_ONE_LAYER = bytes([1, *bytes(20), 0b00_001_1_11, 0])
HVCC_THREE_LAYERS = bytes([1, *bytes(20), 0b00_011_1_11, 0])
HVCC_UNKNOWN_LAYERS = bytes([1, *bytes(20), 0b00_000_1_11, 0])

H264_B, H264_REFERENCE_B, H264_IDR, H264_SEI, H264_PARAMETERS = 0x01, 0x41, 0x65, 0x06, 0x67
HEVC_TRAIL_N, HEVC_TRAIL_R, HEVC_SEI = 0 << 1, 1 << 1, 39 << 1


def units(*headers: bytes) -> memoryview:
    """A packet of units, each a header and a little content, their lengths in four bytes."""
    contents = [header + b"\x88\x99" for header in headers]
    return memoryview(b"".join(len(c).to_bytes(4, "big") + c for c in contents))


@pytest.mark.parametrize(
    ("headers", "disposable"),
    [
        ([H264_B], True), ([H264_SEI, H264_B, H264_B], True),
        ([H264_REFERENCE_B], False), ([H264_B, H264_REFERENCE_B], False), ([H264_IDR], False),
        ([H264_PARAMETERS, H264_B], False), ([H264_SEI], False), ([], False),
    ],
)  # fmt: skip
def test_h264_packets_go_when_every_slice_is_unreferred(
    headers: list[int], disposable: bool
) -> None:
    test = disposable_test("h264", AVCC)
    assert test is not None
    assert test(units(*(bytes([header]) for header in headers))) is disposable


@pytest.mark.parametrize(
    ("record", "kind", "layer", "disposable"),
    [
        (HVCC_ONE_LAYER, HEVC_TRAIL_N, 1, True), (HVCC_ONE_LAYER, HEVC_TRAIL_R, 1, False),
        (HVCC_ONE_LAYER, HEVC_SEI, 1, False),
        (HVCC_THREE_LAYERS, HEVC_TRAIL_N, 3, True), (HVCC_THREE_LAYERS, HEVC_TRAIL_N, 2, False),
    ],
)  # fmt: skip
def test_hevc_packets_go_only_from_the_highest_layer(
    record: bytes, kind: int, layer: int, disposable: bool
) -> None:
    test = disposable_test("hevc", record)
    assert test is not None
    assert test(units(bytes([kind, layer]))) is disposable


@pytest.mark.parametrize(
    ("codec", "record"),
    [
        ("h264", None), ("h264", b""), ("h264", AVCC[:5]), ("h264", b"\x00\x00\x00\x01\x67dddd"),
        ("hevc", HVCC_ONE_LAYER[:20]), ("hevc", HVCC_UNKNOWN_LAYERS), ("vp9", AVCC),
    ],
)  # fmt: skip
def test_without_a_record_that_is_understood_nothing_goes(codec: str, record: bytes | None) -> None:
    assert disposable_test(codec, record) is None


@pytest.mark.parametrize(("codec", "record"), [("h264", AVCC), ("hevc", HVCC_ONE_LAYER)])
@given(packet=st.binary(max_size=64))
def test_a_packet_of_wrong_lengths_stays(codec: str, record: bytes, packet: bytes) -> None:
    test = disposable_test(codec, record)
    assert test is not None
    lengths_are_right = _walks_to_its_end(packet)
    assert test(memoryview(packet)) is False or lengths_are_right


def _walks_to_its_end(packet: bytes) -> bool:
    at = 0
    while at < len(packet):
        at += 4 + int.from_bytes(packet[at : at + 4], "big")
    return at == len(packet)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_it_drops_what_ffmpeg_would_drop(tmp_path: Path, codec: str, suffix: str) -> None:
    path = tmp_path / f"video.{suffix}"
    write(path, NumberedVideo(path.name, codec=codec, options={"bf": "3"}, **constant(60)))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        test = disposable_test(context.codec.canonical_name, context.extradata)
        assert test is not None
        packets = [packet for packet in container.demux(stream) if packet.size]
        dropped = {packet.pts for packet in packets if test(memoryview(packet))}
        shown = {packet.pts for packet in packets}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.skip_frame = "NONREF"
        kept = {frame.pts for frame in container.decode(stream)}
    assert len(dropped) > 10
    assert dropped == shown - kept
