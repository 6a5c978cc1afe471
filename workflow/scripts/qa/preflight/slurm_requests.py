"""Would SLURM take these jobs? It is asked itself, by `sbatch --test-only`, before the first one is queued.

That question passes the cluster's job_submit plugin, its accounts, partitions, limits and nodes, and queues nothing.
`sinfo` and `sacctmgr` only explain a refusal: which accounts, partitions and GPU types there are.
"""

import getpass
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from qa.common.errors import some
from qa.jobs.slurm import ask
from qa.preflight.findings import Finding, at_once, problem, right, warning

PATIENCE = 8.0  # seconds that one question may take
CLIENT = ("sbatch", "squeue", "scancel", "sinfo")
AWAY = ("down", "drain", "fail", "maint", "reboot", "unk")
SHAPES = ("Requested node configuration is not available", "More processors requested", "Memory specification")
LATER = ("Required partition not available", "Required node not available", "Requested nodes are busy")
SILENT = f"no answer within {PATIENCE:g} s, so account, GPU and limits are not checked"
UNANSWERED = ("Unable to contact", "Socket timed out", "Connection refused", "Zero Bytes were transmitted")


@dataclass(frozen=True)
class Request:
    """What jobs ask of SLURM: the rules they are of, and the options that sbatch would get for them."""

    rules: tuple[str, ...]
    options: tuple[str, ...]

    @property
    def account(self) -> str | None:
        """The account named by the options or the environment, None where the cluster chooses."""
        return self._value("A", "account") or os.environ.get("SBATCH_ACCOUNT") or None

    @property
    def partitions(self) -> list[str]:
        """The partitions named by the options or the environment."""
        named = self._value("p", "partition") or os.environ.get("SBATCH_PARTITION") or ""
        return [name for name in named.split(",") if name]

    @property
    def gpu(self) -> str | None:
        """The GPU type asked for, such as `a100` or `a100_2g.10gb`; None for any, or for no GPU."""
        for option in ("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket", "gres"):
            value = self._value("G" if option == "gpus" else "", option) or ""
            parts = value.removeprefix("gpu:").split(",")[0].split(":")
            if value and (option != "gres" or value.startswith("gpu:")) and not parts[0].isdigit():
                return parts[0]
        return None

    def _value(self, short: str, long: str) -> str | None:
        for number, option in enumerate(self.options):
            if option.startswith(f"--{long}="):
                return option.partition("=")[2]
            if option == f"--{long}" or (short and option == f"-{short}"):
                return next(iter(self.options[number + 1 :]), None)
        return None

    def __str__(self) -> str:
        return shlex.join(self.options)


@dataclass(frozen=True)
class Nodes:
    """Nodes of a partition that are alike, as `sinfo` tells: memory in MB, `gres` such as `gpu:a100:4(S:0-1)`."""

    partition: str
    default: bool
    longest: str
    cpus: str
    memory: str
    gres: str
    away: bool

    @property
    def gpus(self) -> set[str]:
        """Types of their GPUs, MIG slices among them."""
        return {kind for kind in re.findall(r"gpu:([^:,()]+)", self.gres) if not kind.isdigit()}

    def __str__(self) -> str:
        gres = "no GPU" if self.gres == "(null)" else re.sub(r"\([^)]*\)", "", self.gres)
        return f"{self.cpus} CPUs, {self.memory} MB, {gres}"


def missing_commands(more: Iterable[str] = ()) -> list[str]:
    """SLURM's commands that are not on PATH."""
    return [name for name in (*CLIENT, *more) if not shutil.which(name)]


def check_requests(requests: list[Request], commands: Iterable[str] = ()) -> Iterator[Finding]:
    """Ask SLURM whether it would take each request; `commands` are needed beside those that submit and follow jobs."""
    if absent := missing_commands(commands):
        yield problem(
            f"SLURM: {some(absent)} not found on PATH: run this on a login node of the cluster,"
            " or use profiles/local on a machine without SLURM"
        )
        return
    began = time.monotonic()
    nodes, accounts = (
        None if isinstance(found, Exception) else found for found in at_once([known_nodes, known_accounts], PATIENCE)
    )
    if nodes is None and time.monotonic() - began > PATIENCE - 1:
        yield warning(f"SLURM: {SILENT}")
        return
    requests = [_with_default_partition(request, nodes or []) for request in requests]
    answers = at_once([lambda r=r: said_by_sbatch(r) for r in requests], PATIENCE + 1)
    refused: dict[Finding, list[str]] = {}
    for request, answer in zip(requests, answers, strict=True):
        if answer == "":
            yield right(f"SLURM takes the jobs of {some(request.rules)}: {_shown_account(request)}, {request}")
        else:
            text = None if isinstance(answer, Exception) else answer
            refused.setdefault(explained(request, text, nodes, accounts), []).extend(request.rules)
    for finding, rules in refused.items():
        yield replace(finding, text=f"SLURM, jobs of {some(dict.fromkeys(rules))}: {finding.text}")


