"""A checkpoint as safetensors: the same tensors under the same keys, with its source's digests.

Safetensors files open without unpickling and are mapped instead of read. The converted file says
which file it came from, so a recipe made with either is the same recipe, and carries a digest of
its own tensors, which every reading checks.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from extractors import _weights
from extractors._errors import WeightsError


def convert(source: Path, target: Path | None = None) -> Path:
    """Write a checkpoint's safetensors twin, whole or not at all.

    Parameters
    ----------
    source : Path
        ``.pt``, ``.pth``, ``.pickle``, ``.ckpt`` or ``.npz``.
    target : Path, optional
        The source's name with ``.safetensors`` added, where `extractors.build` finds it.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    WeightsError
        When the source cannot be read as tensors, or is converted already.
    """
    import safetensors.torch

    if source.suffix == ".safetensors":
        raise WeightsError(f"{source}: it is a safetensors file already")
    target = target or _weights.converted_name(source)
    state = {key: tensor.contiguous().clone() for key, tensor in _weights.read(source).items()}
    said = {
        "source": source.name,
        "source_sha256": _weights.sha256(source),
        "source_git_blob_sha1": _weights.git_blob_sha1(source),
        "tensors_sha256": _weights.tensors_digest(state),
    }
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".converting-")
    os.close(handle)
    try:
        safetensors.torch.save_file(state, name, metadata=said)
        _weights.settle(Path(name), target)
    finally:
        Path(name).unlink(missing_ok=True)
    return target
