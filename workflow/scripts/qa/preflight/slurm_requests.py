"""Ask SLURM with `sbatch --test-only`, before the first job is queued, whether it would accept the jobs.

The question passes the cluster's job_submit plugin, accounts, partitions, limits and nodes, and queues nothing.
`sinfo` and `sacctmgr` only serve to explain a refusal: they list accounts, partitions and GPU types.
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
from qa.preflight.findings import Finding, at_once, ok, problem, warning

PATIENCE = 8.0  # seconds that one question to SLURM may take
CLIENT = ("sbatch", "squeue", "scancel", "sinfo")
AWAY = ("down", "drain", "fail", "maint", "reboot", "unk")
SHAPES = ("Requested node configuration is not available", "More processors requested", "Memory specification")
LATER = ("Required partition not available", "Required node not available", "Requested nodes are busy")
NO_ANSWER = f"no answer within {PATIENCE:g} s, so account, GPU and limits are not checked"
FULL = r"\w+Submit\w+Limit"  # such as AssocMaxSubmitJobLimit, QOSMaxSubmitJobPerUserLimit
LONGEST_GAP = 180  # seconds between two looks of Snakemake at the queue
UNANSWERED = ("Unable to contact", "Socket timed out", "Connection refused", "Zero Bytes were transmitted")


@dataclass(frozen=True)
class JobRequest:
    """One request to SLURM: the rules whose jobs make it, the options that sbatch gets for them, and how many jobs."""

    rules: tuple[str, ...]
    options: tuple[str, ...]
    jobs: int = 1

    @property
    def account(self) -> str | None:
        """The account in the options or the environment, None if the cluster chooses it."""
        return self._value("A", "account") or os.environ.get("SBATCH_ACCOUNT") or None

    @property
    def partitions(self) -> list[str]:
        """The partitions in the options or the environment."""
        partitions = self._value("p", "partition") or os.environ.get("SBATCH_PARTITION") or ""
        return [name for name in partitions.split(",") if name]

    @property
    def gpu(self) -> str | None:
        """The requested GPU type, such as `a100` or `a100_2g.10gb`; None for any type, or for no GPU."""
        for option in ("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket", "gres"):
            value = self._value("G" if option == "gpus" else "", option) or ""
            parts = value.removeprefix("gpu:").split(",")[0].split(":")
            if value and (option != "gres" or value.startswith("gpu:")) and not parts[0].isdigit():
                return parts[0]
        return None

    @property
    def qos(self) -> str | None:
        """The QOS in the options or the environment, None if the cluster chooses it."""
        return self._value("q", "qos") or os.environ.get("SBATCH_QOS") or None

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
    """Equal nodes of a partition, as `sinfo` lists them: memory in MB, `gres` such as `gpu:a100:4(S:0-1)`."""

    partition: str
    default: bool
    longest: str
    cpus: str
    memory: str
    gres: str
    away: bool

    @property
    def gpus(self) -> set[str]:
        """Types of their GPUs, including MIG slices."""
        return {kind for kind in re.findall(r"gpu:([^:,()]+)", self.gres) if not kind.isdigit()}

    def __str__(self) -> str:
        gres = "no GPU" if self.gres == "(null)" else re.sub(r"\([^)]*\)", "", self.gres)
        return f"{self.cpus} CPUs, {self.memory} MB, {gres}"


@dataclass(frozen=True)
class Association:
    """An account of this user, with the number of jobs that it holds at once (None without limit) and its QOS."""

    account: str
    submit_limit: int | None
    qos: str

    def serves(self, request: JobRequest) -> bool:
        """Whether a request may use it; for the Alliance's accounts NAME_cpu and NAME_gpu users ask for NAME."""
        return request.account in (None, self.account, *(self.account.removesuffix(end) for end in ("_cpu", "_gpu")))


