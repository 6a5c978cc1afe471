"""The workflow as others use it: a module from a clone or from git, with and without a prefix, and as snakedeploy does.

Nothing here has a network: git takes a bare repository of this machine for the one on GitHub.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import qa
import tiny
from chain import CONFIG, ROOT
from qa.plan.code_digest import code_digest

pytestmark = [
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
    pytest.mark.xdist_group("module use"),  # its fixtures are made once
]

SMALL = {**CONFIG, "models": {"one": CONFIG["models"]["one"]}, "runs": {"small": CONFIG["runs"]["small"]}}
REPOSITORY = "someone/qa-workflow"
FROM_GITHUB = f'github("{REPOSITORY}", path="workflow/Snakefile", tag="v1")'
PARTS = ("Snakefile", "workflow", "profiles", "config", "envs", "pyproject.toml", "LICENSE")
PIP = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
NO_CODE = ("--rerun-triggers", "mtime", "params", "input", "software-env")
FIRST_STAGES = ("qa_download", "qa_prepare_questions", "qa_tokenize_and_label")
USER = """
configfile: "tiny.yaml"

module qa:
    snakefile: {source}
    config: config
    {prefix}

use rule * from qa as qa_*

rule all:
    default_target: True
    input: rules.qa_all.input

onstart:
    qa.onstart()

onsuccess:
    qa.onsuccess()

onerror:
    qa.onerror()
"""
# What `snakedeploy deploy-workflow` 0.17.1 writes, beside copies of config/, profiles/ and LICENSE.
DEPLOYED = f"""
from snakemake.utils import min_version

min_version("6.10.0")

configfile: "config/config.yaml"

module qa_workflow:
    snakefile:
        {FROM_GITHUB}
    config:
        config

use rule * from qa_workflow
"""


def git(folder, *arguments):
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(folder), *arguments]
    subprocess.run(command, check=True, capture_output=True)


def make_clone(folder):
    """A clone of the repository as it is here, with one commit and the tag v1."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "default"))
        else:
            folder.mkdir(exist_ok=True)
            shutil.copy(source, folder)
    git(folder.parent, "init", "--quiet", folder.name)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "all")
    git(folder, "tag", "v1")
    return folder


@dataclass
class Sources:
    """A clone, an installed copy of the library, and the variables by which git and Snakemake find the repository."""

    clone: Path
    site: Path
    variables: dict[str, str]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    clone, bare, site = make_clone(folder / "clone"), folder / "bare.git", folder / "site"
    git(folder, "clone", "--quiet", "--bare", str(clone), str(bare))
    subprocess.run([*PIP, "--no-build-isolation", "--target", site, f"git+file://{bare}@v1"], check=True)
    instead = {
        "GIT_CONFIG_KEY_0": f"url.file://{bare}.insteadOf",
        "GIT_CONFIG_VALUE_0": f"https://github.com/{REPOSITORY}",
    }
    return Sources(clone, site, {**instead, "GIT_CONFIG_COUNT": "1", "XDG_CACHE_HOME": str(folder / "cache")})


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """The user's own files: a model and three splits."""
    folder = tmp_path_factory.mktemp("given")
    texts = [p["context"] + p["qas"][0]["question"] for p in tiny.squad(30)["data"][0]["paragraphs"]]
    tiny.save_model(folder / "one", texts)
    for name, questions in {"train": 14, "validation": 10, "extra": 8}.items():
        tiny.write_squad(folder / f"{name}.json", questions=questions, prefix=name)
    return folder


@pytest.fixture
def user(given, tmp_path):
    """The folder of somebody who uses the workflow."""
    folder = tmp_path / "user"
    shutil.copytree(given, folder / "given")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(SMALL))
    return folder


def snakemake(folder, *arguments, python=sys.executable, installed=None, **variables):
    """Run Snakemake without this test's own library, with an installed one where a folder of it is named."""
    environment = _without_paths() | variables
    environment |= {"PYTHONPATH": str(installed)} if installed else {}
    command = [str(python), "-m", "snakemake", "--cores", "2", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900
    )


def _without_paths():
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def planned(printed):
    """The rules and numbers of jobs of a dry run."""
    table = printed.rpartition("Job stats:")[2].partition("total")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.M)}


def use(user, source, prefix=None):
    line = f'prefix: "{prefix}"' if prefix else ""
    (user / "Snakefile").write_text(USER.format(source=source, prefix=line))


@pytest.mark.parametrize("prefix", [None, "answers"])
def test_a_module_from_a_clone_plans_the_whole_chain(prefix, sources, user):
    use(user, repr(str(sources.clone / "workflow/Snakefile")), prefix)
    done = snakemake(user, "-n")
    assert done.returncode == 0, done.stdout
    plan = planned(done.stdout)
    assert plan["qa_download"] == 2 and plan["qa_train"] == 1 and plan["qa_report"] == 1
    assert f" {prefix + '/' if prefix else ''}results/summary.csv" in done.stdout


