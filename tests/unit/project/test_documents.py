"""The documents keep their word: commands run, links lead somewhere, what is named exists, messages are still printed.

A command is run, or tried without its effect: `make -n`, dry runs of Snakemake, `--help` with every option looked up.
One that needs more has a comment before its block, `<!-- needs: cluster -->`, or is run by a test that ELSEWHERE names.
"""

import ast
import importlib.util
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml
from snakemake.common.configfile import load_configfile

import documents
from chain import PARTS
from documents import ROOT
from dry_runs import dry_run
from qa.config import draws, reference
from qa.jobs import advice

# What stands for the reader's own in commands, and what is taken for it here.
STANDS_FOR = {"--profile …": "--profile profiles/local", "TARGETS": "scores", "dev-v2.0.json": "DATA.json"}
ELSEWHERE = {  # part of a command -> the test that runs it
    "seed-N-latest": ("workflow/test_surviving.py", "test_the_latest_checkpoint_of_a_training_can_be_evaluated"),
    "--unlock": ("slurm/test_slurm_survival.py", "--unlock"),
}
SITE = "profiles/default/config.yaml"
NEED_SLURM = pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_slurm") is None, reason="the SLURM executor is not installed"
)
INLINE = re.compile(r"(make|snakemake|qa|python|envs/setup_alliance\.sh|\.venv/bin/\w+) .+")


def commands() -> list[str]:
    """Every command that needs nothing special, those that are tried alike only once."""
    found: dict[str, str] = {}
    for document in documents.documents():
        blocks = [block for block in documents.blocks(document) if block.is_commands and not block.needs]
        within = [code for code in documents.code_within_lines(document) if INLINE.fullmatch(code)]
        for command in [*itertools.chain.from_iterable(block.commands for block in blocks), *within]:
            found.setdefault(re.sub(r" -n\b|\.venv/bin/", "", command), command)
    return list(found.values())


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """The workflow in a folder of its own, with what its readers have made by then."""
    folder = tmp_path_factory.mktemp("documents")
    for part in [*PARTS, "resources/demo", "resources/harbour"]:
        source, target = ROOT / part, folder / part
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "default"))
        else:
            shutil.copy(source, target)
    shutil.copy(ROOT / "config/config.yaml", folder / "my.yaml")
    (folder / "data").mkdir()
    for name in ("train", "validation"):  # of config/trial.yaml; a dry run does not open them
        (folder / "data" / f"{name}.json.gz").touch()
    question = {"id": "1", "question": "What?", "answers": [{"text": "A mill"}]}
    squad = {"data": [{"title": "", "paragraphs": [{"context": "A mill.", "qas": [question]}]}]}
    (folder / "DATA.json").write_text(json.dumps(squad))
    (folder / "PREDICTIONS.json").write_text(json.dumps({"1": "mill"}))
    return folder


def run(words: list[str], folder: Path, status: int = 0) -> str:
    """Run a command with this interpreter's programs; what it printed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(folder / "workflow/scripts")}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == status, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@cache
def help_of(*words: str) -> str:
    return run([*words, "--help"], ROOT)


def with_known_options(words: list[str], program: list[str]) -> None:
    """Check that a program's own help has every option of a command."""
    text = help_of(*program)
    for option in {word for word in words if word.startswith("--")} - {"--help"}:
        assert re.search(rf"{option}\b", text), f"{shlex.join(program)} has no {option}"


def run_snakemake(words: list[str], folder: Path) -> None:
    only_shown = any(word in words for word in ("-n", "--rulegraph", "--dag", "--lint"))
    code, printed = dry_run(folder, *(() if only_shown else ("-n",)), *words)
    assert code == 0 and ("dry-run" in printed or "-->" in printed), f"{shlex.join(words)}\n{printed}"


def run_module(words: list[str], folder: Path) -> None:
    module, arguments = words[0], words[1:]
    if module == "pytest":
        assert all((ROOT / word).exists() for word in arguments if "/" in word)
        run([sys.executable, "-m", "pytest", *(word for word in arguments if "/" not in word), "--version"], ROOT)
    else:
        assert module == "qa.metrics", f"nothing here knows how to run {module}"
        run_qa(["score", *arguments], folder)


