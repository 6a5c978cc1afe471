"""What the profiles in use request for each job, merged value by value.

Snakemake takes `set-resources` whole from one place: the command line, else `profiles/default`, else the profile of
`--profile`. With that alone, `--set-resources train:runtime=2h` would lose the GPU model of the profile. So the values
of the weaker places are added here, and what a user writes as SLURM does (03:00:00, 24G) is understood. `resources`,
what all running jobs share, is merged too.
"""

import ast
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import humanfriendly
import yaml

from qa.common.errors import InputError
from qa.common.text import did_you_mean
from qa.jobs import slurm_accounting

OWN = Path("profiles/default/config.yaml")  # the user's, which Snakemake reads by itself
KEYS = ("default-resources", "set-threads", "set-resources", "resources")
RESOURCES = (
    *("runtime", "mem", "mem_mb", "mem_mb_per_cpu", "disk", "disk_mb", "nodes", "tasks", "tasks_per_node", "mpi"),
    *("cpus_per_task", "gpu", "gpu_model", "gres", "tasks_per_gpu", "cpus_per_gpu", "constraint", "qos", "cluster"),
    *("slurm_account", "slurm_partition", "slurm_extra", "tmpdir"),
)
WORDS = ("gpu_model", "constraint", "qos", "cluster", "slurm_account", "slurm_partition")  # of RESOURCES, never numbers
ELSEWHERE = {  # other names of resources, of keys and of the executor's options; as a resource nobody reads them
    **{"partition": "slurm_partition", "account": "slurm_account", "slurm_qos": "qos", "memory": "mem_mb"},
    **{"time": "runtime", "walltime": "runtime", "threads": "set-threads", "cpus": "set-threads"},
    **{"slurm_reservation": "slurm-reservation", "slurm_requeue": "slurm-requeue"},
}
VARIABLES = ("attempt", "threads")  # of expressions
TIME = re.compile(r"\d+(\.\d+)? ?[smhdw]")
SIZE = re.compile(r"\d+(\.\d+)? ?[KMGT]i?B?")


@dataclass(frozen=True)
class Request:
    """A value of a profile: as Snakemake's command line takes it, and where it stands."""

    value: str
    file: Path
    place: str  # file and line


def profiles_in_use(words: list[str], environment: dict[str, str], folder: Path = Path()) -> list[Path]:
    """The files of the profiles that a call of Snakemake reads, the strongest last. `words` are its arguments.

    What is not here is looked for in `folder`: with `--directory`, Snakemake has left the one where it was called.
    """
    parts = [part for word in words for part in word.split("=", 1)]
    named = dict(pair for pair in itertools.pairwise(parts) if pair[0] in ("--profile", "--workflow-profile"))
    names = (named.get("--profile", environment.get("SNAKEMAKE_PROFILE", "")), named.get("--workflow-profile", ""))
    places = [[Path(name, "config.yaml"), Path(name)] for name in names if name] + ([] if names[1] else [[OWN]])
    found = ([here / place for here in (Path(), folder) for place in each] for each in places)
    return [file for each in found if (file := next(filter(Path.is_file, each), None))]


def read(files: Iterable[Path]) -> dict[str, dict[str, Request]]:
    """The requests of all files by key and name: `set-resources` by `RULE:RESOURCE`, the others by one name.

    A later file wins. Raises InputError for a misspelled resource, for a time or size that nobody understands, and for
    a `site.yaml` beside a profile.
    """
    merged: dict[str, dict[str, Request]] = {key: {} for key in KEYS}
    for file in files:
        if (old := file.with_name("site.yaml")).exists():  # of earlier versions
            raise InputError(f"{old} is no longer read: move its values to {OWN} (see {old.with_name('README.md')})")
        root = yaml.compose(file.read_text(encoding="utf-8"))
        for key, node in _pairs(root):
            for name, scalar in _entries(node) if key in KEYS else ():
                place = f"{file}, line {scalar.start_mark.line + 1}"
                rule, _, resource = name.rpartition(":")
                if key == "set-threads":
                    resource, value = name, scalar.value
                else:
                    resource, value = _understood(resource, scalar.value, place)
                name = f"{rule}:{resource}" if rule else resource
                merged[key][name] = Request(value, file, place)
    return merged


def check_rules(requests: dict[str, dict[str, Request]], rules: Iterable[str]) -> None:
    """Raise InputError for a request whose rule does not exist."""
    known = list(rules)
    named = [*requests["set-threads"].items(), *requests["set-resources"].items()]
    for rule, request in ((name.partition(":")[0], request) for name, request in named):
        if rule not in known:
            raise InputError(f"{request.place}: there is no rule `{rule}`{did_you_mean(rule, known)}")


def _pairs(node: yaml.Node | None) -> Iterator[tuple[str, yaml.Node]]:
    return ((key.value, value) for key, value in (node.value if isinstance(node, yaml.MappingNode) else ()))


def _entries(node: yaml.Node) -> Iterator[tuple[str, yaml.ScalarNode]]:
    """Names and values of a mapping, `RULE:RESOURCE` where it has two levels, or of a list such as `[gpu=2]`."""
    for item in node.value if isinstance(node, yaml.SequenceNode) else ():
        name, _, value = item.value.partition("=")
        yield name, yaml.ScalarNode(item.tag, value, item.start_mark)
    for name, value in _pairs(node):
        if isinstance(value, yaml.ScalarNode):
            yield name, value
        else:
            yield from ((f"{name}:{inner}", scalar) for inner, scalar in _entries(value))


def _understood(name: str, text: str, place: str) -> tuple[str, str]:
    """A resource and its value as Snakemake's command line takes them."""
    near = f"; did you mean `{ELSEWHERE[name]}`?" if name in ELSEWHERE else did_you_mean(name, RESOURCES, 0.8)
    if name not in RESOURCES and near:
        raise InputError(f"{place}: there is no resource `{name}`{near}")
    if name == "runtime":
        seconds = slurm_accounting.seconds(text)
        if text.isdigit():  # some versions of Snakemake read a bare number as seconds
            return name, f"{text}m"
        if seconds:
            return name, f"{-(-seconds // 60)}m"
        if not TIME.fullmatch(text) and not _is_expression(text):
            raise InputError(f"{place}: `runtime: {text}` is no time; write for example 90m, 6h, 2d or 03:00:00")
    elif name in ("mem", "mem_mb"):
        if text.isdigit():  # MB, as for sbatch; Snakemake takes no number as `mem`
            return "mem_mb", text
        if SIZE.fullmatch(text):
            return "mem_mb", str(round(humanfriendly.parse_size(text) / 10**6))
        if not _is_expression(text):
            raise InputError(f"{place}: `{name}: {text}` is no amount of memory; write for example `{name}: 24G`")
    elif text == "" or (text.isidentifier() and text not in VARIABLES):
        return name, repr(text)  # or `all` and `max` would be functions of Python
    elif name in WORDS and text[0].isdigit():
        return name, repr(text)  # or `3090` and `2026-17` would be numbers, which the executor takes for no name
    return name, text


def _is_expression(text: str) -> bool:
    """Whether Snakemake can compute it, as `threads * 6000`. It takes another word, as `UNLIMITED`, for a text."""
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    return text in VARIABLES or not text.isidentifier()
