"""One suite over every reader: what a module of `manifests` must offer and how it must behave."""

import ast
import inspect
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import manifests
from manifests import ManifestError, Reject, Segment
from manifests._readers import find, modules

KINETICS = "label,youtube_id,time_start,time_end,split\nswim,-AAAAAAAAAA,1,2.5,val\n"
SAMPLES = {  # files of a small list, the one to read, and what the user says about it
    "activitynet": (
        {"a.json": '{"database": {"AAAAAAAAAAA": {"annotations": [{"segment": [1, 2]}]}}}'},
        "a.json",
        None,
    ),
    "failures": ({"f.csv": "video,code\nx,gone\n"}, "f.csv", None),
    "folder": ({"swim/x.mp4": ""}, ".", None),
    "generic": ({"g.csv": "video,label\nx.mp4,swim\n"}, "g.csv", None),
    "hmdb51": ({"wave_test_split1.txt": "a_wave_u_1.avi 1\n"}, "wave_test_split1.txt", None),
    "kinetics": ({"k.csv": KINETICS}, "k.csv", None),
    "minikinetics": (
        {"k.csv": KINETICS, "val_ytid_list.txt": "-AAAAAAAAAA\n"},
        "val_ytid_list.txt",
        "minikinetics:{folder}/k.csv",
    ),
    "mmaction": ({"k_val_list_videos.txt": "x/y.mp4 3\n"}, "k_val_list_videos.txt", None),
    "sports1m": (
        {"labels.txt": "swim\n", "p.txt": "https://www.youtube.com/watch?v=-AAAAAAAAAA 0\n"},
        "p.txt",
        None,
    ),
    "ucf101": ({"trainlist01.txt": "Swim/v_Swim_g01_c01.avi 1\n"}, "trainlist01.txt", None),
}


@pytest.fixture(params=[module.__name__.rpartition(".")[2] for module in modules()])
def name(request):
    return request.param


@pytest.fixture
def sample(name, tmp_path):
    contents, read, dataset = SAMPLES[name]
    for relative, text in contents.items():
        path = tmp_path / "list" / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    folder = tmp_path / "list"
    return folder / read, dataset and dataset.format(folder=folder)


def module_of(name):
    return sys.modules[f"manifests.{name}"]


def test_it_declares_itself(name):
    module = module_of(name)
    assert name == module.NAMES[0]
    assert "::" in module.__doc__, "sample lines belong into the docstring"
    assert list(inspect.signature(module.read).parameters) == ["path", "detail"]
    assert list(inspect.signature(module.recognises).parameters) == ["path", "head_text"]
    assert set(module.NAMES) <= set(manifests.names())


def test_it_needs_the_standard_library_alone(name):
    tree = ast.parse(inspect.getsource(module_of(name)))
    for node in ast.walk(tree):
        imported = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        imported += [node.module] if isinstance(node, ast.ImportFrom) else []
        for each in imported:
            top = each.partition(".")[0]
            assert top == "manifests" or top in sys.stdlib_module_names


def test_it_alone_recognises_its_list(name, sample):
    path, _ = sample
    reader, detail = find(path, None)
    assert (reader.NAMES[0], detail) == (name, "")


def test_a_list_is_read_the_same_way_twice(name, sample):
    path, dataset = sample
    one, other = manifests.load(path, dataset, strict=True), manifests.load(path, dataset)
    assert one == other
    assert one.dataset == name
    assert one.segments == tuple(manifests.stream(path, dataset))
    assert len(one) == manifests.inspect(path, dataset).segments == 1
    assert set(one.classes) >= {label for s in one for label in s.labels}
    assert len(one.sha256) == 64


def test_it_streams(name, sample):
    path, dataset = sample
    items = manifests.stream(path, dataset)
    assert iter(items) is items
    assert isinstance(next(items), Segment | Reject)


@pytest.mark.parametrize("form", ["kinetics", "generic", "jsonl"])
def test_its_segments_survive_conversion(sample, form, tmp_path):
    path, dataset = sample
    before = manifests.load(path, dataset).segments
    output = tmp_path / f"out.{form}"
    getattr(manifests, f"write_{form}")(output, before)
    after = manifests.load(output, strict=True).segments
    assert [(s.key, s.labels, s.split) for s in after] == [
        (s.key, s.labels, s.split) for s in before
    ]


def test_an_absent_list_is_a_manifest_error(name, tmp_path):
    with pytest.raises(ManifestError, match="check the path"):
        manifests.load(tmp_path / "absent", name)


def test_rubbish_is_refused_with_a_reason(name, tmp_path):
    rubbish = tmp_path / "rubbish.txt"
    rubbish.write_text("%%%\n\ufffd ,,,\n{\n")
    try:
        items = list(manifests.stream(rubbish, name))
    except ManifestError as error:
        assert error.found and error.remedy
    else:
        assert all(isinstance(i, Segment) or (i.found and i.remedy) for i in items)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(max_size=200) | st.text('{}[]":,0123456789 \n-eaNI', max_size=200))
def test_any_text_gives_segments_rejects_or_a_manifest_error(name, sample, text):
    path, dataset = sample
    if path.is_dir():
        pytest.skip("a folder has no text")
    path.write_text(text, encoding="utf-8", newline="")
    try:
        items = list(manifests.stream(path, dataset or name))
    except ManifestError as error:
        assert error.found and error.remedy
    else:
        assert all(isinstance(i, Segment) or (i.found and i.remedy) for i in items)


def test_a_detail_is_taken_or_refused(name, sample):
    path, _ = sample
    if hasattr(module_of(name), "DETAIL"):
        assert module_of(name).DETAIL.isupper()
        assert find(path, f"{name}:x")[1] == "x"
    else:
        with pytest.raises(ManifestError, match=f"say {name} alone"):
            find(path, f"{name}:x")


def test_names_are_unique():
    assert len(set(manifests.names())) == len(manifests.names())


def test_every_reader_has_a_sample():
    assert {module.NAMES[0] for module in modules()} == set(SAMPLES)