def run_qa(words: list[str], folder: Path) -> None:
    """Run a subcommand that needs no results; look up the options of one that does."""
    program, (name, *arguments) = [sys.executable, "-m", "qa"], words
    if name == "score" and "--help" not in arguments:
        assert '"exact": 100.0' in run([*program, "score", "DATA.json", "PREDICTIONS.json"], folder)
    elif name == "config" and arguments:
        assert "runs" in run([*program, *[word.replace("FILE", "my.yaml") for word in words]], folder)
    elif name == "usage":
        assert "run this in the folder where the workflow ran" in run([*program, *words], folder, status=1)
    elif name.startswith("-"):
        run([*program, *words], folder)
    else:
        with_known_options(arguments, [*program, name])


def run_like_a_reader(command: str, folder: Path) -> None:
    """Run a command, or what shows without its effect that it would run; fails for a command of an unknown kind."""
    if "<<" in command:
        run(["bash", "-euc", command], folder)
        assert yaml.safe_load((folder / SITE).read_text())  # that the jobs get it is what test_profiles.py shows
        shutil.rmtree((folder / SITE).parent)  # an empty folder would be an error of Snakemake
        return
    for text, meaning in STANDS_FOR.items():
        command = command.replace(text, meaning)
    words = documents.words_of(command)
    program = Path(words[0]).name if words[0].startswith(".venv/bin/") else words[0]
    if program == "make":
        run(["make", "-n", *words[1:]], ROOT)
    elif program == "snakemake":
        run_snakemake(words[1:], folder)
    elif program == "python" and words[1] == "-m":
        run_module(words[2:], folder)
    elif program == "qa":
        run_qa(words[1:], folder)
    elif program == "envs/setup_alliance.sh":
        with_known_options(words[1:], ["envs/setup_alliance.sh"])
    elif words == [".", ".venv/bin/activate"]:
        assert "-m venv .venv\n" in (ROOT / "Makefile").read_text()
    elif program == "xdg-open":
        assert f'"{words[1]}"' in "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    elif program in ("cp", "echo"):
        run(["bash", "-euc", command], folder)
    else:
        pytest.fail(
            f"nothing here knows how to run `{command}`; mark its block `<!-- needs: ... -->`, or teach it here"
        )


@pytest.mark.parametrize(
    "command", [pytest.param(c, marks=[NEED_SLURM] if "profiles/slurm" in c else []) for c in commands()]
)
def test_a_command_of_the_documents_runs(command, folder):
    for part, (file, what) in ELSEWHERE.items():
        if part in command:
            assert what in (ROOT / "tests" / file).read_text(), f"{file} has no {what} any more"
            return
    run_like_a_reader(command, folder)


@pytest.mark.parametrize("document", documents.documents())
def test_no_block_begins_with_a_program_that_this_test_does_not_know(document):
    for block in documents.blocks(document):
        program = documents.program_of(block.text)
        known = block.language not in ("", *documents.SHELLS) or program in documents.PROGRAMS
        assert known or not shutil.which(program), f"{block}: {program}"
        assert block.needs is None or block.is_commands, f"{block}: needs {block.needs}, but holds no commands"


@pytest.mark.parametrize("document", documents.documents())
def test_links_lead_to_files_and_headings_that_are_there(document):
    for link in documents.links(document):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / document).parent / file if file else ROOT / document
        assert target.exists(), link
        if anchor:
            assert anchor in documents.anchors(target.resolve().relative_to(ROOT).as_posix()), link


ENDINGS = (".csv", ".json", ".yaml", ".smk", ".py")
FOLDERS_NAMED = ("workflow", "config", "profiles", "envs", "tests", "benchmarks", "docs", ".ci", "qa")
NOT_THERE = {"profiles/default/config.yaml", "profiles/slurm/site.yaml"}  # the user's own, now and before


def paths_named(document: str) -> Iterator[str]:
    for code in documents.code_within_lines(document):
        code = code.removeprefix("../")
        if re.fullmatch(r"\.?\w[\w./-]*", code) and code.split("/")[0] in FOLDERS_NAMED and "/" in code:
            yield f"workflow/scripts/{code}" if code.startswith("qa/") else code


def made_in(document: str) -> set[str]:
    """Files that a document itself gives the text of."""
    return {code for code in examples()} if document == "docs/extending.md" else set()