def check_requests(requests: list[JobRequest], commands: Iterable[str] = (), jobs: int = 1) -> Iterator[Finding]:
    """Ask SLURM whether it would accept each request, and how many jobs.

    `commands` are needed in addition to CLIENT; `jobs` is how many Snakemake keeps in the queue.
    """
    if absent := [name for name in (*CLIENT, *commands) if not shutil.which(name)]:
        yield problem(
            f"SLURM: {some(absent)} not found on PATH: run this on a login node of the cluster,"
            " or use profiles/local on a machine without SLURM"
        )
        return
    began = time.monotonic()
    questions = [known_nodes, known_associations, known_qos_limits, min_job_age]
    nodes, associations, qos_limits, age = (
        None if isinstance(found, Exception) else found for found in at_once(questions, PATIENCE)
    )
    accounts = None if associations is None else sorted({a.account for a in associations})
    if nodes is None and time.monotonic() - began > PATIENCE - 1:
        yield warning(f"SLURM: {NO_ANSWER}")
        return
    default = next((n.partition for n in nodes or () if n.default), None)  # which the executor names if no profile does
    if default is not None:
        requests = [r if r.partitions else replace(r, options=("-p", default, *r.options)) for r in requests]
    answers = at_once([lambda r=r: said_by_sbatch(r) for r in requests], PATIENCE + 1)
    refused: dict[Finding, list[str]] = {}
    for request, answer in zip(requests, answers, strict=True):
        if answer == "":
            account = f"account {request.account}" if request.account else "no account named"
            yield ok(f"SLURM takes the jobs of {some(request.rules)}: {account}, {request}")
        else:
            text = None if isinstance(answer, Exception) else answer
            refused.setdefault(explained(request, text, nodes, accounts), []).extend(request.rules)
    for finding, rules in refused.items():
        yield replace(finding, text=f"SLURM, jobs of {some(dict.fromkeys(rules))}: {finding.text}")
    yield from _about_submit_limits(requests, jobs, associations or [], qos_limits or {})
    if associations is None and age is not None and age < LONGEST_GAP:
        yield warning(
            f"SLURM forgets ended jobs after {age} s (MinJobAge) and has no accounting: if a job is killed between two"
            f" looks at the queue, which can be {LONGEST_GAP} s apart, the reason stays unknown"
        )


def said_by_sbatch(request: JobRequest) -> str | None:
    """Why SLURM refuses a request, in its words; empty if it accepts it, None if it does not answer in time."""
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
    """The cluster's nodes by partition and kind, None if it does not answer."""
    shape = "%P|%l|%c|%m|%G|%T"
    listing = ask("sinfo", "--noheader", "--exact", f"--format={shape}", patience=PATIENCE)
    if listing is None:
        return None
    nodes = []
    for line in listing.splitlines():
        if len(fields := [field.strip() for field in line.split("|")]) == 6:
            partition, longest, cpus, memory, gres, state = fields
            away = state.lower().startswith(AWAY) or state.endswith("*")
            nodes.append(Nodes(partition.rstrip("*"), partition.endswith("*"), longest, cpus, memory, gres, away))
    return nodes


def known_associations() -> list[Association] | None:
    """This user's accounts, None if the cluster has no accounting or does not answer."""
    shown = "format=account,maxsubmitjobs,grpsubmitjobs,defaultqos,qos"
    rows = _rows("show", "associations", f"user={getpass.getuser()}", shown)
    if rows is None:
        return None
    padded = ([*row, "", "", "", ""][:5] for row in rows)
    return [
        Association(account, _smallest(own, groups), default or (qos if "," not in qos else ""))
        for account, own, groups, default, qos in padded
    ]


def known_qos_limits() -> dict[str, int] | None:
    """The number of jobs that each QOS with such a limit holds at once."""
    rows = _rows("show", "qos", "format=name,maxsubmitjobsperuser,grpsubmitjobs")
    limits = {row[0]: _smallest(*row[1:]) for row in rows or ()}
    return {name: limit for name, limit in limits.items() if limit is not None}


def min_job_age() -> int | None:
    """Seconds until slurmctld forgets an ended job."""
    found = re.search(r"^MinJobAge\s*=\s*(\d+)", ask("scontrol", "show", "config", patience=PATIENCE) or "", re.M)
    return int(found[1]) if found else None


def _rows(*question: str) -> list[list[str]] | None:
    listing = ask("sacctmgr", "--noheader", "--parsable2", *question, patience=PATIENCE)
    return None if listing is None else [line.strip().split("|") for line in listing.splitlines() if line.strip()]


def _smallest(*limits: str) -> int | None:
    return min((int(limit) for limit in limits if limit.isdigit()), default=None)


