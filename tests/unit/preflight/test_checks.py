"""What is found before a run: software, downloads, hub, space, and SLURM's answers (real ones of 22.05, replayed)."""

import importlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from qa.common import checksums
from qa.hub.download import fetch_model
from qa.preflight import checks as preflight
from qa.preflight import findings, space
from qa.preflight.checks import check_downloads, check_software, check_sources
from qa.preflight.findings import OK, PROBLEM, WARNING, ok, problem, warning
from qa.preflight.plan import Plan, PlannedTraining
from qa.preflight.space import check_space
from small_hub import COMMIT, MODEL, OTHER_COMMIT, QUICK, REPO, WEIGHTS

ROOT = Path(__file__).parents[3]
FOLDER = "resources/models/tiny"


def kinds(found) -> list[str]:
    return [finding.kind for finding in found]


def only(found, kind: str) -> str:
    """The text of the one finding, which is one line of that kind."""
    (finding,) = found
    assert finding.kind == kind and "\n" not in finding.text, finding
    return finding.text


def of_kind(found, kind: str) -> list[str]:
    return [finding.text for finding in found if finding.kind == kind]


# Questions


def test_the_questions_of_own_files_are_checked_before_they_are_copied(tmp_path):
    row = {"id": "q", "context": "aa bb", "question": "?", "answers": [{"text": "bb", "answer_start": 0}]}
    for name, rows in (("bad", [row]), ("good", [{**row, "answers": []}])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files = (str(tmp_path / "bad.jsonl"),), (str(tmp_path / "good.jsonl"),)
    found = list(preflight.check_questions(tuple((names, "error") for names in files)))
    assert kinds(found) == [PROBLEM, OK] and "bad.jsonl: line 1, id 'q': 'bb' at 0" in found[0].text
    assert "good.jsonl: 1 question" in found[1].text


# Several checks at once


def test_findings_come_in_the_order_of_the_checks_whichever_ends_first():
    def slow():
        time.sleep(0.2)
        yield ok("first")

    checks = {"slow": slow, "quick": lambda: [ok("second")]}
    assert [finding.text for finding in findings.collected(checks, 10)] == ["first", "second"]


def test_a_check_that_breaks_or_hangs_is_a_warning_and_the_others_count():
    checks = {"broken": lambda: [][1], "hanging": lambda: time.sleep(30), "wrong": lambda: [problem("it")]}
    found = findings.collected(checks, 0.3)
    assert kinds(found) == [WARNING, WARNING, PROBLEM]
    assert found[0].text.startswith("broken: not checked (IndexError") and "0.3 s" in found[1].text


def test_what_a_check_had_found_before_it_broke_or_hung_counts():
    def broken():
        yield problem("it")
        raise KeyError("size")

    def hanging():
        yield problem("that")
        time.sleep(30)

    found = findings.collected({"broken": broken, "hanging": hanging}, 0.3)
    assert kinds(found) == [PROBLEM, WARNING, PROBLEM, WARNING]
    assert found[1].text == "broken: not fully checked (KeyError: 'size')"
    assert found[3].text == "hanging: not fully checked, it took more than 0.3 s"


def test_every_problem_is_in_the_message_and_nothing_else():
    text = preflight.message([problem("one"), ok("fine"), warning("perhaps"), problem("two")])
    assert text.splitlines() == ["Preflight found 2 problems; nothing was queued:", "  1. one", "  2. two"]


# Software


def test_the_environment_of_these_tests_is_right_with_or_without_cuda():
    text = only(check_software(packages=True, slurm=False), OK)
    assert "requirements.txt" in text


def with_versions(monkeypatch, **versions):
    real = importlib.metadata.version

    def version(name):
        if name in versions and versions[name] is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions.get(name) or real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_each_package_out_of_its_range_is_named_with_the_range(monkeypatch):
    with_versions(monkeypatch, transformers="4.57.6", datasets=None)
    texts = [f.text for f in check_software(packages=True, slurm=False)]
    assert len(texts) == 2
    assert any(text.startswith("transformers 4.57.6 is installed, <6,>=5.5 is needed") for text in texts)
    assert any(text.startswith("datasets is not installed") for text in texts)


def test_a_clusters_own_build_of_a_version_is_that_version(monkeypatch):
    with_versions(monkeypatch, torch="2.11.0+computecanada", numpy="2.4.2+computecanada")
    assert kinds(check_software(packages=True, slurm=False)) == [OK]


def test_the_executor_plugin_is_asked_for_only_where_jobs_go_to_slurm(monkeypatch):
    with_versions(monkeypatch, **{"snakemake-executor-plugin-slurm": "1.9.2"})
    assert kinds(check_software(packages=True, slurm=False)) == [OK]
    assert "plugin-slurm 1.9.2 is installed" in only(check_software(packages=True, slurm=True), PROBLEM)


def test_jobs_with_an_environment_of_their_own_need_snakemake_alone_in_this_one(monkeypatch):
    with_versions(monkeypatch, transformers="4.0", snakemake="8.0")
    assert only(check_software(packages=False, slurm=False), PROBLEM).startswith("snakemake 8.0")


@pytest.mark.parametrize(("lmod", "advice"), [(None, "install it again"), ("/lmod", "module load gcc arrow")])
def test_a_pyarrow_that_cannot_be_imported_is_a_matter_of_modules_where_there_are_any(monkeypatch, lmod, advice):
    def broken(name):
        raise ImportError("libarrow.so.2100: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", broken)
    monkeypatch.delenv("MODULESHOME", raising=False)
    monkeypatch.delenv("LMOD_CMD", raising=False)
    if lmod:
        monkeypatch.setenv("LMOD_CMD", lmod)
    text = only(check_software(packages=True, slurm=False), PROBLEM)
    assert "libarrow.so.2100" in text and advice in text


def test_an_old_python_is_named(monkeypatch):
    monkeypatch.setattr(preflight, "PYTHON", (9, 0))
    assert "is too old" in of_kind(check_software(packages=True, slurm=False), PROBLEM)[0]


# What is downloaded already


@pytest.fixture
def downloaded(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fetch_model(REPO, Path(FOLDER), QUICK)
    checksums.seal([FOLDER])
    return Path(FOLDER)


def checked(thoroughly=False):
    return list(check_downloads((FOLDER,), thoroughly))


@pytest.mark.parametrize("thoroughly", [False, True])
def test_whole_downloads_and_those_without_a_seal_pass(downloaded, thoroughly):
    assert "(compared: " in only(checked(thoroughly), OK)
    checksums.seal_of(downloaded).unlink()
    (downloaded / "vocab.json").unlink()
    assert kinds(checked(thoroughly)) == [OK]


def test_a_flipped_bit_is_found_by_the_thorough_check_alone(downloaded):
    (downloaded / "model.safetensors").write_bytes(bytes([WEIGHTS[0] ^ 1]) + WEIGHTS[1:])
    assert kinds(checked()) == [OK]
    assert "model.safetensors has other bytes than were written" in only(checked(thoroughly=True), PROBLEM)


def test_a_file_of_another_size_is_named_in_one_line_with_the_way_out(downloaded):
    (downloaded / "model.safetensors").write_bytes(WEIGHTS[:100])
    text = only(checked(), PROBLEM)
    assert text.startswith(f"{FOLDER}: model.safetensors has 100 bytes where 262144 were written: ")
    assert text.endswith(f"remove {FOLDER} to download it again")


@pytest.mark.parametrize("seal", ["[" * 100_000, "[]", '{"config.json": {"sise": 1}}', "\xff"])
def test_every_damaged_folder_is_named_and_a_broken_seal_is_damage(downloaded, seal):
    other = shutil.copytree(downloaded, downloaded.with_name("other"))
    (downloaded / "vocab.json").unlink()
    checksums.seal_of(other).write_text(seal, encoding="latin-1")
    found = list(check_downloads((FOLDER, str(other))))
    assert kinds(found) == [PROBLEM] * 2
    assert "vocab.json is missing" in found[0].text
    assert found[1].text.startswith(f"{other}: its seal is broken")


# What must still be downloaded


def sources(**changes):
    stated = {}
    return list(check_sources({FOLDER: ("model", {**REPO, **changes})}, stated)), stated


def test_the_hub_is_asked_for_a_listing_and_its_sizes_are_those_of_what_would_come(hub, downloaded):
    hub.requests.clear()
    found, stated = sources()
    assert only(found, OK).startswith("the hub has model someone/tiny")
    assert len(hub.asked("/api/models/*")) == 1 and not hub.asked("*/resolve/*")
    assert stated == {FOLDER: sum(p.stat().st_size for p in downloaded.iterdir() if p.name in MODEL)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"revision": OTHER_COMMIT}, f"has no commit {OTHER_COMMIT}"),
        ({"repo": "someone/else"}, "has no model someone/else"),
    ],
)
def test_a_wrong_pin_is_found_before_the_download(hub, changes, words):
    assert words in only(sources(**changes)[0], PROBLEM)


