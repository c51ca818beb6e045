"""``BlobProto`` files of C3D's Caffe, as much of protocol buffers as a mean cube needs.

A message is a run of fields, each a varint key (number << 3 | wire type) and a value. In C3D's
edition of Caffe fields 1 to 5 are num, channels, length, height and width, and field 6 holds the
values as packed (or repeated) floats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from extractors._errors import WeightsError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
SIZE_FIELDS = (1, 2, 3, 4, 5)
DATA_FIELD = 6
FLOAT_BYTES = 4
VARINT_BITS = 64
LARGEST_BYTES = 1 << 28  # a mean cube has 3 MB


def read_blob(path: Path) -> Tensor:
    """Return the float32 array (num, channels, length, height, width) of a ``.binaryproto``.

    Raises
    ------
    WeightsError
        When it cannot be read as one, or its sizes do not give its number of values.
    """
    sizes: dict[int, int] = {}
    values = bytearray()
    size = path.stat().st_size
    if size > LARGEST_BYTES:
        raise WeightsError(f"{path}: has {size} bytes, expected a mean cube of a few million")
    try:
        for field, value in _fields(path.read_bytes()):
            if field == DATA_FIELD and isinstance(value, bytes):
                values += value
            elif isinstance(value, int):
                sizes[field] = value
    except (IndexError, ValueError) as damage:
        raise WeightsError(f"{path}: cannot be read as a Caffe blob ({damage})") from damage
    shape = [sizes.get(field, 0) for field in SIZE_FIELDS]
    if not values or len(values) != math.prod(shape) * FLOAT_BYTES:
        raise WeightsError(
            f"{path}: a Caffe blob of sizes {shape} holds {len(values)} bytes of values"
        )
    blob = torch.from_numpy(np.frombuffer(bytes(values), "<f4").copy()).view(shape)
    if not bool(torch.isfinite(blob).all()):
        raise WeightsError(f"{path}: holds NaN or infinity; fetch it again")
    return blob


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield each field's number with its integer, or its bytes where it has a length."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == BYTES:
            length, at = _varint(message, at)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise ValueError(f"wire type {wire}")
        if at + length > len(message):
            raise ValueError("it ends inside a field")
        yield number, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number that starts at a place, and the place after it."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift >= VARINT_BITS:
            raise ValueError("a number that never ends")
