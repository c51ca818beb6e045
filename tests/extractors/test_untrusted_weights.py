"""Checkpoints, mean cubes and lists of names that are damaged or made to hurt."""

import hashlib
import os
import random
import stat
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import extractors
from extractors import (
    ExtractorError,
    Weights,
    WeightsError,
    _caffe,
    _checkpoint,
    _classes,
    _convert,
    _extractor,
    _weights,
    i3d,
    zoo,
)

STATE = {"a.weight": torch.arange(6.0).view(3, 2), "b": torch.ones(4)}


def written(folder, name):
    path = folder / name
    if name.endswith(".npz"):
        np.savez_compressed(path, **{key: value.numpy() for key, value in STATE.items()})
    elif name.endswith(".safetensors"):
        safetensors.torch.save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=name.endswith(".pt"))
    return path


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("name", ["a.pt", "old.pth", "a.npz", "a.safetensors"])
def test_damage_anywhere_is_a_weights_error_that_names_the_file(tmp_path, name):
    whole = written(tmp_path, name).read_bytes()
    path = tmp_path / f"damaged-{name}"
    chance = random.Random(0)
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 2, 5, 20))):
            damaged[chance.randrange(len(whole))] = chance.randrange(256)
        path.write_bytes(damaged[: chance.choice((len(whole), chance.randrange(len(whole))))])
        try:
            _checkpoint.read(path)
        except WeightsError as error:
            assert f"damaged-{name}" in str(error)


def test_a_checkpoint_that_holds_itself_ends(tmp_path):
    endless = {}
    endless["state_dict"] = endless
    torch.save(endless, tmp_path / "endless.pt")
    with pytest.raises(WeightsError, match="holds no tensor"):
        _checkpoint.read(tmp_path / "endless.pt")


def test_few_numbers_that_claim_to_be_many_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1).expand(10**12)}, tmp_path / "huge.pt")
    with pytest.raises(WeightsError, match="a claims 4000000000000 bytes, the file has 4 for it"):
        _checkpoint.read(tmp_path / "huge.pt")


def test_an_npz_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "bomb.npz", a=np.zeros(100_000, np.float32))
    monkeypatch.setattr(_checkpoint, "LARGEST_BYTES", 100_000)
    with pytest.raises(WeightsError, match="400128 bytes unpacked, expected at most 100000"):
        _checkpoint.read(tmp_path / "bomb.npz")


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize(
    "odd",
    [torch.ones(2, dtype=torch.complex64), torch.eye(2).to_sparse(), torch.ones(2).to("meta")],
)
def test_tensors_that_no_network_holds_are_refused(tmp_path, odd):
    torch.save({"a": odd}, tmp_path / "odd.pt")
    with pytest.raises(WeightsError, match=r"a is .* expected dense real numbers"):
        _checkpoint.read(tmp_path / "odd.pt")


def test_one_tensor_under_two_names_is_refused(tmp_path):
    torch.save({"a": torch.ones(1), "module.a": torch.zeros(1)}, tmp_path / "twice.pt")
    with pytest.raises(WeightsError, match="has a tensor twice"):
        _checkpoint.read(tmp_path / "twice.pt")


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.tensor([[1.0, float("nan")]]), "0.weight holds NaN, infinity"),
        (torch.tensor([[1e300, 0.0]], dtype=torch.float64), "numbers beyond torch.float32"),
        (torch.ones(1, 2, dtype=torch.int64), "holds torch.int64, expected torch.float32"),
    ],
)
def test_numbers_that_are_none_do_not_get_into_a_network(tensor, said):
    net = nn.Sequential(nn.Linear(2, 1, bias=False))
    with pytest.raises(WeightsError, match=f"^toy: .*{said}"):
        _weights.load_strictly(net, {"0.weight": tensor}, "toy")


def test_tensors_without_the_axes_of_their_layout_are_refused(tmp_path):
    spec = extractors.spec("i3d-rgb")
    net = i3d.network(spec)
    path = tmp_path / "flat.npz"
    layout = i3d.LAYOUTS["TensorFlow"]
    np.savez(path, **{key: np.zeros(1, np.float32) for key in layout.values()})
    with pytest.raises(WeightsError, match=r"flat\.npz has the names of a known layout"):
        _extractor.network_with_weights(i3d, spec.with_settings({"weights": str(path)}), None)
    assert net.training  # nothing was asked of it


def test_a_source_is_believed_only_beside_a_digest_of_the_tensors(tmp_path):
    path = tmp_path / "some.safetensors"
    for said in (
        {"source_sha256": "0" * 64},
        {"source_sha256": "random:0", "tensors_sha256": "x"},
    ):
        safetensors.torch.save_file(STATE, path, metadata=said)
        assert _weights.file_digest(path) == _weights.sha256(path)


