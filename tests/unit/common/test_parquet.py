"""A Parquet file that cannot be read is one line. An error of the system (another file, the machine) passes through."""

import pyarrow as pa
import pytest
from pyarrow import parquet

from qa.common.errors import InputError
from qa.common.parquet import opened


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "records.parquet"
    parquet.write_table(pa.table({"id": ["a", "b"] * 1000}), path)
    return path


def ids(path):
    with opened(path) as file:
        return file.read(["id"]).column("id").to_pylist()


def test_a_whole_file_is_read(file):
    assert ids(file) == ["a", "b"] * 1000


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 100, None], ids=["empty", "start", "other", "cut"])
def test_a_broken_file_is_named_in_one_line_with_what_to_do(file, content):
    file.write_bytes(file.read_bytes()[:-20] if content is None else content)
    with pytest.raises(InputError) as error:
        ids(file)
    assert str(error.value).startswith(f"{file}: records cannot be read (") and "\n" not in str(error.value)
    assert str(error.value).endswith(f"rm -r {file} and run again")


def test_a_file_of_other_columns_is_named(file):
    parquet.write_table(pa.table({"other": [1]}), file)
    with pytest.raises(InputError, match="spans cannot be read"), opened(file, "spans") as spans:
        spans.read(["id"]).column("id")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"missing\.parquet: records cannot be read .*run again"):
        ids(tmp_path / "missing.parquet")


def test_an_error_of_the_system_within_the_block_passes_through(file, tmp_path):
    with pytest.raises(FileNotFoundError), opened(file):
        (tmp_path / "missing").read_bytes()
