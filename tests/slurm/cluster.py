"""A throw-away SLURM on this machine: real daemons and jobs, make-believe GPUs, compute nodes without network.

Three network namespaces: the tests' own, which is the login node; one of slurmctld, munged and the accounting daemons;
one of the slurmds, from where nothing but slurmctld can be reached:

    login 10.87.1.2 <-> 10.87.1.1 [qa0-control] 10.87.0.1 <-> 10.87.0.2 [qa0-compute]

Every daemon and job lives in the second or third, so that killing all processes of these two leaves nothing behind.
Limits of CPU, memory and devices are not enforced.
"""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

NODES = ("cpu1", "gpu1", "gpu2", "gpu3", "gpu4", "mig1", "hop1")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "munged", "ip", "nsenter", "unshare")
ACCOUNTING_PROGRAMS = ("slurmdbd", "sacctmgr", "sacct", "mariadbd", "mariadb-install-db", "mariadb")
FREEZER = Path("/sys/fs/cgroup/freezer")
TEMPLATES = Path(__file__).parent / "etc"
PATIENCE = 3600.0  # seconds until a test gives up on what hangs; no slow machine takes so long


def missing(accounting: bool = False) -> str | None:
    """What this machine lacks for a cluster, in words; None where nothing."""
    wanted = PROGRAMS + (ACCOUNTING_PROGRAMS if accounting else ())
    absent = [name for name in wanted if not shutil.which(name)]
    if absent:
        return f"SLURM is not installed here: no {', '.join(absent)}"
    if os.geteuid() != 0:
        return "starting slurmd and network namespaces needs root"
    if subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True).returncode != 0:
        return "this system allows no network and mount namespaces"
    return None