@pytest.mark.parametrize("document", documents.documents())
def test_files_and_modules_that_are_named_are_there(document):
    for path in set(paths_named(document)) - NOT_THERE - made_in(document):
        assert (ROOT / path).exists(), path
    for code in documents.code_within_lines(document):
        if re.fullmatch(r"qa(\.[a-z_]+)+", code) and not code.endswith(ENDINGS):
            place = ROOT / "workflow/scripts" / code.replace(".", "/")
            assert place.is_dir() or place.with_suffix(".py").exists(), code


@pytest.mark.parametrize("document", documents.documents())
def test_result_files_that_are_named_are_made_by_a_rule(document):
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    for code in documents.code_within_lines(document):
        if re.fullmatch(r"results/[\w{}./…-]+\.(csv|json|parquet|html)", code):
            place = (ROOT / document).parent / code  # benchmarks have results of their own
            assert Path(code).name in rules or "{" in Path(code).name or place.exists(), code


KEYS = {key.path for key in reference.every_key()}
PARTS_OF_RUNS = ("windows", "training", "prediction", "checkpoints", "distillation", "publish")
GROUPS = ("models", "datasets", "decodings", "defaults", "runs", *PARTS_OF_RUNS)
OWN_NAMES = ("models", "datasets", "decodings", "runs")  # below these the user's names stand
FREE = ("overrides", "splits", "answers")  # below these all is the user's


def known_key(key: str) -> bool:
    """Whether the schema has a key; a run has those of `defaults` too, and documents leave `defaults.` out."""
    key = key.replace("NAME", "*")
    short = key.removeprefix("runs.*.")
    return bool({key, f"defaults.{short}", f"runs.*.{short}"} & KEYS) or any(
        known.startswith(f"{key}.") for known in KEYS
    )


@pytest.mark.parametrize("document", documents.documents())
def test_keys_of_the_configuration_that_are_named_exist(document):
    if document == "CHANGELOG.md":  # which names keys that are gone
        return
    for code in documents.code_within_lines(document):
        key = re.match(r"([a-z_]+(?:\.(?:\*|NAME|[a-z_]+))+)(?:: |$)", code)
        if key and key[1].split(".")[0] in GROUPS and not key[1].endswith(ENDINGS):
            assert known_key(key[1]), code


def keys_in(value: object, path: str = "") -> Iterator[str]:
    if not isinstance(value, dict) or path.split(".")[-1] in FREE or value.keys() & {*draws.DISTRIBUTIONS}:
        return
    for name, below in value.items():
        here = f"{path}.*" if path in OWN_NAMES else f"{path}.{name}" if path else name
        if path not in OWN_NAMES:
            yield here
        yield from keys_in(below, here)


@pytest.mark.parametrize("document", documents.documents())
def test_examples_of_configurations_have_no_other_keys_than_the_schema(document):
    for block in documents.blocks(document):
        if block.language == "yaml" or re.match(rf"({'|'.join(OWN_NAMES)}|compare_to|compare|defaults):", block.text):
            text = re.sub(r"^ *….*$", "", block.text, flags=re.M)
            unknown = [key for key in keys_in(yaml.safe_load(text)) if not known_key(key)]
            assert not unknown, f"{block}: {unknown}"


@pytest.mark.parametrize("document", documents.documents())
def test_examples_in_python_are_python_and_import_what_there_is(document):
    for block in documents.blocks(document):
        if block.language == "python":
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("qa."):
                    given = examples().get(f"workflow/scripts/{node.module.replace('.', '/')}.py", "")
                    source = ROOT / "workflow/scripts" / f"{node.module.replace('.', '/')}.py"
                    text = given or source.read_text(encoding="utf-8")
                    assert all(re.search(rf"\b{alias.name}\b", text) for alias in node.names), str(block)


def text_of(node: ast.AST) -> str | None:
    """A text of the code, `…` where something is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    return None


@cache
def texts_in(folder: Path) -> list[str]:
    files = [folder] if folder.is_file() else sorted(folder.rglob("*.py"))
    trees = (ast.walk(ast.parse(path.read_text(encoding="utf-8"))) for path in files)
    texts = (text_of(node) for node in itertools.chain.from_iterable(trees))
    return [" ".join(text.replace("`", "").split()) for text in texts if text]


def sources_of(section: str) -> list[str]:
    """The texts among which a section's messages must be."""
    if section == "Snakemake":
        home = Path(importlib.util.find_spec("snakemake").origin).parent
        texts = [*texts_in(home / "exceptions.py"), *texts_in(home / "common" / "__init__.py"), *own_texts()]
        with pytest.raises(FileNotFoundError) as missing:
            load_configfile("scores")  # as Snakemake does with every word after --configfile
        return [*texts, (ROOT / "Makefile").read_text(), str(missing.value)]
    if section == "SLURM":
        spec = importlib.util.find_spec("snakemake_executor_plugin_slurm")
        if spec is None:
            pytest.skip("the SLURM executor of Snakemake is not installed")
        # what SLURM 22.05 said is replayed there
        replayed = texts_in(ROOT / "tests/unit/preflight/test_slurm_requests.py")
        return [*texts_in(Path(spec.origin).parent), *replayed, *own_texts()]
    return own_texts()


