"""The command `qa`: it finds its commands, tells mistakes in one line, and imports only what a command needs."""

import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml

import qa
from qa import cli
from qa.common import installation

LIBRARY = installation.PACKAGE.parent
HEAVY = {"torch", "transformers", "tokenizers", "datasets", "pandas", "numpy", "pyarrow", "huggingface_hub", "pydantic"}


def run(folder, *arguments, python=("-m", "qa")):
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    command = [sys.executable, *python, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_has_a_help_of_its_own(name, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: qa {name} ")


def test_the_help_lists_every_command(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    listed = capsys.readouterr().out
    assert all(f"\n    {name}" in listed for name in cli.COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["no-such-command"]])
def test_bad_usage_ends_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2 and "usage: qa" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error():
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY)}
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "qa", "config", installation.clone() / "config/demo.yaml"]
    done = subprocess.run(command, env=environment, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=900)
    os.close(writing)
    assert (done.stderr, done.returncode) == ("", 1)


def test_scores_need_nothing_heavy(tmp_path):
    (tmp_path / "data.json").write_text(
        json.dumps({"data": [{"paragraphs": [{"qas": [{"id": "a", "answers": [{"text": "mill"}]}]}]}]})
    )
    (tmp_path / "answers.json").write_text('{"a": "The mill."}')
    code = "import sys; from qa.cli import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    done = run(tmp_path, "score", "data.json", "answers.json", python=("-c", code))
    assert json.loads(done.stdout)["exact"] == 100.0
    assert not HEAVY & set(done.stderr.split())


def test_the_version_tells_the_clone(tmp_path):
    assert run(tmp_path, "--version").stdout == f"qa {qa.__version__}, the library of the clone {LIBRARY.parents[1]}\n"


def test_in_another_clone_the_command_runs_the_library_of_that_clone(tmp_path):
    library = tmp_path.joinpath(*installation.PLACE)
    shutil.copytree(installation.PACKAGE, library, ignore=shutil.ignore_patterns("__pycache__"))
    (library / "__init__.py").write_text('__version__ = "9.8.7"\n')
    assert run(tmp_path, "--version").stdout == f"qa 9.8.7, the library of the clone {tmp_path}\n"
    done = run(tmp_path, "config", "none.yaml")
    assert (done.returncode, done.stderr) == (1, "error: none.yaml: no such file\n")


def test_a_missing_module_is_told_in_one_line_with_what_to_do(monkeypatch, capsys):
    def lacking(arguments):
        import no_such_module  # noqa: F401

    monkeypatch.setitem(cli.COMMANDS, "ask", (lacking, ""))
    assert cli.main(["ask"]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "no module `no_such_module`" in message and "`make setup`" in message


def test_outside_an_environment_the_commands_of_a_run_say_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert [cli.main([name]) for name in cli.OF_A_RUN] == [1] * len(cli.OF_A_RUN)
    assert capsys.readouterr().err.count("activate the environment") == len(cli.OF_A_RUN)


CONFIG = {
    "models": {"m": {"path": "m"}},
    "datasets": {"d": {"splits": {"train": "t.json", "test": "v.json"}}},
    "decodings": {"n_best": {"method": "n_best"}},
    "runs": {"a": {"model": "m", "train_on": "d/train", "evaluate_on": ["d/test"], "decodings": ["n_best"]}},
}


def test_a_configuration_is_merged_as_by_snakemake_and_each_run_printed(tmp_path, capsys):
    for name, value in {"one.yaml": CONFIG, "two.yaml": {"defaults": {"training": {"batch_size": 48}}}}.items():
        (tmp_path / name).write_text(yaml.safe_dump(value))
    files = [str(tmp_path / "one.yaml"), str(tmp_path / "two.yaml")]
    assert cli.main(["config", *files]) == 0
    runs = yaml.safe_load(capsys.readouterr().out)["runs"]
    assert runs["a"]["training"]["batch_size"] == 48 and runs["a"]["model"] == "m"
    assert cli.main(["config", "--run", "b", *files]) == 1
    assert "no run `b`" in capsys.readouterr().err


def test_a_mistake_in_a_configuration_is_an_error(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**CONFIG, "runz": {}}))
    assert cli.main(["config", str(tmp_path / "c.yaml")]) == 1
    assert "runz" in capsys.readouterr().err


def test_preflight_asks_snakemake_and_returns_its_exit_code(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["preflight"]) == 1 and "no Snakefile in this folder" in capsys.readouterr().err
    (tmp_path / "Snakefile").touch()
    calls = []

    def stand_in(command, env):
        calls.append((command, env["QA_PREFLIGHT"]))
        return SimpleNamespace(returncode=7)

    monkeypatch.setattr(cli.subprocess, "run", stand_in)
    assert cli.main(["preflight", "--profile", "profiles/local", "--configfile", "my.yaml"]) == 7
    assert cli.main(["preflight", "my.yaml", "--profile", "profiles/local"]) == 7  # as `qa config my.yaml`
    for command, mode in calls:
        assert mode == "only" and command[3:5] == ["--profile", "profiles/local"]
        assert command[-2:] == ["--configfile", "my.yaml"]
