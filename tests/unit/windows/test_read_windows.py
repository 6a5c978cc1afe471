"""Windows read straight from the Arrow files of their folder."""

import datasets
import pytest

from qa.common.errors import InputError
from qa.windows.read_windows import arrow_table

COLUMNS = {"record": [0, 0, 1, 2], "offset_start": [[0, 1], [2], [], [0, 4, 9]], "id": ["a", "a", "b", "c"]}


@pytest.fixture
def folder(tmp_path):
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(COLUMNS).save_to_disk(tmp_path / "windows", num_shards=3)
    return tmp_path / "windows"


def test_rows_of_several_files_come_in_order(folder):
    assert len(list(folder.glob("*.arrow"))) == 3
    assert arrow_table(folder).to_pydict() == COLUMNS
    assert arrow_table(folder, ["offset_start", "record"]).column_names == ["offset_start", "record"]


def broken_state(folder):
    (folder / "state.json").write_text("{")


def state_without_files(folder):
    (folder / "state.json").write_text("{}")


def missing_state(folder):
    (folder / "state.json").unlink()


def missing_file(folder):
    next(folder.glob("*.arrow")).unlink()


def file_of_something_else(folder):
    next(folder.glob("*.arrow")).write_bytes(b"PAR1 something else altogether")


def cut_file(folder):
    file = sorted(folder.glob("*.arrow"))[0]
    file.write_bytes(file.read_bytes()[:-60])


@pytest.mark.parametrize(
    "damage", [broken_state, state_without_files, missing_state, missing_file, file_of_something_else, cut_file]
)
def test_a_folder_that_is_not_whole_is_named(damage, folder):
    damage(folder)
    with pytest.raises(
        InputError, match=r"windows: windows cannot be read \(.*; to have it made anew: rm -r \S+ and run again"
    ):
        arrow_table(folder)


def test_a_missing_column_is_named(folder):
    with pytest.raises(InputError, match="window_number"):
        arrow_table(folder, ["record", "window_number"])
