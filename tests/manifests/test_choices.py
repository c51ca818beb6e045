"""Counting, thinning and dividing lists."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import manifests
from manifests import ManifestError, Reject, Segment
from manifests._inspect import REJECTS_KEPT
from manifests._load import HASH_BITS, repeated


def segment(k, label="a", group=""):
    return Segment(video=f"v{k}", end_ms=1000, labels=(label,) if label else (), group=group)


def test_repeated_values():
    assert repeated([]) == repeated([1, 2, 3]) == set()
    assert repeated([5, 1, 5, -1, -1, 2, 5]) == {5, HASH_BITS}


def test_inspect_agrees_with_load(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(
        "video,start,end,label,split,group\n"
        "a,0,10,x|y,train,g\nb,0,2.5,x,val,g\na,0,10,z,train,h\nc,,,,val,\nd,5,1,x,val,\na,0,10,x,val,g\n"
    )
    found = manifests.inspect(path)
    manifest = manifests.load(path)
    assert (found.dataset, found.segments) == ("generic", len(manifest)) == ("generic", 3)
    assert +found.splits == Counter(train=1, val=2)
    assert +found.classes == Counter(x=2, y=1)
    assert (found.rejected, found.repeated) == (1, 2)
    assert found.rejected + found.repeated == len(manifest.rejects)
    assert {r.where for r in found.rejects} == {r.where for r in manifest.rejects}
    assert (found.unlabelled, found.multi_label, found.whole, found.groups) == (1, 1, 1, 2)
    assert (found.seconds, found.shortest, found.longest) == (12.5, 2.5, 10)
    assert list(manifests.rejects(path)) == [manifest.rejects[1]]


def test_negative_starts_are_no_segment():
    with pytest.raises(ValueError, match="start -1 ms is negative"):
        Segment(video="a", start_ms=-1)


def test_inspect_keeps_few_rejects(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("video,start\n" + "a,-1\n" * 100)
    found = manifests.inspect(path)
    assert (found.rejected, len(found.rejects)) == (100, REJECTS_KEPT)


def test_rejects_are_written_harmless(tmp_path):
    path = tmp_path / "rejects.csv"
    assert manifests.write_rejects(path, iter([])) == 0
    assert not path.exists()
    refused = Reject("k.csv:2", "youtube_id is '=cmd'", "fix it", "=cmd|' /C calc'!A0,x")
    assert manifests.write_rejects(path, [refused]) == 1
    assert path.read_text() == (
        "where,found,remedy,text\nk.csv:2,youtube_id is '=cmd',fix it,\"'=cmd|' /C calc'!A0,x\"\n"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["rejects.csv"]


def test_a_failed_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("old")

    def rows():
        yield segment(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        manifests.write_generic(path, rows())
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_kinetics_has_no_word_for_the_rest_of_a_video(tmp_path):
    late = Segment(video="AAAAAAAAAAA", start_ms=500)
    with pytest.raises(ManifestError, match="has a start and no end; write a generic list"):
        manifests.write_kinetics(tmp_path / "x.csv", [late])
    whole = Segment(video="AAAAAAAAAAA")
    manifests.write_kinetics(tmp_path / "x.csv", [whole])
    assert manifests.load(tmp_path / "x.csv").segments[0].key == whole.key


def test_balanced_takes_so_many_of_each_class():
    listed = [segment(k, label) for k, label in enumerate("aaaaabbbbc")]
    drawn = manifests.balanced(listed, 3)
    assert Counter(s.labels[0] for s in drawn) == Counter(a=3, b=3, c=1)
    assert drawn == [s for s in listed if s in drawn]
    assert drawn != manifests.balanced(listed, 3, seed=1)
    assert manifests.balanced([segment(1, ""), segment(2, "")], 1)[0].labels == ()
    with pytest.raises(ManifestError, match="ask for 1 or more"):
        manifests.balanced(listed, 0)


many = st.lists(
    st.builds(lambda label, group: (label, group), st.sampled_from("abc"), st.integers(0, 9)),
    min_size=1,
    max_size=60,
).map(lambda rows: [segment(k, label, f"g{group}") for k, (label, group) in enumerate(rows)])


@settings(deadline=None)
@given(listed=many, per_class=st.integers(1, 5), random=st.randoms())
def test_the_draw_depends_on_nothing_but_keys_and_seed(listed, per_class, random):
    drawn = {s.key for s in manifests.balanced(listed, per_class, seed=7)}
    shuffled = list(listed)
    random.shuffle(shuffled)
    assert {s.key for s in manifests.balanced(iter(shuffled), per_class, seed=7)} == drawn
    counts = Counter(s.labels[0] for s in listed)
    taken = Counter(s.labels[0] for s in listed if s.key in drawn)
    assert taken == {label: min(per_class, count) for label, count in counts.items()}


@settings(deadline=None)
@given(listed=many, seed=st.integers(0, 5))
def test_no_group_crosses_a_split(listed, seed):
    divided = manifests.split(listed, {"train": 0.7, "test": 0.3}, seed)
    sides = defaultdict(set)
    for one in divided:
        sides[one.group].add(one.split)
    assert all(len(found) == 1 for found in sides.values())
    assert [s.key for s in divided] == [s.key for s in listed]
    assert divided == manifests.split(listed, {"train": 0.7, "test": 0.3}, seed)


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 40), min_size=1),
    share=st.integers(1, 9),
)
def test_every_class_gets_its_share(sizes, share):
    listed = [segment(f"{label}{k}", label) for label, size in sizes.items() for k in range(size)]
    divided = manifests.split(listed, {"train": 1 - share / 10, "val": share / 10})
    counts = Counter((s.labels[0], s.split) for s in divided)
    for label, size in sizes.items():
        assert abs(counts[label, "val"] - size * share / 10) <= 1


@pytest.mark.parametrize(
    "parts", [{}, {"train": 0.8}, {"train": 1.2, "val": -0.2}, {"a": float("nan"), "b": 1}]
)
def test_shares_that_make_no_whole(parts):
    with pytest.raises(ManifestError, match="make them add up to 1"):
        manifests.split([segment(1)], parts)