def test_weights_that_would_be_refused_are_found_before_the_download(hub):
    hub.add_repo("model", "someone/old", COMMIT, {"config.json": b"{}", "vocab.txt": b"a", "pytorch_model.bin": b""})
    assert "only pickles (pytorch_model.bin)" in only(sources(repo="someone/old")[0], PROBLEM)


def test_a_data_sets_patterns_must_match(hub):
    hub.add_repo("dataset", "someone/questions", COMMIT, {"a/train-0.parquet": b"12345", "a/README.md": b"x"})
    source = {"repo": "someone/questions", "revision": COMMIT, "splits": {"train": "a/train-*"}}
    stated = {}
    assert kinds(check_sources({"d": ("dataset", source)}, stated)) == [OK] and stated == {"d": 5}
    source["splits"] = {"train": ["a/train-*"], "validation": "a/dev-*"}
    assert "no file matches 'a/dev-*'" in only(check_sources({"d": ("dataset", source)}, {}), PROBLEM)


def test_an_unreachable_hub_is_a_problem_that_says_where_to_run(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    text = only(sources()[0], PROBLEM)
    assert "no whole answer from 127.0.0.1" in text and "login node" in text


def test_a_hub_that_never_answers_is_not_waited_for(hub, monkeypatch):
    monkeypatch.setattr(preflight, "SECONDS", 0.5)
    hub.fail("*/api/models/*", hang=20, times=9)
    assert "the hub did not answer within 0.5 s" in only(sources()[0], PROBLEM)


def test_two_wrong_downloads_are_both_named(hub):
    wrong = {f"r/{n}": ("model", {"repo": f"someone/{n}", "revision": COMMIT}) for n in ("one", "two")}
    assert kinds(check_sources(wrong, {})) == [PROBLEM, PROBLEM]


def test_a_package_that_is_not_installed_is_named():
    found = check_sources({FOLDER: ("model", {"package": "no-such-thing", "directory": "x"})}, {})
    assert only(found, PROBLEM).endswith("pip install no-such-thing")


def test_python_in_a_folder_with_a_space_is_a_problem(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/home/ada/my thesis/.venv/bin/python")
    assert "move the environment" in of_kind(check_software(packages=True, slurm=False), PROBLEM)[0]


@pytest.mark.parametrize("source", [{"package": "pytest", "directory": "pytest/modl"}, {"path": "no/modl"}])
def test_a_model_folder_that_does_not_exist_is_a_problem(source):
    assert "there is no such folder" in only(check_sources({FOLDER: ("model", source)}, {}), PROBLEM)


def test_files_of_this_machine_are_counted_without_asking_any_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for name, content in MODEL.items():
        (tmp_path / name).write_bytes(content)
    stated = {}
    rows = {"splits": {"train": [str(tmp_path / "vocab.json"), str(tmp_path / "config.json")]}}
    asked = {"m": ("model", {"path": str(tmp_path)}), "d": ("dataset", rows)}
    assert list(check_sources(asked, stated)) == []
    assert stated == {
        "m": sum(map(len, MODEL.values())),
        "d": len(MODEL["vocab.json"]) + len(MODEL["config.json"]),
    }


# Space


def with_space(monkeypatch, free: int):
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))