def _about_submit_limits(
    requests: list[JobRequest], jobs: int, associations: list[Association], qos_limits: dict[str, int]
) -> Iterator[Finding]:
    """What the limits of accounts and QOS mean for as many jobs as Snakemake submits."""
    queued = min(jobs, sum(request.jobs for request in requests))
    limits: dict[str, int] = {}
    for request in requests:
        for association in (a for a in associations if a.serves(request)):
            if association.submit_limit is not None:
                limits[f"account {association.account}"] = association.submit_limit
            if (qos := request.qos or association.qos) in qos_limits:
                limits[f"QOS {qos}"] = qos_limits[qos]
    for limit in sorted(set(limits.values())):
        names = some(name for name in limits if limits[name] == limit)
        if limit == 0:
            yield problem(f"SLURM: {names}: the submit limit is 0, so no job is taken; choose another account or QOS")
        elif limit < queued:
            yield warning(
                f"SLURM: {names}: the submit limit is {limit:,}, and Snakemake submits up to {queued:,} jobs at once"
                " (`jobs`); the others wait on the login node until there is room"
            )


def explained(request: JobRequest, words: str | None, nodes: list[Nodes] | None, accounts: list[str] | None) -> Finding:
    """What a refusal means and what to do; a warning if SLURM may accept the jobs all the same.

    `words` are SLURM's, None without an answer; `nodes` and `accounts` those that the cluster lists, None if unknown.
    """
    if words is None or any(pattern in words for pattern in UNANSWERED):
        return warning(NO_ANSWER)
    if re.search(FULL, words):
        return warning(f"{words}: the queue takes no more of your jobs now; they wait until other jobs have ended")
    if any(pattern in words for pattern in LATER):
        return warning(f"{words}: they would wait until an administrator changes that")
    if "account" in words.lower().replace("accounting", ""):
        return _about_account(request, words, accounts)
    nodes = nodes or []
    of_partition = [n for n in nodes if n.partition in request.partitions]
    if "partition" in words and not of_partition:
        known = some(dict.fromkeys(n.partition for n in nodes), 20) or "none that sinfo shows"
        return problem(f"no partition {','.join(request.partitions)}; there are {known}: correct slurm_partition")
    if any(pattern in words for pattern in (*SHAPES, "gres")):
        return _about_nodes(request, words, nodes, of_partition)
    if "time limit" in words:
        limits = some(dict.fromkeys(f"{n.partition} allows {n.longest}" for n in of_partition or nodes))
        return problem(f"{words} ({limits or 'no limit known'}): correct runtime, requested is {request}")
    return problem(f"{words}: requested is {request}; correct the profile, or ask the cluster's administrators")


def _about_account(request: JobRequest, words: str, accounts: list[str] | None) -> Finding:
    if accounts is None:
        yours, advice = "the cluster does not list yours", "export SBATCH_ACCOUNT=NAME"
    elif not accounts:
        yours, advice = "you have none here", "ask the cluster's administrators for one"
    else:
        # the Alliance's clusters have NAME_cpu and NAME_gpu, and users ask for NAME
        pairs = [n.removesuffix("_gpu") for n in accounts if n.endswith("_gpu") and f"{n[:-4]}_cpu" in accounts]
        names = pairs or accounts
        yours = f"yours are {some(accounts, 20)}"
        advice = f"export SBATCH_ACCOUNT={names[0] if len(names) == 1 else 'NAME, one of ' + some(names, 20)}"
    if request.account is None:
        return problem(f"no account is named ({words}); {yours}: {advice}")
    if accounts and {request.account, f"{request.account}_gpu", f"{request.account}_cpu"} & set(accounts):
        return problem(f"account {request.account} may not be used for this ({words}); {yours}; requested is {request}")
    return problem(f"account {request.account} is refused ({words}); {yours}: {advice}")


def _about_nodes(request: JobRequest, words: str, nodes: list[Nodes], of_partition: list[Nodes]) -> Finding:
    """`of_partition`: the nodes of the requested partitions; none where the cluster chooses, as on the Alliance's."""
    where = f"partition {','.join(request.partitions)}" if of_partition else "the cluster"
    types = {kind for n in nodes for kind in n.gpus}
    fitting = [n for n in of_partition or nodes if not request.gpu or request.gpu in n.gpus]
    if request.gpu and types and request.gpu not in types:
        known = some(sorted(types), 20)
        return problem(f"no GPU type {request.gpu} here; there are {known}: correct gpu_model in the profile")
    if request.gpu and types and not fitting:
        homes = dict.fromkeys(n.partition for n in nodes if request.gpu in n.gpus)
        return problem(f"{where} has no {request.gpu}, which {some(homes)} has: correct slurm_partition in the profile")
    if fitting and all(n.away for n in fitting):
        return warning(f"all nodes for them in {where} are down, drained or in maintenance: they would wait")
    offers = "; ".join(dict.fromkeys(map(str, fitting))) or "not known"
    return problem(f"{words}: no node of {where} has all of {request} (nodes: {offers}): correct the profile")
