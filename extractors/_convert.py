"""A checkpoint as safetensors: the same tensors under the same keys, with its source's digests.

Safetensors files open without unpickling and are mapped instead of read. The converted file says
which file it came from, so a recipe made with either is the same recipe, and carries a digest of
its own tensors, which every reading checks.
"""

from __future__ import annotations

import os
from pathlib import Path

from extractors import _checkpoint, _weights
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
        When the source cannot be read as tensors, is converted already, or the target has a name
        that would not be read as safetensors.
    """
    import safetensors.torch

    if source.suffix == ".safetensors":
        raise WeightsError(f"{source}: it is a safetensors file already")
    target = target or _weights.converted_name(source)
    if target.suffix != ".safetensors" or not target.parent.is_dir():
        raise WeightsError(f"{target}: expected a name ending in .safetensors in a folder there is")
    state = {key: tensor.contiguous().clone() for key, tensor in _checkpoint.read(source).items()}
    said = {
        "source": source.name,
        "source_sha256": _weights.sha256(source),
        "source_git_blob_sha1": _weights.git_blob_sha1(source),
        "tensors_sha256": _checkpoint.tensors_digest(state),
    }
    unfinished = target.with_name(f".converting-{os.getpid()}-{target.name}")
    try:
        unfinished.touch()
        mode = unfinished.stat().st_mode
        safetensors.torch.save_file(state, unfinished, metadata=said)
        unfinished.chmod(mode)  # it makes files that only their owner reads; a cluster's are shared
        _weights.settle(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target