def test_the_roots_snakefile_is_an_entry_too(sources, user):
    use(user, repr(str(sources.clone / "Snakefile")))
    done = snakemake(user, "-n")
    assert done.returncode == 0 and planned(done.stdout)["qa_report"] == 1, done.stdout


@pytest.mark.parametrize("entry", ["Snakefile", "workflow/Snakefile"])
def test_either_snakefile_of_a_clone_asks_for_all(entry, sources):
    done = snakemake(sources.clone, "-n", "-s", entry)
    assert done.returncode == 0 and planned(done.stdout)["report"] == 1, done.stdout


def test_a_module_from_github_runs_with_the_installed_library_below_its_prefix(sources, user):
    use(user, FROM_GITHUB, "answers")
    options = {"installed": sources.site, **sources.variables}
    done = snakemake(user, "--until", FIRST_STAGES[-1], **options)
    assert done.returncode == 0, done.stdout
    root = user / "answers"
    assert len(list(root.glob("results/windows/mills/*/*"))) == 2
    assert (root / "results/questions/mills/train.parquet").exists() and (root / "logs/prepare_questions").is_dir()
    assert not {"results", "resources", "checkpoints"} & {path.name for path in user.iterdir()}
    again = planned(snakemake(user, "-n", **options).stdout)
    assert not again.keys() & set(FIRST_STAGES) and again["qa_train"] == 1


def test_a_module_from_gitfile_runs_with_the_installed_library(sources, user):
    use(user, f'gitfile("{sources.clone}", path="workflow/Snakefile", tag="v1")')
    done = snakemake(user, "--until", FIRST_STAGES[1], *NO_CODE, installed=sources.site)
    assert done.returncode == 0, done.stdout
    assert (user / "results/questions/mills/train.parquet").exists()


def test_code_from_git_has_the_digest_of_the_same_code_in_a_clone(sources):
    fetched = sources.clone.parent / "fetched" / "score.py@v1"
    fetched.parent.mkdir()
    shutil.copy(sources.clone / "workflow/scripts/score.py", fetched)
    expected = code_digest(sources.clone / "workflow/scripts/score.py", sources.clone / "workflow/scripts/qa")
    assert code_digest(fetched, sources.site / "qa", name="score.py") == expected


def test_without_a_clone_the_library_must_be_installed_in_the_version_of_the_rules(sources, user, tmp_path):
    use(user, FROM_GITHUB)
    done = snakemake(user, "-n", python=_environment(tmp_path / "env"), **sources.variables)
    assert done.returncode == 1 and "without a clone, so the library" in done.stdout, done.stdout
    other = tmp_path / "site"
    shutil.copytree(sources.site, other)
    (other / "qa" / "__init__.py").write_text('__version__ = "9.8.7"\n')
    done = snakemake(user, "-n", installed=other, **sources.variables)
    assert done.returncode == 1, done.stdout
    assert re.search(r"^the rules of .* need version \S+ of the library, but 9\.8\.7 is in ", done.stdout, re.M)


def _environment(folder):
    """A virtual environment with the packages of the one of these tests, but without the library; its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    own = ("qa_workflow", "__editable__")  # where the library is installed
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(own) and path.suffix != ".pth":
            (site / path.name).symlink_to(path)
    return folder / "bin/python"


def test_two_clones_with_one_environment_never_mix(sources, given, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for clone in (first, second):
        shutil.copytree(sources.clone, clone)
    python = _environment(tmp_path / "env")
    subprocess.run([python, *PIP[1:], "--no-build-isolation", "--editable", first], check=True, env=_without_paths())
    for module in ("common/errors.py", "data/prepare_questions.py", "plan/rule_inputs.py"):
        (first / "workflow/scripts/qa" / module).write_text('raise SystemExit("the library of the first clone")\n')
    shutil.copytree(given, second / "given")
    (second / "tiny.yaml").write_text(yaml.safe_dump(SMALL))
    target = "results/questions/mills/train.parquet"
    done = snakemake(second, target, "--configfile", "tiny.yaml", python=python)
    assert done.returncode == 0 and (second / target).exists(), done.stdout


def test_a_deployment_by_snakedeploy_plans_the_chain_of_the_default_configuration(sources, tmp_path):
    shutil.copytree(sources.clone / "config", tmp_path / "config")
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow/Snakefile").write_text(DEPLOYED)
    done = snakemake(tmp_path, "-n", installed=sources.site, **sources.variables)
    assert done.returncode == 0 and planned(done.stdout)["report"] == 1, done.stdout


def test_rules_and_library_have_one_version():
    rules = (ROOT / "workflow/rules/common.smk").read_text()
    assert f'LIBRARY_VERSION = "{qa.__version__}"' in rules
