"""The same inputs give the same bytes: run again, elsewhere, under other circumstances, for another user."""

import shutil
import subprocess
import sys

import pytest

from chain import Project
from killing import from_nothing, results_of

PART = "results/teacher/seed-1/mills/validation/calibrated/metrics.json"
CIRCUMSTANCES = {
    "again": {},
    "in Nepal": {"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "4294967295"},
    "in plain C": {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONHASHSEED": "1"},
}


def check_part(project, every_stage):
    """What was made for PART is what the other run has of it."""
    found, whole = results_of(project), results_of(every_stage)
    assert {
        PART,
        "results/teacher/seed-1/model/model.safetensors",
        "results/teacher/seed-1/manifest.json",
    } <= found.keys()
    assert found == {name: whole[name] for name in found}


@pytest.mark.parametrize("circumstances", CIRCUMSTANCES)
def test_a_run_from_nothing_gives_the_same_bytes(circumstances, every_stage, tmp_path):
    project = from_nothing(every_stage, tmp_path / "Größe und Maß")
    done = project.snakemake(**CIRCUMSTANCES[circumstances])
    assert done.returncode == 0, done.stdout
    assert results_of(project) == results_of(every_stage)


@pytest.mark.parametrize("mask", ["077", "002"])
def test_another_users_mask_changes_no_byte_and_is_kept_to(mask, every_stage, tmp_path):
    project = from_nothing(every_stage, tmp_path / "masked")
    shell = Project(project.folder, [*project.prefix, "sh", "-c", f'umask {mask}; exec "$0" "$@"'])
    done = shell.snakemake(PART)
    assert done.returncode == 0, done.stdout
    check_part(project, every_stage)
    wider = [
        path
        for folder in ("results", "resources", "logs")
        for path in project.path(folder).rglob("*")
        if path.stat().st_mode & int(mask, 8)
    ]
    assert not wider


def test_called_from_another_working_directory_it_makes_the_same_in_its_own(every_stage, tmp_path):
    project = from_nothing(every_stage, tmp_path / "there")
    here = tmp_path / "here"
    here.mkdir()
    command = [sys.executable, "-m", "snakemake", PART, "--directory", str(project.folder)]
    command += ["--snakefile", str(project.path("Snakefile")), "--profile", str(project.path("profiles/local"))]
    done = subprocess.run(
        [*command, "--configfile", str(project.path("tiny.yaml"))], cwd=here, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    check_part(project, every_stage)
    assert not list(here.iterdir())


def test_a_moved_directory_has_nothing_to_do_and_goes_on_with_the_same_bytes(every_stage, tmp_path):
    copied = tmp_path / "copied"
    shutil.copytree(every_stage.folder, copied, symlinks=True)
    project = Project(copied.rename(tmp_path / "moved"), every_stage.prefix)
    before = results_of(project)
    assert project.would_run() == set()
    for path in (project.path("results/teacher/seed-1"), project.path("results/summary.csv")):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    assert results_of(project) == before