def training(model: Path, keep=2, **options) -> PlannedTraining:
    return PlannedTraining(str(model), "checkpoints/r/seed-1", keep, **options)


@pytest.mark.parametrize(
    ("at_once", "keep_after_success", "needed"),
    [
        (1, False, (3 * 12 + 3 * 4) * 2**20),
        (2, False, (2 * 3 * 12 + 3 * 4) * 2**20),
        (1, True, 3 * (3 * 12 + 4) * 2**20),
    ],
)
def test_checkpoints_models_and_windows_are_counted(at_once, keep_after_success, needed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "m/model.safetensors").write_bytes(bytes(4 * 2**20))  # 2^20 parameters of four bytes
    (tmp_path / "m/config.json").write_text("{}")
    planned = training(Path("m"), keep_after_success=keep_after_success)
    plan = Plan({}, trainings=(planned, planned, planned), at_once=at_once)
    with_space(monkeypatch, needed - 1)
    assert "free some space, or keep fewer checkpoints" in only(check_space(plan, {}), PROBLEM)
    with_space(monkeypatch, needed)
    assert "3 trainings" in only(check_space(plan, {}), OK)


def test_weights_of_two_bytes_are_as_many_parameters(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    (tmp_path / "config.json").write_text('{"torch_dtype": "float16"}')
    assert space._parameters(str(tmp_path), {}) == 500
    assert space._parameters("a folder to come", {"a folder to come": 1000}) == 250


def test_what_an_earlier_attempt_holds_is_not_needed_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoints/r/seed-1/abc/checkpoint-5").mkdir(parents=True)
    (tmp_path / "checkpoints/r/seed-1/abc/checkpoint-5/optimizer.pt").write_bytes(bytes(1000))
    needs = space._needs(Plan({}, trainings=(training(Path("m")),)), {"m": 400})
    assert needs["checkpoints"] == 3 * 12 * 100 - 1000


FULL = """
import sys
from pathlib import Path
from types import SimpleNamespace
from qa.preflight.plan import Plan
from qa.preflight.space import check_space
for finding in check_space(Plan({}), {}):
    print(finding.kind, finding.text)
"""


def test_a_full_disk_is_found_by_writing_to_it(tmp_path):
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    small = f"mount -t tmpfs -o size=64k tmpfs {tmp_path}; cd {tmp_path};"
    if subprocess.run([*mount, f"{small} true"], capture_output=True).returncode:
        pytest.skip("this system allows no mounts of one's own")
    run = [*mount, f'{small} exec "$0" -c "$1"', sys.executable, FULL]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "workflow" / "scripts")}
    done = subprocess.run(run, capture_output=True, text=True, env=environment)
    assert done.stdout.startswith(f"problem {tmp_path}: the disk or your quota is full"), done


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path, monkeypatch):
    def refused(**options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(space.tempfile, "TemporaryFile", refused)
    assert "cannot be written to (Permission denied)" in only(check_space(Plan({}), {}), PROBLEM)


def test_looking_for_space_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert kinds(check_space(Plan({}), {})) == [OK]
    assert list(tmp_path.iterdir()) == []
