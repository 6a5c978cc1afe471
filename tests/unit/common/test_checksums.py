"""Seals: what a stage made and somebody or something changed since is noticed and named before it is used."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import stage_jobs
from hypothesis import given, settings
from hypothesis import strategies as st

from qa.common import checksums
from qa.common.errors import InputError


@pytest.fixture
def made(tmp_path):
    """A sealed file and a sealed folder with a folder in it."""
    (tmp_path / "answers.json").write_text('{"a": "in 1412"}\n')
    (tmp_path / "model" / "sub").mkdir(parents=True)
    for name in ("config.json", "sub/weights"):
        (tmp_path / "model" / name).write_bytes(name.encode() * 20)
    paths = [tmp_path / "answers.json", tmp_path / "model"]
    checksums.seal(paths)
    return paths


def refusal(*paths) -> str:
    with pytest.raises(InputError) as caught:
        checksums.check(paths)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_as_it_was_written_or_has_no_seal_or_is_not_there_passes(made, tmp_path):
    (tmp_path / "own.txt").write_text("")
    checksums.check([*made, tmp_path / "own.txt", tmp_path / "nowhere"])
    assert checksums.main([str(tmp_path)]) == 0


def test_every_flipped_bit_of_a_file_is_noticed(made):
    file = made[0]
    whole = bytearray(file.read_bytes())
    for place in range(len(whole) * 8):
        whole[place // 8] ^= 1 << place % 8
        file.write_bytes(whole)
        assert "other bytes" in checksums.fault_of(file)
        whole[place // 8] ^= 1 << place % 8
    file.write_bytes(whole)
    assert not checksums.fault_of(file)


@given(st.binary(min_size=1, max_size=3000), st.data())
@settings(max_examples=60, deadline=None)
def test_truncated_swapped_and_zeroed_bytes_are_noticed(tmp_path_factory, content, data):
    file = tmp_path_factory.mktemp("seals") / "x.bin"
    file.write_bytes(content)
    checksums.seal([file])
    first = data.draw(st.integers(0, len(content) - 1))
    last = data.draw(st.integers(first + 1, min(len(content), first + 4)))
    changed = data.draw(
        st.sampled_from([content[:first], content[:first] + content[last:], content[:first] + bytes(last - first)])
    )
    changed += content[last:] if changed == content[:first] + bytes(last - first) else b""
    file.write_bytes(changed)
    assert bool(checksums.fault_of(file)) == (changed != content)


def test_the_message_names_the_file_the_fault_and_commands_that_help(made):
    answers, model = made
    answers.write_text("{}")
    (model / "sub" / "weights").unlink()
    message = refusal(*made)
    assert f"{answers}: answers.json has 2 bytes where 17 were written" in message
    assert f"{model}: sub/weights is missing" in message
    taken = re.search(r"to take it as it is: (rm .*)", message).group(1)
    assert subprocess.run(taken, shell=True, check=True)
    checksums.check(made)


def test_to_make_it_anew_the_command_of_the_message_removes_it_with_its_seal(made):
    answers, model = made
    (model / "config.json").write_text("")
    anew = re.search(r"made anew: (rm -r .*) and run again;", refusal(model)).group(1)
    assert subprocess.run(anew, shell=True, check=True) and answers.exists() and not model.exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", "{", '{"answers.json": 5}', '{"answers.json": {"size": "17"}}'])
def test_a_broken_seal_is_no_free_pass(content, made, tmp_path, capsys):
    checksums.seal_of(made[0]).write_text(content)
    assert f"{made[0]}: its seal is broken" in refusal(made[0])
    assert checksums.main([str(tmp_path)]) == 1 and "its seal is broken" in capsys.readouterr().err


def test_a_seal_that_names_nothing_is_broken_unless_the_folder_is_empty(made, tmp_path):
    checksums.seal_of(made[1]).write_text("{}")
    assert f"{made[1]}: its seal is broken (it names no file)" in refusal(made[1])
    (tmp_path / "empty").mkdir()
    checksums.seal([tmp_path / "empty"])
    checksums.check([tmp_path / "empty"])


def test_a_name_with_spaces_and_quotes_is_quoted_for_the_shell(tmp_path):
    file = tmp_path / "it's $HOME; x.json"
    file.write_text("{}")
    checksums.seal([file])
    file.write_text("[]")
    anew = re.search(r"made anew: (rm -r .*) and run again;", refusal(file)).group(1)
    assert subprocess.run(anew, shell=True, check=True) and not file.exists()


def test_hidden_files_and_files_that_were_added_do_not_matter(made):
    (made[1] / ".snakemake_timestamp").touch()
    (made[1] / "notes.txt").write_text("mine")
    checksums.check(made)
    assert json.loads(checksums.seal_of(made[1]).read_text()).keys() == {"config.json", "sub/weights"}


def test_the_command_line_names_all_that_is_damaged(made, capsys, tmp_path):
    made[0].write_text("[]")
    assert checksums.main([str(tmp_path)]) == 1
    assert str(made[0]) in capsys.readouterr().err


def test_the_command_line_names_what_is_missing_though_it_was_sealed(made, capsys, tmp_path):
    made[0].unlink()
    assert checksums.main([str(tmp_path)]) == 1
    assert f"{made[0]}: missing, though it was sealed" in capsys.readouterr().err


def test_the_command_line_passes_nothing_that_it_has_not_compared(made, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert checksums.main([str(tmp_path), "nosuch"]) == 1
    assert "no such folder: nosuch" in capsys.readouterr().err
    (tmp_path / "unsealed").mkdir()
    (tmp_path / "unsealed" / "x.json").touch()
    assert checksums.main(["unsealed"]) == 1
    assert "unsealed: nothing there has a seal" in capsys.readouterr().err
    assert checksums.main() == 1
    assert "resources, results: nothing there has a seal" in capsys.readouterr().err


STAGE = """
import sys
from qa.jobs.stage import stage
from stage_jobs import job
with stage("score", job("logs/score.log", input=["answers.json"], output=["metrics.json"])):
    print("at work")
    open("metrics.json", "w").write(sys.argv[1])
"""


def run(folder, text, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{Path(checksums.__file__).parents[2]}:{Path(stage_jobs.__file__).parent}")
    return subprocess.run([sys.executable, "-c", STAGE, text], cwd=folder, capture_output=True, text=True, timeout=900)


def test_a_stage_checks_what_it_is_given_before_it_works_and_seals_what_it_makes(made, tmp_path, monkeypatch):
    done = run(tmp_path, "1", monkeypatch)
    assert done.returncode == 0 and checksums.seal_of(tmp_path / "metrics.json").exists()
    assert run(tmp_path, "22", monkeypatch).returncode == 0 and checksums.main([str(tmp_path)]) == 0
    made[0].write_text('{"a": "in 1413"}\n')
    done = run(tmp_path, "3", monkeypatch)
    assert done.returncode == 1 and "at work" not in done.stdout and "Traceback" not in done.stderr
    assert "answers.json: answers.json has other bytes than were written" in done.stderr
    assert (tmp_path / "metrics.json").read_text() == "22"
