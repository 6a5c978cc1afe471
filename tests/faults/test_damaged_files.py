"""Every kind of file between the stages, with one bit flipped, cut off or emptied, in a real run of Snakemake.

The stage that would use it names it and uses nothing of it; the command of the message has it made anew, and the result
is what it was.
"""

import random
import re
import subprocess
from pathlib import Path

import pytest

from qa.common import checksums
from shortages import ANSWERED, copied, hashes

RUN = "results/pupil/seed-1"
# what is damaged (of several files the largest) -> what is to be made of it
FILES = {
    "resources/models/bytes/model.safetensors": f"{RUN}/model",
    "resources/models/bytes/tokenizer.json": "results/windows/mills/train@kept-0.45/bytes-*",
    "resources/datasets/mills/train/*.json": "results/questions/mills/train.parquet",
    "results/questions/mills/train.parquet": "results/questions/mills/train@kept-0.45.parquet",
    "results/questions/mills/train@kept-*.parquet": "results/windows/mills/train@kept-0.45/bytes-*",
    "results/questions/mills/train@held-out-*.parquet": f"{RUN}/calibration/calibrated.json",
    "results/windows/mills/train@kept-0.45/bytes-*/*.arrow": f"{RUN}/model",
    "results/windows/mills/validation/bytes-*/state.json": f"{RUN}/mills/validation/spans.parquet",
    "results/targets/mills/*/*/*.parquet": f"{RUN}/model",
    f"{RUN}/model/model.safetensors": f"{RUN}/mills/validation/spans.parquet",
    f"{RUN}/model/config.json": f"{RUN}/package",
    f"{RUN}/manifest.json": f"{RUN}/package",
    f"{RUN}/training.csv": f"{RUN}/package",
    f"{RUN}/mills/validation/spans.parquet": f"{ANSWERED}/answers.json",
    f"{RUN}/calibration/calibrated.json": f"{ANSWERED}/answers.json",
    f"{ANSWERED}/answers.json": f"{ANSWERED}/metrics.json",
    f"{ANSWERED}/null_scores.json": f"{ANSWERED}/metrics.json",
    f"{ANSWERED}/nbest.parquet": f"{ANSWERED}/metrics.json",
    f"{ANSWERED}/question_scores.parquet": f"{ANSWERED}/slices.csv",
    f"{ANSWERED}/metrics.json": "results/summary.csv",
    f"{ANSWERED}/errors.parquet": "results/report.html",
    "results/comparison.csv": "results/report.html",
}
REMADE_WITH_TIMES = ("manifest.json", "training.csv", "resource_usage.csv", "source.json")


def flip(path: Path, seed: str) -> None:
    content = bytearray(path.read_bytes())
    place = random.Random(seed).randrange(len(content) * 8)
    content[place // 8] ^= 1 << place % 8
    path.unlink()  # packages have hard links to models
    path.write_bytes(content)


def cut(path: Path, seed: str) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: random.Random(seed).randrange(len(content))])


def empty(path: Path, seed: str) -> None:
    path.unlink()
    path.touch()


def largest(folder: Path, pattern: str) -> Path:
    return max(folder.glob(pattern), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("damage", [flip, cut, empty], ids=["flipped", "cut", "emptied"])
@pytest.mark.parametrize("pattern", FILES)
def test_a_damaged_file_is_named_before_it_is_used_and_made_anew_by_the_command_told(
    pattern, damage, every_stage, tmp_path
):
    project = copied(every_stage, tmp_path / "project")
    damaged = largest(project.folder, pattern)
    wanted = project.folder.glob(FILES[pattern]).__next__()
    target = wanted.relative_to(project.folder).as_posix()
    subprocess.run(["rm", "-r", wanted], check=True)
    damage(damaged, pattern)
    done = project.snakemake(target, QA_PREFLIGHT="off")
    assert done.returncode == 1, done.stdout
    told = re.search(r"ERROR (\S+): (\S+) (has|is) .*made anew: (rm -r .*) and run again(.*); to take", done.stdout)
    assert told and damaged.name == Path(told[2]).name and damaged.is_relative_to(project.path(told[1])), done.stdout
    assert not wanted.exists()
    subprocess.run(told[4], shell=True, cwd=project.folder, check=True)
    done = project.snakemake(*([] if told[5] == " without a target" else [target]))
    assert done.returncode == 0, done.stdout
    made = [target, told[1]] if damaged.name not in REMADE_WITH_TIMES else [target]
    assert hashes(project.folder, made) == hashes(every_stage.folder, made)


@pytest.mark.parametrize(
    "name, damage, mode, fault",
    [("model.safetensors", cut, "on", " has "), ("config.json", flip, "only", " has other bytes")],
)
def test_preflight_names_a_damaged_download_before_anything_is_queued(name, damage, mode, fault, every_stage, tmp_path):
    project = copied(every_stage, tmp_path / "project")
    damage(project.path("resources/models/bytes", name), name)
    subprocess.run(["rm", "-r", project.path(RUN, "model")], check=True)
    done = project.snakemake(f"{RUN}/model", QA_PREFLIGHT=mode)
    assert done.returncode == 1 and "nothing was queued" in done.stdout
    assert f"{name}{fault}" in done.stdout and "remove resources/models/bytes" in done.stdout


def test_damage_of_what_no_stage_reads_is_told_when_asked_for(every_stage, tmp_path):
    project = copied(every_stage, tmp_path / "project")
    assert checksums.main([str(project.path("results")), str(project.path("resources"))]) == 0
    flip(project.path("results/report.html"), "report")
    assert checksums.main([str(project.path("results"))]) == 1