def wait_for(condition: Callable[[], object], what: str) -> object:
    """Poll until the condition is true and return its value; raises TimeoutError after `PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"after {PATIENCE:g} s still not: {what}")
        time.sleep(0.1)
    return value


class Cluster:
    """A cluster of nodes cpu1, gpu1 to gpu4 (four a100 each), mig1 (slices of an a100) and hop1 (h100 and slices).

    All are in the partition `any`, the default one; jobs of `prio` send those of others back into the queue.

    With `accounting`, slurmdbd on MariaDB, and accounts as the Alliance has them: `def-x` becomes `def-x_gpu` or
    `def-x_cpu`. `kill_wait` is the time in seconds between SIGTERM and SIGKILL: a slow machine must end a step and save
    in it. Clusters of different `number` (0 to 9) can be up at once.
    """

    def __init__(self, accounting: bool = False, kill_wait: int = 60):
        self.accounting = accounting
        self.kill_wait = kill_wait
        self.number, self._held = free_number()
        self.tag = f"qa{self.number}"
        self.net = f"10.{87 + self.number}"
        self.control, self.compute, self.link = (f"{self.tag}-{part}" for part in ("control", "compute", "login"))
        self.folder = Path(tempfile.gettempdir()) / f"{self.tag}-slurm"
        self.environment = {"SLURM_CONF": str(self.folder / "etc" / "slurm.conf")}

    # Up and down

    def up(self) -> None:
        """Start from nothing; what a killed earlier run left is removed before."""
        self._remove()
        try:
            self._write_files()
            self._make_network()
            self._start_daemons()
        except BaseException as error:
            error.add_note(self.log_tails())
            self.down()
            raise

    def down(self) -> None:
        """Kill all daemons and jobs, remove namespaces and files."""
        self._remove()
        self._held.close()

    def _remove(self) -> None:
        for name in (self.compute, self.control):
            kill_all(lambda name=name: _pids_in(name))
            run("ip", "netns", "del", name, check=False)
        run("ip", "link", "del", self.link, check=False)
        for node in NODES:
            run(
                "find", str(FREEZER / f"slurm_{node}"), "-depth", "-type", "d", "-exec", "rmdir", "{}", "+", check=False
            )
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write_files(self) -> None:
        for part in ("etc", "run", "state", "log", "dev", "db", *(f"spool/{node}" for node in NODES)):
            (self.folder / part).mkdir(parents=True)
        self.folder.chmod(0o755)
        for device in range(8):
            (self.folder / "dev" / f"gpu{device}").symlink_to("/dev/null")
        values = {"folder": self.folder, "host": socket.gethostname().split(".")[0], "kill_wait": self.kill_wait}
        values |= {
            "net": self.net,
            "first_job": 10_000 * self.number + 1,
            "tracking": "cgroup" if _has_freezer() else "linuxproc",
        }
        values["accounting"] = self._fill("accounting.conf", values) if self.accounting else ""
        values["with_accounts"] = str(self.accounting).lower()
        self._write("hosts", f"127.0.0.1 localhost\n{self.net}.0.2 {' '.join(NODES)}\n", 0o644)
        for name in ("slurm.conf", "gres.conf", "cgroup.conf", "slurmdbd.conf", "job_submit.lua"):
            self._write(name, self._fill(name, values), 0o600 if name == "slurmdbd.conf" else 0o644)
        for name in ("epilog", "mail", "task_prolog"):
            self._write(name, (TEMPLATES / name).read_text(), 0o755)
        key = self.folder / "run" / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)

    @staticmethod
    def _fill(name: str, values: dict) -> str:
        return Template((TEMPLATES / name).read_text()).substitute(values)

    def _write(self, name: str, text: str, mode: int) -> None:
        path = self.folder / "etc" / name
        path.write_text(text)
        path.chmod(mode)

    def _make_network(self) -> None:
        for command in (
            f"netns add {self.control}",
            f"netns add {self.compute}",
            f"link add {self.link} type veth peer name login netns {self.control}",
            f"-n {self.control} link add compute type veth peer name control netns {self.compute}",
            f"addr add {self.net}.1.2/24 dev {self.link}",
            f"-n {self.control} addr add {self.net}.1.1/24 dev login",
            f"-n {self.control} addr add {self.net}.0.1/24 dev compute",
            f"-n {self.compute} addr add {self.net}.0.2/24 dev control",
            f"link set {self.link} up",
            f"-n {self.control} link set login up",
            f"-n {self.control} link set compute up",
            f"-n {self.control} link set lo up",
            f"-n {self.compute} link set control up",
            f"-n {self.compute} link set lo up",
            f"route add {self.net}.0.1/32 via {self.net}.1.1",
        ):
            run("ip", *command.split())
        self._in(self.control, "sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward")

    def _start_daemons(self) -> None:
        run_, log = self.folder / "run", self.folder / "log"
        munge = {"key-file": run_ / "munge.key", "seed-file": run_ / "munge.seed", "socket": run_ / "munge.socket"}
        munge |= {"pid-file": run_ / "munged.pid", "log-file": log / "munged.log"}
        self._in(self.control, "munged", "--force", *(f"--{name}={path}" for name, path in munge.items()))
        if self.accounting:
            self._start_accounting()
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        wait_for(lambda: set(self.node_states().values()) == {"idle"}, "all nodes idle")

    def _start_accounting(self) -> None:
        data, sock = self.folder / "db", self.folder / "run" / "mysql.sock"
        install = ("--auth-root-authentication-method=normal", "--skip-test-db", "--user=root")
        run("mariadb-install-db", "--no-defaults", f"--datadir={data}", *install)
        options = ("--user=root", "--bind-address=127.0.0.1", "--port=16307", "--skip-name-resolve")
        places = (f"--datadir={data}", f"--socket={sock}", f"--pid-file={self.folder / 'run' / 'mariadbd.pid'}")
        with open(self.folder / "log" / "mariadbd.log", "w") as stream:
            command = ["nsenter", f"--net=/run/netns/{self.control}", "mariadbd", "--no-defaults", *options, *places]
            subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
        client = ["mariadb", "--no-defaults", "-uroot", "-S", str(sock), "-e"]
        wait_for(lambda: subprocess.run([*client, "select 1"], capture_output=True).returncode == 0, "mariadbd up")
        user = "'slurm'@'127.0.0.1'"
        run(*client, f"create user {user} identified by 'slurm'; grant all on slurm_acct_db.* to {user}")
        self._in(self.control, "slurmdbd")
        wait_for(lambda: self.ask("sacctmgr", "-n", "list", "cluster", check=False).returncode == 0, "slurmdbd up")
        self.ask("sacctmgr", "-i", "add", "cluster", "qa")

    def _in(self, namespace: str, *command: str) -> None:
        """Run in a network namespace; not by `ip netns exec`, which remounts /sys, where slurmd looks for cgroups."""
        run("nsenter", f"--net=/run/netns/{namespace}", *command, env={**os.environ, **self.environment})

    # What clusters do

    def start_controller(self) -> None:
        """Start slurmctld, with the state that an earlier one left."""
        self._in(self.control, "slurmctld")
        wait_for(lambda: self.ask("scontrol", "ping", check=False).stdout.find("is UP") > 0, "slurmctld up")

    def stop_controller(self) -> None:
        """End slurmctld as an outage does for clients: they are refused."""
        pid = int((self.folder / "run" / "slurmctld.pid").read_text())
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), "slurmctld gone")

    def configure(self, key: str, value: object) -> None:
        """Change a key of slurm.conf while the cluster runs."""
        text = (self.folder / "etc" / "slurm.conf").read_text()
        self._write("slurm.conf", re.sub(rf"^{key}=.*$", f"{key}={value}", text, flags=re.M), 0o644)
        self.ask("scontrol", "reconfigure")

    def start_node(self, node: str) -> None:
        """Start a node's slurmd, with its own host name, and the configuration where SLURM looks without SLURM_CONF."""
        etc = self.folder / "etc"
        prepare = f"mount --bind {etc} /etc/slurm && mount --bind {etc}/hosts /etc/hosts && hostname {node}"
        prepare += " && unset SLURM_CONF"
        self._in(self.compute, "unshare", "--uts", "--mount", "sh", "-c", f"{prepare} && exec slurmd -N {node}")

    def crash_node(self, node: str) -> None:
        """Kill slurmd and all that runs on a node at once, and let SLURM know without its five minutes of waiting."""
        daemon = int((self.folder / "run" / f"slurmd.{node}.pid").read_text())
        mounts = _mounts(daemon)
        kill_all(lambda: [pid for pid in _pids_in(self.compute) if _mounts(pid) == mounts])
        self.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=crashed")

    def revive_node(self, node: str) -> None:
        """Start a crashed node again."""
        self.start_node(node)
        wait_for(lambda: self.node_states()[node] in ("idle", "mixed"), f"{node} back")

    def add_account(self, account: str) -> None:
        """Give the user who runs the tests an account, and make it known to slurmctld."""
        self.ask("sacctmgr", "-i", "add", "account", account, "description=x", "organization=x")
        self.ask("sacctmgr", "-i", "add", "user", pwd.getpwuid(os.geteuid()).pw_name, f"account={account}")

    # Questions

    def ask(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run a SLURM client as on the login node."""
        return run(*command, check=check, env={**os.environ, **self.environment}, timeout=PATIENCE)

    def node_states(self) -> dict[str, str]:
        """State of each node."""
        lines = self.ask("sinfo", "-h", "-N", "-o", "%N %T", check=False).stdout.split("\n")
        return dict(line.split()[:2] for line in lines if line.strip())

    def jobs(self) -> list[dict[str, str]]:
        """All jobs that ran or are queued, as `scontrol show job` has them, oldest first.

        SLURM forgets an ended job after MinJobAge. By then slurmctld has written two files: by EpilogSlurmctld the job
        while it was COMPLETING, perhaps without its nodes, by jobcomp/filetxt how it ended and where.
        """
        known = _jobs_in(self.ask("scontrol", "--oneliner", "show", "job").stdout)  # first: what goes from it is there
        files = (self.folder / "log" / name for name in ("ended", "jobcomp"))
        found, ends = (_jobs_in(file.read_text() if file.exists() else "") for file in files)
        for number, job in found.items():
            job |= {key: ends.get(number, job)[key] for key in ("JobState", "NodeList")}
        return sorted((found | known).values(), key=lambda job: int(job["JobId"]))

    def job(self, number: str) -> dict[str, str]:
        """One job, as `scontrol show job` has it."""
        return next(job for job in self.jobs() if job["JobId"] == number)

    def ended(self, number: str) -> dict[str, str]:
        """A job, once SLURM is done with it."""
        alive = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED")
        wait_for(lambda: self.job(number)["JobState"] not in alive, f"end of job {number}")
        return self.job(number)

    def tasks(self) -> list[dict[str, str]]:
        """Each task that ran in a job step: its `job`, `node` and `gpus` as CUDA_VISIBLE_DEVICES had them."""
        path = self.folder / "log" / "tasks"
        lines = path.read_text().splitlines() if path.exists() else []
        return [dict(zip(("job", "node", "gpus"), line.split(":"), strict=True)) for line in lines]

    def mails(self) -> list[str]:
        """Mails sent so far, each `recipient: subject`."""
        path = self.folder / "log" / "mail"
        return path.read_text().splitlines() if path.exists() else []

    def log_tails(self, lines: int = 15) -> str:
        """The last lines of each daemon's log."""
        logs = sorted((self.folder / "log").glob("*"))
        tails = ["\n".join(log.read_text(errors="replace").splitlines()[-lines:]) for log in logs]
        return "\n".join(f"== {log.name}\n{tail}" for log, tail in zip(logs, tails, strict=True))

    def refused_packets(self) -> int:
        """Packets of compute nodes to anywhere without a route, over IPv4 and IPv6, since the start."""
        read = ("nsenter", f"--net=/run/netns/{self.compute}", "cat", "/proc/net/snmp", "/proc/net/snmp6")
        text = run(*read).stdout
        names, values = (line.split()[1:] for line in text.splitlines() if line.startswith("Ip:"))
        sixth = re.search(r"Ip6OutNoRoutes\s+(\d+)", text)
        return int(dict(zip(names, values, strict=True))["OutNoRoutes"]) + int(sixth[1] if sixth else 0)


def free_number() -> tuple[int, socket.socket]:
    """The first number that no other cluster of this machine has, and what holds it until that is closed."""
    for number in range(10):
        held = socket.socket(socket.AF_UNIX)
        try:
            held.bind(f"\0qa{number}-slurm")  # a name that goes with this process, however it ends
            return number, held
        except OSError:
            held.close()
    raise RuntimeError("ten clusters of these tests are up on this machine; wait for one of them")


@contextmanager
def running(**options: object) -> Iterator[Cluster]:
    """A cluster within the block."""
    cluster = Cluster(**options)
    cluster.up()
    try:
        yield cluster
    finally:
        cluster.down()


def run(*command: str, check: bool = True, **options: object) -> subprocess.CompletedProcess:
    """A command's output as text; raises RuntimeError with that text where it fails."""
    done = subprocess.run([*command], stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def state_of(pid: int) -> str:
    """A process's state as `ps` has it, such as `T` of a halted one; `Z` where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def waits(pid: int, *signals: signal.Signals) -> bool:
    """Whether one of the signals was sent to a halted process: it gets them once it goes on."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    pending = int(re.search(r"^ShdPnd:\s*(\w+)", text, re.M)[1], 16)
    return any(pending >> (number - 1) & 1 for number in signals)


def kill_all(pids: Callable[[], list[int]]) -> None:
    """SIGKILL until none is left, since a process may have started another meanwhile."""

    def none_left() -> bool:
        found = pids()
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return not found

    wait_for(none_left, "processes gone")


def _jobs_in(text: str) -> dict[str, dict[str, str]]:
    """Jobs by number, out of lines of `KEY=VALUE`; of several lines about a job the last."""
    found = [dict(re.findall(r"(\S+?)=(.*?) *(?= \S+?=|$)", line)) for line in text.splitlines() if "JobId=" in line]
    return {job["JobId"]: job for job in found}


def _pids_in(namespace: str) -> list[int]:
    text = run("ip", "netns", "pids", namespace, check=False).stdout
    return [int(word) for word in text.split() if state_of(int(word)) != "Z"]


def _has_freezer() -> bool:
    """Whether jobs can be followed by cgroups, as on clusters: a signal then reaches a step's first process only."""
    return (FREEZER / "cgroup.procs").exists() and os.access(FREEZER, os.W_OK)


def _mounts(pid: int) -> Path | None:
    """The mount namespace of a process: each node has its own."""
    try:
        return Path(f"/proc/{pid}/ns/mnt").readlink()
    except OSError:
        return None
