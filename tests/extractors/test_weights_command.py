import hashlib
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

import extractors
from extractors import Weights, WeightsError, _checkpoint, _weights
from pipeline.cli.weights import fetch_file, weights
from pipeline.sources import SourceOptions
from tests.faults import http_server
from tests.faults.http_server import Server

BODY = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(BODY).hexdigest()
FILE = "some.pt"


@pytest.fixture
def server():
    with Server() as running:
        running.files[f"/{FILE}"] = BODY
        yield running


@pytest.fixture
def options(tmp_path):
    return SourceOptions(
        allow_private=True,
        accounts=tmp_path / "accounts",
        stall_seconds=0.3,
        deadline_seconds=20,
        attempts=3,
        backoff_seconds=0.01,
        requests_per_second=1000,
    )


@pytest.fixture
def known(server):
    return Weights(name="some", file=FILE, sha256=DIGEST, url=f"{server.url}/{FILE}")


def left_in(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".parts")


def test_fetched_file_is_verified_and_in_place(tmp_path, known, options):
    folder = tmp_path / "weights"
    assert fetch_file(known, folder, options).read_bytes() == BODY
    assert left_in(folder) == [FILE]
    assert _weights.locate(known, "toy", folder) == folder / FILE


@pytest.mark.parametrize("fault", [http_server.cut(300_000), http_server.stall(200_000)])
def test_what_broke_off_is_resumed(tmp_path, known, options, server, fault):
    server.faults[f"/{FILE}"] = [fault]
    folder = tmp_path / "weights"
    assert fetch_file(known, folder, options).read_bytes() == BODY
    first, second = server.asked(f"/{FILE}")
    assert "Range" not in first
    assert second["Range"].startswith("bytes=")


def test_a_later_command_resumes(tmp_path, known, options, server):
    server.faults[f"/{FILE}"] = [http_server.cut(300_000)]
    folder = tmp_path / "weights"
    with pytest.raises(WeightsError, match="the same command resumes"):
        fetch_file(known, folder, replace(options, attempts=1))
    assert left_in(folder) == []
    assert fetch_file(known, folder, options).read_bytes() == BODY
    assert server.asked(f"/{FILE}")[-1]["Range"].startswith("bytes=")


def test_a_server_that_lies_puts_nothing_in_place(tmp_path, known, options, server):
    server.files[f"/{FILE}"] = BODY[:-1] + b"!"
    folder = tmp_path / "weights"
    with pytest.raises(WeightsError, match=f"expected {DIGEST} for 'some'; this is not the file"):
        fetch_file(known, folder, options)
    assert left_in(folder) == []
    assert not list((folder / ".parts").glob("*.whole"))


@pytest.mark.parametrize("fault", [http_server.page, http_server.status(404)])
def test_a_refusal_is_told(tmp_path, known, options, server, fault):
    server.faults[f"/{FILE}"] = [fault]
    with pytest.raises(WeightsError, match=r"some\.pt: http://127"):
        fetch_file(known, tmp_path / "weights", options)


def test_weights_without_a_direct_address_name_the_folder(tmp_path, options):
    page = Weights(name="some", file=FILE, url="https://example.org/readme")
    with pytest.raises(
        WeightsError, match=r"get some\.pt from https://example\.org/readme and put"
    ):
        fetch_file(page, tmp_path, options)


def run(*arguments):
    return CliRunner().invoke(weights, [str(argument) for argument in arguments])


def test_list_shows_what_is_here(tmp_path):
    (tmp_path / "rgb_imagenet.pt").write_bytes(b"something")
    told = run("list", "i3d-rgb", "--folder", tmp_path).output
    assert f"imagenet      {tmp_path / 'rgb_imagenet.pt'}" in told
    assert "charades      not here" in told
    assert "give a path, --set inception-v1.weights=PATH" in run("list", "inception-v1").output


def test_verify_tells_a_wrong_file_by_its_exit_status(tmp_path):
    right = run("verify", "efficientnet-lite0", "--folder", tmp_path)
    assert right.exit_code == 0
    assert "verified by sha256" in right.output
    (tmp_path / "rgb_imagenet.pt").write_bytes(b"something else")
    wrong = run("verify", "i3d-rgb", "--folder", tmp_path)
    assert wrong.exit_code == 3
    assert "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a" in wrong.output


def test_convert_writes_the_twin(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / FILE)
    told = run("convert", tmp_path / FILE)
    assert told.output.strip() == str(tmp_path / "some.pt.safetensors")
    assert torch.equal(_checkpoint.read(tmp_path / "some.pt.safetensors")["weight"], torch.ones(2))


def of_i3d(known, monkeypatch):
    """Let I3D's only published weights be these."""
    spec = replace(extractors.spec("i3d-rgb"), weights=(known,))
    monkeypatch.setattr("extractors.spec", lambda name: spec)


def test_fetch_does_not_fetch_what_is_here(tmp_path, known, server, monkeypatch):
    of_i3d(known, monkeypatch)
    (tmp_path / FILE).write_bytes(BODY)
    told = run("fetch", "i3d-rgb", "--folder", tmp_path)
    assert told.exit_code == 0
    assert "is here already, verified by sha256" in told.output
    assert server.asked(f"/{FILE}") == []


def test_fetch_replaces_what_is_here_and_wrong(tmp_path, known, options, monkeypatch):
    of_i3d(known, monkeypatch)
    monkeypatch.setattr("pipeline.sources.SourceOptions", lambda: options)
    (tmp_path / FILE).write_bytes(BODY[:-1])
    told = run("fetch", "i3d-rgb", "--folder", tmp_path)
    assert told.exit_code == 0, told.output
    assert "this is not the file from" in told.output
    assert (tmp_path / FILE).read_bytes() == BODY


def test_a_family_may_bring_its_weights_itself(tmp_path, known, monkeypatch):
    of_i3d(known, monkeypatch)

    def fetch(wanted, folder):
        (folder / wanted.file).write_bytes(BODY)
        return folder / wanted.file

    monkeypatch.setattr("extractors.i3d.fetch", fetch, raising=False)
    told = run("fetch", "i3d-rgb", "--folder", tmp_path)
    assert f"{len(BODY)} bytes, verified by the sha256 that its page states" in told.output
