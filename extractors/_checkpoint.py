"""A checkpoint's tensors by name, read without running any code and without trusting a byte.

Pickles are read with ``weights_only=True``: tensors and plain containers, never code. A damaged or
hostile file makes the three readers (torch, numpy, safetensors) raise errors of many kinds, which
all become a `WeightsError` that names the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from extractors._errors import WeightsError

WRAPPERS = ("state_dict", "model", "net")
DEEPEST_WRAPPING = 3
LARGEST_BYTES = 1 << 34  # of an .npz unpacked: a small file can claim, and unpack to, anything


def read(path: Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by name, whatever its format.

    Raises
    ------
    WeightsError
        When the file cannot be read as tensors, or a converted file's tensors do not match the
        digest it carries.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".npz":
        return _read_npz(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as damage:
        raise WeightsError(
            f"{path}: cannot be read as a file of tensors ({_reason(damage)}); a pickle that holds "
            "anything else is refused"
        ) from damage
    return _tensors(path, content)


def metadata(path: Path) -> dict[str, str]:
    """Return what a safetensors file says of itself."""
    import safetensors

    try:
        with safetensors.safe_open(path, "pt") as file:
            return file.metadata() or {}
    except safetensors.SafetensorError as damage:
        raise WeightsError(f"{path}: not a readable safetensors file ({damage})") from damage


def tensors_digest(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, types, shapes and bytes of tensors, in order of name."""
    hasher = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().contiguous()
        hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        hasher.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return hasher.hexdigest()


def _tensors(path: Path, content: object) -> dict[str, Tensor]:
    """Unwrap ``{"state_dict": ...}`` and keep the tensors."""
    for _ in range(DEEPEST_WRAPPING):  # a pickle can hold itself
        if not isinstance(content, Mapping) or any(isinstance(v, Tensor) for v in content.values()):
            break
        content = next((content[key] for key in WRAPPERS if key in content), content)
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, expected named tensors")
    found = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not found:
        raise WeightsError(f"{path}: holds no tensor")
    plain = {
        name.removeprefix("module."): _plain(path, name, tensor) for name, tensor in found.items()
    }
    if len(plain) < len(found):
        raise WeightsError(
            f"{path}: has a tensor twice, with and without 'module.' before its name"
        )
    return plain


def _plain(path: Path, name: str, tensor: Tensor) -> Tensor:
    """Refuse what a network cannot hold, and the few numbers that claim to be very many."""
    odd = tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized
    if odd or tensor.is_meta:
        raise WeightsError(f"{path}: {name} is {tensor.type()}, expected dense real numbers")
    if tensor.nbytes > tensor.untyped_storage().nbytes():
        raise WeightsError(
            f"{path}: {name} claims {tensor.nbytes} bytes, the file has "
            f"{tensor.untyped_storage().nbytes()} for it; save it with .contiguous()"
        )
    return tensor.detach()


def _read_npz(path: Path) -> dict[str, Tensor]:
    import numpy as np

    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as arrays:
            claimed = sum(entry.file_size for entry in arrays.zip.infolist()) if arrays.zip else 0
            if claimed > LARGEST_BYTES:
                raise ValueError(f"{claimed} bytes unpacked, expected at most {LARGEST_BYTES}")
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except Exception as damage:
        raise WeightsError(
            f"{path}: cannot be read as an .npz of arrays ({_reason(damage)})"
        ) from damage


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    import safetensors.torch

    declared = metadata(path).get("tensors_sha256", "")
    state: dict[str, Tensor] = safetensors.torch.load_file(path)
    if declared and tensors_digest(state) != declared:
        raise WeightsError(f"{path}: its tensors are damaged; convert or fetch it again")
    return state


def _reason(damage: Exception) -> str:
    """Return the first line of an error, or its kind where it says nothing."""
    return str(damage).strip().partition("\n")[0] or type(damage).__name__
