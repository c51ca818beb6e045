"""Which packets hold pictures that no other picture refers to, read from the packets' own headers.

Such a packet may be kept from the decoder and every other picture comes out bit for bit the same.
FFmpeg's ``skip_frame`` would drop the same pictures, but only after each packet took its turn among
the decoding threads; and in HEVC it also drops pictures that higher temporal layers refer to.

Sources: ITU-T H.264, 7.4.1 (``nal_ref_idc``) and H.265, table 7-1 (sub-layer non-reference types);
ISO/IEC 14496-15, 5.3.3 and 8.3.3 (records that say how many bytes hold a unit's length).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

IsDisposable = Callable[[memoryview], bool]

H264_NON_IDR_SLICE = 1
H264_BESIDE_PICTURES = frozenset({6, 9, 12})  # SEI, access unit delimiter, filler
HEVC_NON_REFERENCE_SLICES = frozenset(range(0, 15, 2))
HEVC_BESIDE_PICTURES = frozenset({35, 38, 39, 40})  # delimiter, filler, SEI before and after

AVCC_BYTES, AVCC_LENGTH_AT = 7, 4
HVCC_BYTES, HVCC_LENGTH_AT = 23, 21
RECORD_VERSION = 1

UNKNOWN_UNIT = memoryview(b"\xff\xff")
"""A unit of a type that neither codec has."""


def disposable_test(codec: str, record: bytes | None) -> IsDisposable | None:
    """Return what tells whether a packet of a stream is disposable; None where nothing can.

    Parameters
    ----------
    codec : str
        FFmpeg's name of the codec.
    record : bytes or None
        The stream's decoder configuration record (``avcC`` or ``hvcC``).
    """
    if record is None or record[:1] != bytes([RECORD_VERSION]):
        return None
    if codec == "h264" and len(record) >= AVCC_BYTES:
        return _h264_test(length_bytes=(record[AVCC_LENGTH_AT] & 3) + 1)
    if codec == "hevc" and len(record) >= HVCC_BYTES:
        packed = record[HVCC_LENGTH_AT]
        layers = packed >> 3 & 7
        return _hevc_test((packed & 3) + 1, layers) if layers else None
    return None


def _h264_test(length_bytes: int) -> IsDisposable:
    def is_disposable(packet: memoryview) -> bool:
        pictures = 0
        for unit in _units(packet, length_bytes):
            kind, reference = unit[0] & 31, unit[0] >> 5 & 3
            if kind == H264_NON_IDR_SLICE and reference == 0:
                pictures += 1
            elif kind not in H264_BESIDE_PICTURES:
                return False
        return pictures > 0

    return is_disposable


def _hevc_test(length_bytes: int, layers: int) -> IsDisposable:
    def is_disposable(packet: memoryview) -> bool:
        pictures = 0
        for unit in _units(packet, length_bytes):
            kind, layer = unit[0] >> 1 & 63, unit[1:2]
            if kind in HEVC_NON_REFERENCE_SLICES and layer and layer[0] & 7 >= layers:
                pictures += 1
            elif kind not in HEVC_BESIDE_PICTURES:
                return False
        return pictures > 0

    return is_disposable


def _units(packet: memoryview, length_bytes: int) -> Iterator[memoryview]:
    """Yield the units of a packet; an empty one, which no test accepts, where lengths are wrong."""
    at = 0
    while at < len(packet):
        begin = at + length_bytes
        at = begin + int.from_bytes(packet[at:begin], "big")
        yield packet[begin:at] if begin < at <= len(packet) else UNKNOWN_UNIT
