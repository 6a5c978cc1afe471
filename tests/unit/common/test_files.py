"""Files written aside, and how a stage ends."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import stage_jobs
import torch

from qa.common.errors import InputError, some
from qa.common.files import digest_of_json, read_json, sha256_of_folder, write_csv, write_json, written_aside
from qa.metrics import squad
from qa.model import devices
from qa.training import manifest


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    with pytest.raises(RuntimeError), written_aside(target) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert list(target.parent.iterdir()) == []
    with written_aside(target) as aside:
        aside.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole" and list(target.parent.iterdir()) == [target]


def test_a_table_has_a_line_for_each_row_and_empty_cells_for_what_a_row_lacks(tmp_path):
    write_csv(tmp_path / "t.csv", ("a", "b"), iter([{"b": 1.5, "a": "x,y"}, {"a": None}]))
    assert (tmp_path / "t.csv").read_bytes() == b'a,b\n"x,y",1.5\n,\n'
    with pytest.raises(ValueError, match="c"):
        write_csv(tmp_path / "t.csv", ("a", "b"), [{"a": 1, "c": 2}])


def test_a_folder_replaces_the_one_before_and_what_a_killed_job_left(tmp_path):
    target, left = tmp_path / "folder", tmp_path / ".folder.partial"
    for folder, name in ((target, "old"), (left, "half")):
        folder.mkdir()
        (folder / name).write_text("")
    with written_aside(target, directory=True) as aside:
        (aside / "new").write_text("")
    assert [path.name for path in target.iterdir()] == ["new"] and not left.exists()


def test_a_kept_partial_folder_is_there_at_the_next_attempt(tmp_path):
    with pytest.raises(RuntimeError), written_aside(tmp_path / "f", directory=True, keep_partial=True) as aside:
        (aside / "part").write_text("1")
        raise RuntimeError
    with written_aside(tmp_path / "f", directory=True, keep_partial=True) as aside:
        assert (aside / "part").read_text() == "1"
    assert (tmp_path / "f" / "part").exists()


def test_json_refuses_nan_and_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "x.json", {"é": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert read_json(tmp_path / "x.json") == {"é": 1}


@pytest.mark.parametrize(("content", "message"), [(b"{", "not JSON"), (b'"\xff"', "not UTF-8"), (None, "no such file")])
def test_a_json_file_that_cannot_be_read_is_named(content, message, tmp_path):
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.json: {message}"):
        read_json(tmp_path / "x.json")


def test_digests_do_not_depend_on_the_order_of_keys_and_leave_hidden_files_out(tmp_path):
    assert digest_of_json({"a": 1, "b": 2}) == digest_of_json({"b": 2, "a": 1}) != digest_of_json({"a": 2, "b": 1})
    (tmp_path / "sub").mkdir()
    for name in ("sub/a", "b", ".snakemake_timestamp"):
        (tmp_path / name).write_text("")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert sha256_of_folder(tmp_path) == {"b": empty, "sub/a": empty}


def test_lists_read_well():
    assert some([1, 2, 3], 2) == "1, 2 and 1 more" and some([1]) == "1"


def run_stage(tmp_path: Path, body: str) -> subprocess.CompletedProcess:
    script = "from qa.jobs.stage import stage\nfrom stage_jobs import job\n"
    script += f"with stage('train', job({str(tmp_path / 'logs/x.log')!r})):\n    {body}\n"
    paths = f"{Path(squad.__file__).parents[2]}:{Path(stage_jobs.__file__).parent}"
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)


def test_a_users_mistake_ends_a_stage_in_one_line_and_code_1(tmp_path):
    done = run_stage(tmp_path, "from qa.common.errors import InputError; raise InputError('runs.x: too small')")
    assert done.returncode == 1 and "Traceback" not in done.stderr and "runs.x: too small" in done.stderr
    assert "ERROR runs.x: too small" in (tmp_path / "logs/x.log").read_text()


def test_a_bug_ends_a_stage_with_its_traceback_in_the_log(tmp_path):
    done = run_stage(tmp_path, "1 / 0")
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr and "Traceback" not in done.stderr
    assert "Traceback" in (tmp_path / "logs/x.log").read_text()


def test_a_stage_without_network_tells_the_libraries_to_stay_offline(tmp_path):
    done = run_stage(tmp_path, "import os; print(os.environ['HF_HUB_OFFLINE'], os.environ['HF_DATASETS_OFFLINE'])")
    assert done.stdout.split() == ["1", "1"]


@pytest.mark.parametrize(
    "module",
    ["qa.metrics", "qa.decoding.postprocess", "qa.evaluation.score", "qa.config.settings", "qa.data.prepare_questions"],
)
def test_stages_without_a_model_load_neither_torch_nor_transformers(module):
    code = f"import sys, {module}; print(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": str(Path(squad.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_code_outside_a_checkout_has_no_commit(tmp_path):
    assert manifest.code_state(tmp_path) == {"git_commit": None, "git_dirty": None}


@pytest.mark.skipif(shutil.which("git") is None, reason="no git here")
def test_the_git_state_tells_commit_and_changes(tmp_path):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    (tmp_path / "a").write_text("1")
    for arguments in (["init", "-q"], ["add", "a"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *arguments], check=True)
    state = manifest.code_state(tmp_path)
    assert len(state["git_commit"]) == 40 and state["git_dirty"] is False
    (tmp_path / "a").write_text("2")
    assert manifest.code_state(tmp_path)["git_dirty"] is True


def test_varying_files_are_no_inputs(tmp_path):
    write_json(tmp_path / "state.json", {"random": 1})
    (tmp_path / "data.arrow").write_text("")
    assert list(manifest.input_hashes({"w": tmp_path})["w"]) == ["data.arrow"]
    assert json.dumps(manifest.machine())


def test_bf16_is_autocast_and_fp32_is_not_nor_computed_as_tf32():
    before = torch.backends.fp32_precision
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        with devices.precision_context(precision):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
            assert torch.backends.fp32_precision == "ieee"
        assert torch.backends.fp32_precision == before