def own_texts() -> list[str]:
    rules = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow/rules").glob("*.smk"))
    return [*texts_in(ROOT / "workflow"), rules.replace("`", "")]


def messages() -> dict[str, list[str]]:
    """The messages of troubleshooting.md by section: the first column of its tables."""
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.M)[1:]
    rows = {section.split("\n")[0]: re.findall(r"^\| `([^`]+)` \|", section, re.M) for section in sections}
    return {section: found for section, found in rows.items() if found}


@pytest.mark.parametrize("section", messages())
def test_every_message_that_troubleshooting_quotes_is_still_printed(section):
    texts = sources_of(section)
    for message in messages()[section]:
        pattern = re.compile(".*".join(map(re.escape, message.strip("… ").split("…"))))
        assert any(pattern.search(text) for text in texts), message


def test_all_that_is_said_beside_a_failed_job_is_in_troubleshooting():
    quoted = messages()["A job failed: what is said beside its name"]
    for sentence in {*advice.HELP.values(), *(text for _, text in advice.CAUSES), advice.MEMORY_HERE}:
        text = sentence.replace("`", "")
        assert any(all(part in text for part in message.split("…")) for message in quoted), sentence


@cache
def examples() -> dict[str, str]:
    """The files of the example stage in extending.md: each block whose path stands alone in the line before it."""
    text = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^`([\w/.]+)`\n\n```\w+\n(.*?)^```$", text, re.M | re.S))


def test_the_example_of_a_stage_works_as_it_stands(folder):
    for path, text in examples().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    shutil.copy(ROOT / "tests/helpers/tiny.py", folder)
    test = next(path for path in examples() if path.startswith("tests/"))
    run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test], folder)
    included = 'include: "rules/lengths.smk"'
    assert included in (ROOT / "docs/extending.md").read_text()
    snakefile, last = (folder / "workflow/Snakefile").read_text(), 'include: "rules/report.smk"'
    snakefile = snakefile.replace(last, f"{last}\n{included}", 1)
    snakefile = snakefile.replace("PACKAGES,", 'PACKAGES, every("lengths.csv"),', 1)
    (folder / "workflow/Snakefile.example").write_text(snakefile)
    words = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", "-s", "workflow/Snakefile.example"]
    demo = ["--configfile", "config/demo.yaml"]
    assert re.search(r"^lengths +3$", run([*words, "-n", *demo], folder), re.M)
    made = folder / "results/demo/seed-42/demo/validation/n_best"
    code = "import sys; from qa.data import prepare_questions as squad; squad.convert([sys.argv[1]], sys.argv[2])"
    records = "results/questions/demo/validation.parquet"
    run([sys.executable, "-c", code, "resources/demo/validation.json", records], folder)
    made.mkdir(parents=True)
    ids = re.findall(r'"id": "([^"]+)"', (folder / "resources/demo/validation.json").read_text())
    (made / "answers.json").write_text(json.dumps(dict.fromkeys(ids, "two words")))
    target = (made / "lengths.csv").relative_to(folder).as_posix()
    run([*words, target, "--allowed-rules", "lengths", *demo], folder)
    assert f"2,{len(ids)}," in (folder / target).read_text()


def test_the_hooks_before_a_commit_are_the_style_checks_of_make_lint():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    lint = run(["make", "-n", "lint"], ROOT)
    needed = (ROOT / "envs/requirements-dev.txt").read_text()
    for hook in hooks:
        program, *arguments = hook["entry"].split()
        assert hook["language"] == "system" and f"/{program}" in lint and re.search(rf"^{program}\b", needed, re.M)
        commands = [word for word in arguments if not word.startswith("-")]
        assert all(f"{program} {word}" in lint for word in commands), hook
