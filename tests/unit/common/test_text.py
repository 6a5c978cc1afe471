"""Times, sizes and tables read well, and cost nothing until they are printed."""

import subprocess
import sys

import pytest

from qa.common import text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (200, "3 min 20 s"),
        (7505, "2 h 5 min"),
        (3 * 3600 + 59, "3 h"),
        (200_000, "2 d 7 h"),
        (float("inf"), "?"),
        (float("nan"), "?"),
    ],
)
def test_a_duration_is_given_in_its_two_largest_units(seconds, words):
    assert text.readable_seconds(seconds) == words


def test_a_counted_noun_is_plural_but_for_one():
    assert [text.counted(number, "job") for number in (0, 1, 1200)] == ["0 jobs", "1 job", "1,200 jobs"]


def test_a_duration_can_be_given_in_one_unit():
    assert text.readable_seconds(7505, units=1) == "2 h"


def test_sizes_have_binary_units():
    assert [text.readable_bytes(x) for x in (412, 1.25 * 2**20, 2**31)] == ["412 bytes", "1.25 MiB", "2 GiB"]


def test_columns_are_as_wide_as_their_widest_cell_and_cells_stay_as_they_are():
    assert text.text_table([("run", "F1"), ("a longer name", "1.50"), ("ß", "")]) == (
        "run            F1\na longer name  1.50\nß"
    )


def test_the_libraries_load_on_first_use_only():
    code = "import sys, qa.common.text; sys.exit('humanfriendly' in sys.modules or 'tabulate' in sys.modules)"
    path = str(next(parent for parent in map(str, sys.path) if parent.endswith("workflow/scripts")))
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}).returncode == 0


def test_what_cannot_be_shown_is_replaced():
    assert text.printable("a\x1b[31m\nb\u202e café") == "a [31m b  café"
    assert text.printable("a\tb", "?") == "a?b"


def test_a_name_that_is_close_is_offered():
    assert text.did_you_mean("traim", {"train": 1, "predict": 2}) == "; did you mean `train`?"
    assert text.did_you_mean("traim", ["score"]) == text.did_you_mean("trail", ["train"], 0.9) == ""
