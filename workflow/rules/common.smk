"""Shared by all rules: the checked configuration, the files between the stages, and what each stage reads.

A params function that asks for `threads` is not compared by Snakemake when it decides what to rerun. `untracked` uses
that for what changes no result.
"""

import gc
import importlib.util
import os
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

gc.set_threshold(200_000, 20, 20)  # of thousands of jobs none is garbage: a tenth of the time of a large dry run

LIBRARY_VERSION = "0.1.0"  # of the library that these rules fit
SOURCE = workflow.current_basedir
SCRIPTS = Path(SOURCE).parent / "scripts" if isinstance(SOURCE, os.PathLike) else None  # rules from git have no folder
PATHS = workflow.modifier.path_modifier  # puts the `prefix:` of a module before paths
IN_MODULE = not workflow.modifier.is_main_snakefile()

if SCRIPTS:
    sys.path.insert(0, str(SCRIPTS))

found = importlib.util.find_spec("qa")
if found is None or found.origin is None:  # or a mere folder of that name
    raise WorkflowError(
        f"the rules come from {SOURCE}, without a clone, so the library {LIBRARY_VERSION} of the same repository must be "
        "installed: pip install --no-deps git+URL@TAG"
    )

from qa.plan import timestamps, rule_inputs
from qa.jobs import failures, interruption, resource_usage, slurm_profile
from qa.config import lineage, settings, stages, sweeps
from qa.plan.code_digest import code_digest
from qa.common import installation
from qa.common.errors import InputError


wildcard_constraints:
    kind="models|datasets",
    name="[^/]+",
    run="[^/]+",
    variant=r"seed-\d+(-latest)?|published|ensemble|external",
    dataset="[^/]+",
    split="[^/]+",
    windows_id="[^/]+",
    soft_targets_key="[^/]+",
    share=r"[\d.e-]+",
    decoding="[^/]+",


def checked(function, *arguments):
    """Call a function of the library; what the user can put right ends Snakemake in one message."""
    try:
        return function(*arguments)
    except InputError as error:
        raise WorkflowError(str(error)) from None


def script_file(name):
    """A file of scripts/ on this machine: in the clone, or fetched from git."""
    return SCRIPTS / name if SCRIPTS else Path(workflow.source_path(f"../scripts/{name}"))


def hook(name):
    """A module of scripts/hooks."""
    loader = SourceFileLoader(f"hooks.{name}", str(script_file(f"hooks/{name}.py")))  # fetched, it ends in .py@TAG
    loaded = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(loaded)
    return loaded


checked(installation.check, LIBRARY_VERSION, SOURCE, SCRIPTS)
interruption.pass_on_signals(".snakemake/scripts")
if workflow.is_main_process:
    terminal = hook("terminal").prepare(logger)
REQUESTS = checked(hook("profiles").merge, workflow) if workflow.is_main_process else {}  # before the first rule


def located(path):
    """A path of this workflow where it is: below the `prefix:` of the module, if there is one."""
    return PATHS.replace_prefix(path)


CONFIG = checked(settings.resolve, config, () if IN_MODULE else workflow.configfiles)
RUNS = CONFIG.runs
ROOT = located("") or "."  # the folder with results/, resources/, checkpoints/ and logs/
# Here, since Snakemake forgives an input function that fails where the output is there already.
OWN_FILES = checked(settings.own_files, CONFIG)


def known(kind, name, parts):
    """The part of the configuration that a wildcard names."""
    if name not in parts:
        raise WorkflowError(f"no {kind} `{name}` in the configuration; there are {', '.join(parts)}")
    return parts[name]


def run_of(wildcards):
    return known("run", wildcards.run, RUNS)


def dataset_of(wildcards):
    splits = {f"{name}/{split}": dataset for name, dataset in CONFIG.datasets.items() for split in dataset.splits}
    return known("split", f"{wildcards.dataset}/{wildcards.split}", splits)


def decoding_of(wildcards):
    return known("decoding", wildcards.decoding, CONFIG.decodings)


def code(stage):
    """Digest of a stage's adapter and of the library modules behind it, found once a job of the stage is planned."""
    script = script_file(f"{stage}.py")
    return lambda wildcards: code_digest(script, name=f"{stage}.py")


def untracked(function):
    """A params function whose value changes no result, so that its change reruns nothing."""
    return lambda wildcards, threads: function(wildcards)


def on_login(rule):
    """Whether a light rule runs beside Snakemake, as it does unless the profile gives it a walltime, as to jobs."""
    return "runtime" not in workflow.resource_settings.overwrite_resources.get(rule, {})


def own_files(kind, name):
    """The user's own files behind a model, a dataset or answers. When they change, what is made of them is made anew."""
    return [local(file) for file in OWN_FILES.get((kind, name), [])]


def needs(function, *names):
    """A rule's input: the files that a function of the library names, for what these wildcards stand for."""
    return unpack(lambda wildcards: checked(function, CONFIG, *(name.format(**wildcards) for name in names)))


def every_model():
    return [f"results/{run}/{variant}/model" for run, variant in lineage.trainings(CONFIG)]


def every(file):
    """A file of each run, variant, split and decoding that the configuration asks for."""
    return ["results/{}/{}/{}/{}/{}".format(*answered, file) for answered in lineage.scored(CONFIG)]


def shown(file, category):
    """A file of each set of answers, which Snakemake's own report shows with the caption of its name."""
    return report(
        str(Path("results/{run}/{variant}/{dataset}/{split}/{decoding}", file)),
        caption=f"../report/{Path(file).stem}.rst",
        category=category,
        subcategory="{run}",
        labels={"run": "{run}", "variant": "{variant}", "split": "{dataset}/{split}", "decoding": "{decoding}"},
    )