def said_by_sbatch(request: Request) -> str | None:
    """Why SLURM refuses a request, in its words; empty where it takes it, None where it does not answer in time."""
    command = ["sbatch", "--test-only", *request.options, "--wrap=true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode == 0:
        return ""
    lines = [re.sub(r"^(sbatch: )?((error|fatal): )?", "", line) for line in done.stderr.strip().splitlines()]
    words = [
        line.removeprefix("allocation failure: ") for line in lines if line != "allocation failure: Unspecified error"
    ]
    return "; ".join(words) or f"sbatch ends with code {done.returncode}"


def known_nodes() -> list[Nodes] | None:
    """The cluster's nodes by partition and kind, None where it does not answer."""
    shape = "%P|%l|%c|%m|%G|%T"
    told = ask("sinfo", "--noheader", "--exact", f"--format={shape}", patience=PATIENCE)
    if told is None:
        return None
    found = []
    for line in told.splitlines():
        if len(fields := [field.strip() for field in line.split("|")]) == 6:
            partition, longest, cpus, memory, gres, state = fields
            away = state.lower().startswith(AWAY) or state.endswith("*")
            found.append(Nodes(partition.rstrip("*"), partition.endswith("*"), longest, cpus, memory, gres, away))
    return found


def known_accounts() -> list[str] | None:
    """This user's accounts, None where the cluster has no accounting or does not tell."""
    user = getpass.getuser()
    question = ("sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={user}", "format=account")
    told = ask(*question, patience=PATIENCE)
    return None if told is None else sorted({line.strip() for line in told.splitlines() if line.strip()})


def explained(request: Request, said: str | None, nodes: list[Nodes] | None, accounts: list[str] | None) -> Finding:
    """What SLURM's refusal of a request means and what to do; a warning where it may take the jobs all the same."""
    if said is None or any(words in said for words in UNANSWERED):
        return warning(SILENT)
    if any(words in said for words in LATER):
        return warning(f"{said}: they would wait until an administrator changes that")
    if "account" in said.lower() and "accounting" not in said.lower():
        return problem(_about_account(request, said, accounts))
    nodes = nodes or []
    of_partition = [n for n in nodes if not request.partitions or n.partition in request.partitions]
    if "partition" in said and not of_partition:
        known = some(dict.fromkeys(n.partition for n in nodes), 20) or "none that sinfo shows"
        return problem(f"no partition {','.join(request.partitions)}; there are {known}: correct slurm_partition")
    if any(words in said for words in SHAPES) or "gres" in said:
        return _about_nodes(request, said, nodes, of_partition)
    if "time limit" in said:
        limits = some(dict.fromkeys(f"{n.partition} allows {n.longest}" for n in of_partition))
        return problem(f"{said} ({limits or 'no limit known'}): correct runtime, asked for is {request}")
    return problem(f"{said}: asked for is {request}; correct the profile, or ask the cluster's administrators")


def _about_account(request: Request, said: str, accounts: list[str] | None) -> str:
    if accounts is None:
        yours, advice = "the cluster does not tell which are yours", "export SBATCH_ACCOUNT=NAME"
    elif not accounts:
        yours, advice = "you have none here", "ask the cluster's administrators for one"
    else:
        # the Alliance's clusters have pairs of these, and are asked for what comes before
        pairs = [n.removesuffix("_gpu") for n in accounts if n.endswith("_gpu") and f"{n[:-4]}_cpu" in accounts]
        names = pairs or accounts
        yours = f"yours are {some(accounts, 20)}"
        advice = f"export SBATCH_ACCOUNT={names[0] if len(names) == 1 else 'NAME, one of ' + some(names, 20)}"
    if request.account is None:
        return f"no account is named ({said}); {yours}: {advice}"
    if accounts and {request.account, f"{request.account}_gpu", f"{request.account}_cpu"} & set(accounts):
        return f"account {request.account} may not be used for this ({said}); {yours}; asked for is {request}"
    return f"account {request.account} is refused ({said}); {yours}: {advice}"


def _about_nodes(request: Request, said: str, nodes: list[Nodes], of_partition: list[Nodes]) -> Finding:
    where = f"partition {','.join(request.partitions)}" if request.partitions else "the cluster"
    types = {kind for n in nodes for kind in n.gpus}
    fitting = [n for n in of_partition if request.gpu in n.gpus] if request.gpu else of_partition
    if request.gpu and types and request.gpu not in types:
        known = some(sorted(types), 20)
        return problem(f"no GPU type {request.gpu} here; there are {known}: correct gpu_model in the profile")
    if request.gpu and types and not fitting:
        homes = dict.fromkeys(n.partition for n in nodes if request.gpu in n.gpus)
        return problem(f"{where} has no {request.gpu}, which {some(homes)} has: correct slurm_partition in the profile")
    if fitting and all(n.away for n in fitting):
        return warning(f"all nodes for them in {where} are down, drained or in maintenance: they would wait")
    offers = "; ".join(dict.fromkeys(map(str, fitting))) or "not known"
    return problem(f"{said}: no node of {where} has all of {request} (nodes: {offers}): correct the profile")


def _with_default_partition(request: Request, nodes: list[Nodes]) -> Request:
    """The executor names sinfo's default partition where the profile names none."""
    default = next((n.partition for n in nodes if n.default), None)
    if request.partitions or default is None:
        return request
    return replace(request, options=("-p", default, *request.options))


def _shown_account(request: Request) -> str:
    return f"account {request.account}" if request.account else "no account named"
