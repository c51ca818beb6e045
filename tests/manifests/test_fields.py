"""Times, labels, splits and ids, whatever list they stand in."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests._convert import seconds_text
from manifests._csvfile import FORMULA, guard, unguard
from manifests._fields import (
    LATEST_SECONDS,
    Refusal,
    labels,
    milliseconds,
    split_name,
    times,
    youtube_id,
)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("0", 0), ("417", 417_000), ("417.0", 417_000), ("0417", 417_000), ("10.5", 10_500),
     (".5", 500), ("5.", 5_000), ("1e2", 100_000), ("+3", 3_000), ("0.0004", 0), ("0.0005", 1),
     ("-0", 0), ("999999", 999_999_000)],
)  # fmt: skip
def test_times(text, ms):
    assert milliseconds(text, "time_start") == ms


@pytest.mark.parametrize(
    "text",
    ["nan", "NaN", "inf", "-inf", "Infinity", "", " ", "ten", "1_0", "٣", "1,5", "0x10", "1:02",
     "1e9999", "--1", "5 s"],
)  # fmt: skip
def test_times_that_are_no_numbers(text):
    with pytest.raises(Refusal, match="expected seconds as a finite number"):
        milliseconds(text, "time_end")


def test_times_out_of_range():
    with pytest.raises(Refusal, match=r"time_end -1 is negative"):
        milliseconds("-1", "time_end")
    for text in ("1000000", "417000000", "1e300"):
        with pytest.raises(Refusal, match=f"later than {LATEST_SECONDS} s; times are seconds"):
            milliseconds(text, "time_end")


@settings(deadline=None)
@given(st.integers(0, LATEST_SECONDS * 1000))
def test_times_are_exact_to_the_millisecond(ms):
    assert milliseconds(seconds_text(ms), "t") == ms
    assert milliseconds(str(Decimal(ms) / 1000), "t") == ms
    assert milliseconds(repr(ms / 1000), "t") == ms


def test_pairs_of_times():
    assert times("", "") == (0, None)
    assert times("5", "") == (5000, None)
    assert times("", "2.5") == (0, 2500)


def test_labels():
    assert labels("") == labels("  ") == ()
    assert labels("riding a bike") == ("riding a bike",)
    assert labels(' "riding a bike" ') == ("riding a bike",)
    assert labels("flip | fry|flip") == ("flip", "fry")
    for text, found in (("a||b", "empty"), ("a\nb", "printable"), ("caf\udce9", "printable")):
        with pytest.raises(Refusal, match=found):
            labels(text)


def test_split_names():
    for text in ("val", "validate", "validation", "Validation", " valid "):
        assert split_name(text) == "val"
    assert (split_name("training"), split_name("testing")) == ("train", "test")
    assert (split_name(""), split_name("fold 3")) == ("", "fold 3")
    with pytest.raises(Refusal, match="printable"):
        split_name("a\x00")


@pytest.mark.parametrize("text", ["-0Kz1lwvjdU", "--6bJUbfpnQ", "___________", "0wR5jVB-WPk"])
def test_ids(text):
    assert youtube_id(text) == text


@pytest.mark.parametrize("text", ["", "#NAME?", "0wR5jVB-WP", "0wR5jVB-WPkk", "../../x/etc", "a b"])
def test_wrong_ids(text):
    with pytest.raises(Refusal, match="expected 11 letters"):
        youtube_id(text)


@settings(deadline=None)
@given(st.text())
def test_guarded_cells_come_back(cell):
    assert unguard(guard(cell)) == cell


@settings(deadline=None)
@given(st.sampled_from("=+-@\t\r"), st.text())
def test_no_written_cell_is_a_formula(first, rest):
    written = guard(first + rest)
    harmless_id = all(c.isascii() and (c.isalnum() or c in "-_") for c in written)
    assert harmless_id or not FORMULA.match(written) or written.startswith("'")


@pytest.mark.parametrize(
    "cell", ["=HYPERLINK(1)", "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "-2 bags"]
)
def test_formulas_are_written_behind_an_apostrophe(cell):
    assert guard(cell) == "'" + cell


def test_ids_are_written_as_they_are():
    assert guard("-0Kz1lwvjdU") == "-0Kz1lwvjdU"
