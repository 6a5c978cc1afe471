"""The command `qa`: ask a model, score predictions, check a configuration, and look at a run.

Each command's module is imported only when it is asked for. In a clone of the repository, `qa` runs the library of that
clone, as its rules do, whichever clone was installed into the environment.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from textwrap import indent

import qa
from qa.common import installation
from qa.common.errors import InputError

Arguments = Sequence[str]
OWN_LIBRARY = "import sys; sys.path.insert(0, sys.argv.pop(1)); from qa.cli import main; sys.exit(main())"


def _main_of(module: str) -> Callable[[Arguments], int]:
    """A command that is the `main` of a module."""
    return lambda arguments: import_module(module).main(arguments)


def preflight(arguments: Arguments) -> int:
    """Run the checks of the workflow in this folder through Snakemake, which queues nothing; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="qa preflight",
        description="Say what would stop a run. Nothing is queued.",
        epilog="`qa preflight my.yaml` is short for --configfile my.yaml. All other options go to Snakemake.",
    )
    parser.add_argument("--profile", default="profiles/slurm", metavar="DIR", help="default: profiles/slurm")
    options, others = parser.parse_known_args(arguments)
    if others and not others[0].startswith("-"):
        others.insert(0, "--configfile")
    if not any(Path(file).is_file() for file in ("Snakefile", "workflow/Snakefile")):
        raise InputError("no Snakefile in this folder: call `qa preflight` where you call snakemake")
    quiet = ("--quiet", "host", "progress")  # `all` would hide the problems too
    command = [sys.executable, "-m", "snakemake", "--profile", options.profile, "--nolock", *quiet, *others]
    return subprocess.run(command, env={**os.environ, "QA_PREFLIGHT": "only"}).returncode


def config(arguments: Arguments) -> int:
    """Check configuration files as Snakemake would merge them, and print what their runs resolve to."""
    parser = argparse.ArgumentParser(
        prog="qa config", description="Check a configuration and print, as YAML, what its runs resolve to."
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="later files win over earlier ones, as for Snakemake")
    parser.add_argument("--run", metavar="NAME", help="print this run only")
    options = parser.parse_args(arguments)
    from qa.config import settings

    if missing := [file for file in options.files if not Path(file).is_file()]:
        raise InputError(f"{missing[0]}: no such file")
    configuration = settings.check(options.files)
    runs = configuration.all_runs
    if options.run is not None and options.run not in runs:
        raise InputError(f"no run `{options.run}` in the configuration; there are {', '.join(runs)}")
    print("runs:")
    for name in runs if options.run is None else [options.run]:
        print(indent(f"{name}:\n{indent(settings.as_yaml(runs[name].model_dump()), '  ')}", "  "), end="")
    return 0


COMMANDS: dict[str, tuple[Callable[[Arguments], int], str]] = {
    "ask": (_main_of("qa.ask"), "ask a fine-tuned model questions about a text"),
    "serve": (_main_of("qa.serve.server"), "open a page to ask fine-tuned models in a browser"),
    "score": (_main_of("qa.evaluation.score_files"), "score a predictions file as the official SQuAD 2.0 script does"),
    "config": (config, "check a configuration and print what its runs resolve to"),
    "preflight": (preflight, "say what would stop a run; queue nothing"),
    "status": (_main_of("qa.jobs.status"), "say what runs, waits, failed and is done"),
    "usage": (_main_of("qa.jobs.resource_usage"), "compare the time and memory of jobs with their requests"),
    "table": (_main_of("qa.paper.table"), "write results for a paper: tables, methods, references, figures"),
    "verify": (_main_of("qa.common.checksums"), "say whether results and downloads are as they were written"),
}
OF_A_RUN = ("config", "preflight", "status", "table", "usage", "verify")  # useless without the workflow's environment


def main(arguments: Arguments | None = None) -> int:
    """Run a command; return its exit code: 1 for a user's mistake, in one line, and 2 for bad usage."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _use_the_library_of_this_folder(arguments)
    parser = argparse.ArgumentParser(
        prog="qa",
        description="Extractive question answering: look at runs, check configurations, ask and score models.",
        epilog="`qa COMMAND --help` says more about a command.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and the clone that runs, and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (_, summary) in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)
    options = parser.parse_args(arguments[:1])
    if options.version:
        print(version())
        return 0
    if (name := options.command) is None:
        parser.error("a COMMAND is needed")
    try:
        if name in OF_A_RUN and find_spec("snakemake") is None:
            raise ModuleNotFoundError(name="snakemake")
        code = COMMANDS[name][0](arguments[1:])
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # its reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
    except ModuleNotFoundError as error:
        if (error.name or "qa").partition(".")[0] == "qa":
            raise
        print(
            f"error: {sys.executable} has no module `{error.name}`: activate the environment of the workflow, or make "
            "one with `make setup`",
            file=sys.stderr,
        )
    return 1


def version() -> str:
    """Version, and the clone or the installed copy that runs, with its commit where pip recorded one."""
    if clone := installation.clone():
        return f"qa {qa.__version__}, the library of the clone {clone}"
    origin = f" from commit {commit}" if (commit := installation.installed_commit()) else ""
    return f"qa {qa.__version__}, installed in {installation.PACKAGE.parent}{origin}"


def _use_the_library_of_this_folder(arguments: Arguments) -> None:
    """Go on with the library of the clone that this process is in, where it is another one."""
    here = Path.cwd().joinpath(*installation.PLACE)
    if (here / "cli.py").is_file() and here.resolve() != installation.PACKAGE:
        os.execv(sys.executable, [sys.executable, "-P", "-c", OWN_LIBRARY, str(here.parent), *arguments])