def test_a_converted_file_is_as_readable_as_others_and_never_under_another_name(tmp_path):
    source = written(tmp_path, "a.pt")
    os.chmod(source, 0o644)
    before = source.read_bytes()
    for wrong in (source, tmp_path / "b.pth", tmp_path / "absent" / "a.safetensors"):
        with pytest.raises(WeightsError, match=r"expected a name ending in \.safetensors"):
            _convert.convert(source, wrong)
    assert source.read_bytes() == before
    plain = tmp_path / "plain"
    plain.touch()
    made = _convert.convert(source)
    assert stat.S_IMODE(made.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("body", [b"\x80" * 200_000, b"\xff" * 200_000])
def test_a_mean_cube_whose_number_never_ends(tmp_path, body):
    (tmp_path / "cube").write_bytes(body)
    with pytest.raises(WeightsError, match="a number that never ends"):
        _caffe.read_blob(tmp_path / "cube")


def test_a_mean_cube_of_no_numbers_or_no_end(tmp_path, monkeypatch):
    sizes = b"".join(bytes((field << 3, 1)) for field in _caffe.SIZE_FIELDS)
    values = np.array([np.nan], "<f4").tobytes()
    (tmp_path / "cube").write_bytes(sizes + bytes((6 << 3 | 2, 4)) + values)
    with pytest.raises(WeightsError, match="holds NaN or infinity"):
        _caffe.read_blob(tmp_path / "cube")
    monkeypatch.setattr(_caffe, "LARGEST_BYTES", 3)
    with pytest.raises(WeightsError, match="expected a mean cube"):
        _caffe.read_blob(tmp_path / "cube")


# --- names of classes ---


def named(tmp_path, text, classes="3"):
    (tmp_path / "slow.pt.labels.txt").write_bytes(text)
    settings = {"weights": str(tmp_path / "slow.pt"), "layer": "logits", "classes": classes}
    return _classes.names(extractors.spec("karpathy-slow").with_settings(settings), tmp_path)


def test_names_beside_the_weights_serve_a_network_without_published_ones(tmp_path):
    assert named(tmp_path, "\ufeffcapoeira\r\nbásquet\r\nswim\n\n".encode()) == (
        "capoeira", "básquet", "swim",
    )  # fmt: skip
    with pytest.raises(WeightsError, match="has 3 names, karpathy-slow has 487 logits"):
        named(tmp_path, b"a\nb\nc\n", classes="487")
    for text in (b"a\n\nb\n", b"a\nb\x00\nc\n"):
        with pytest.raises(WeightsError, match=r"labels\.txt:2: found '"):
            named(tmp_path, text)
    with pytest.raises(WeightsError, match="cannot be read as UTF-8 text"):
        named(tmp_path, b"caf\xe9\n")


def test_without_names_there_are_none(tmp_path):
    spec = extractors.spec("karpathy-slow").with_settings({"layer": "logits"})
    assert _classes.names(spec.with_settings({"weights": "random"})) is None
    assert _classes.names(spec.with_settings({"weights": "a/b.pt"}), tmp_path) is None
    (tmp_path / "sports1m.labels.txt").write_text("".join(f"c{k}\n" for k in range(487)))
    c3d = extractors.spec("c3d").with_settings({"layer": "logits"})
    assert _classes.names(c3d, tmp_path)[486] == "c486"


# --- torch's own download cache ---


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(folder.parent))
    return folder


def test_what_torchvision_downloaded_is_found_and_checked(tmp_path, cache):
    body = b"weights of torchvision"
    digest = hashlib.sha256(body).hexdigest()
    file = f"net-{digest[:8]}.pth"
    known = Weights(name="V1", file=file, sha256=digest[:8], url=f"https://example.org/{file}")
    spec = replace(zoo.resolve("torchvision:shufflenet_v2_x0_5"), weights=(known,))
    with pytest.raises(WeightsError, match=f"{file} is not in {tmp_path} nor in {cache}; get it"):
        _weights.find(spec, tmp_path)
    (cache / file).write_bytes(body)
    assert _weights.find(spec, tmp_path) == cache / file
    assert _weights.digest(spec, tmp_path) == digest
    (cache / file).write_bytes(b"another file of this name")
    with pytest.raises(WeightsError, match=f"expected {digest[:8]}"):
        _extractor.network_with_weights(zoo, spec, tmp_path)
    (tmp_path / file).write_bytes(body)
    assert _weights.find(spec, tmp_path) == tmp_path / file, "the weights folder comes first"


def test_files_that_do_not_name_their_digest_are_not_looked_for_there(tmp_path, cache):
    (cache / "rgb_imagenet.pt").write_bytes(b"of somebody")
    with pytest.raises(WeightsError, match=r"rgb_imagenet\.pt is not in"):
        _weights.find(extractors.spec("i3d-rgb"), tmp_path)


# --- settings ---


@pytest.mark.parametrize(
    "setting",
    [{"batch": "0"}, {"batch": "-1"}, {"seed": "-1"}, {"seed": "9" * 30}, {"classes": "0"},
     {"classes": "many"}, {"classes": "1e3"}, {"mode": "dense:3"}],
)  # fmt: skip
def test_settings_that_no_network_can_have_are_refused(setting):
    with pytest.raises(ExtractorError, match=f"i3d-rgb.{next(iter(setting))} is"):
        extractors.spec("i3d-rgb").with_settings(setting)


def test_a_recipe_does_not_hold_the_place_of_a_mean_cube():
    c3d = extractors.spec("c3d")
    by_path, by_name = (
        c3d.with_settings({"mean": mean}).declared() for mean in ("/home/me/cube", "cube")
    )
    assert by_path == by_name
    assert by_path["options"]["mean"] == "cube"
    assert c3d.declared()["options"]["mean"] == "channels"


@pytest.mark.parametrize("name", ["karpathy-single", "karpathy-late", "karpathy-early"])
def test_fusions_are_not_defined_over_whole_segments(name):
    spec = extractors.spec(name).with_settings({"weights": "random", "mode": "whole"})
    with pytest.raises(ExtractorError, match=r"mode is 'whole' .* choose dense, centred"):
        extractors.build(spec)
