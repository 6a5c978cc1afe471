"""Each stage in turn, in a real run of Snakemake, without room, without the right to write, handles or memory.

It ends with one clear sentence, exit code 1 and nothing under a final name; with the shortage gone, the same command
makes what an undisturbed run makes.
"""

import re
import shutil
import subprocess

import pytest

from shortages import OWN_MOUNTS, STAGES, Stage, at_writing, copied, hashes, no_more_memory, within_mounts

MOUNTS = subprocess.run([*OWN_MOUNTS, "mount -t tmpfs none /mnt"], capture_output=True).returncode == 0
mounts = pytest.mark.skipif(not MOUNTS, reason="no mounts in a user's namespace here")
every = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.rule)

# all there is moves to a small disk of its own, which is then filled up
FULL = """set -e
for folder in results resources checkpoints; do
  mkdir -p $folder; mv $folder $folder.before; mkdir $folder
  mount -t tmpfs -o size=400m none $folder; cp -a $folder.before/. $folder/
  cat /dev/zero > $folder/filler 2> /dev/null || true
done
set +e"""
AGAIN = "rm -f results/filler resources/filler checkpoints/filler; {0} || exit 99; cp -a results resources after/"
READ_ONLY = "\n".join(
    f"mount --bind {folder} {folder}; mount -o remount,bind,ro {folder}" for folder in ("results", "resources")
)


def without(project, stage: Stage) -> list[str]:
    """Remove what a stage made; its paths."""
    targets = stage.targets(project)
    for target in targets:
        path = project.path(target)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return targets


def sentences(stage: Stage, printed: str) -> list[str]:
    """The errors that the stage itself told."""
    return re.findall(rf"^\d\d:\d\d:\d\d {stage.rule}: ERROR (.*)$", printed, re.M)


@mounts
@every
def test_a_full_disk(stage, every_stage, tmp_path):
    project = copied(every_stage, tmp_path / "project")
    targets = without(project, stage)
    project.path("after").mkdir()
    done = within_mounts(project, f"{FULL}\nexport QA_PREFLIGHT=off", targets, AGAIN)
    assert done.returncode == 1, done.stdout
    assert len(said := sentences(stage, done.stdout)) == 1, done.stdout
    assert re.search("full", said[0]) and re.search("make room", said[0])
    assert project.path("ls.txt").read_text() == ""
    assert hashes(project.path("after"), targets) == hashes(every_stage.folder, targets)


@mounts
@every
def test_results_that_may_only_be_read(stage, every_stage, tmp_path):
    project = copied(every_stage, tmp_path / "project")
    targets = without(project, stage)
    done = within_mounts(project, READ_ONLY, targets)
    assert done.returncode == 1 and "Traceback" not in done.stdout, done.stdout
    assert "Preflight found" in done.stdout and "nothing was queued" in done.stdout
    assert "Read-only file system" in done.stdout
    assert not any(project.path(target).exists() for target in targets)


@every
def test_no_file_handles_left(stage, every_stage, tmp_path):
    """From the moment at which it begins to write: before, it would end while it still imports libraries."""
    project = copied(every_stage, tmp_path / "project")
    targets = without(project, stage)
    done = project.snakemake(*targets, **at_writing(stage.rule, "handles"))
    assert done.returncode == 1, done.stdout
    assert len(said := sentences(stage, done.stdout)) == 1 and "Too many open files" in said[0], done.stdout
    assert not any(project.path(target).exists() for target in targets)
    done = project.snakemake(*targets)
    assert done.returncode == 0, done.stdout
    assert hashes(project.folder, targets) == hashes(every_stage.folder, targets)


@every
def test_killed_for_memory(stage, every_stage, tmp_path):
    """By the kernel, which gives it not a page more from the moment at which it begins to write."""
    project = copied(every_stage, tmp_path / "project")
    targets = without(project, stage)
    with no_more_memory() as group:
        if group is None:
            pytest.skip("no groups of processes with a memory limit here (root, and cgroups that can be written)")
        done = project.snakemake(*targets, **at_writing(stage.rule, group))
    assert done.returncode == 1, done.stdout
    assert "memory" in done.stdout.partition("failed:")[2]
    assert not any(project.path(target).exists() for target in targets)
    done = project.snakemake(*targets)
    assert done.returncode == 0, done.stdout
    assert hashes(project.folder, targets) == hashes(every_stage.folder, targets)
