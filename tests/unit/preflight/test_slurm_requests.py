"""The preflight's questions to SLURM, and all of its checks together."""

import shutil

import pytest
from test_checks import (  # noqa: F401, a fixture among them
    FOLDER,
    downloaded,
    kinds,
    of_kind,
    only,
    training,
    with_space,
    with_versions,
)

from qa.preflight import checks, slurm_requests
from qa.preflight.findings import OK, PROBLEM, WARNING
from qa.preflight.plan import Plan
from qa.preflight.slurm_requests import JobRequest, check_requests
from small_hub import COMMIT

NO_ACCOUNT = (
    "sbatch: error: You must specify an account (--account=def-someuser)\nallocation failure: Unspecified error"
)
WRONG_ACCOUNT = "allocation failure: Invalid account or account/partition combination specified"
NO_NODE = "allocation failure: Requested node configuration is not available"
NO_PARTITION = "sbatch: error: invalid partition specified: x\nallocation failure: Invalid partition name specified"
TOO_LONG = "allocation failure: Requested time limit is invalid (missing or exceeds some limit)"
TAKEN = "sbatch: Job 2 to start at 2026-11-22T22:10:25 using 4 processors on nodes gpu1 in partition gpu"
SINFO = """cpu*|1-00:00:00|8|64000|(null)|idle
gpu|3:00:00|48|498000|gpu:a100:4(S:0-1)|mixed
gpu|3:00:00|48|498000|gpu:a100_1g.5gb:8(S:0),gpu:a100_3g.20gb:2(S:1)|allocated
old|3:00:00|24|128000|gpu:p100:2|drained*
"""
ACCOUNTS = "def-prof_cpu\ndef-prof_gpu\n"
TRAIN = JobRequest(("train",), ("-p", "gpu", "-t", "180", "--mem", "24000", "--cpus-per-task=4", "--gpus=a100:1"))


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands on PATH that answer as told and write down what they were asked."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def answers(sbatch=TAKEN, code=None, sinfo=SINFO, sacctmgr=ACCOUNTS, qos="", age=300, without=(), then=""):
        script("scontrol", f"echo 'MinJobAge               = {age} sec'")
        for name in ("squeue", "scancel", "sacct"):
            script(name, "")
        script("sinfo", "exit 1" if sinfo is None else f"cat <<'END'\n{sinfo}\nEND")
        accounting = "echo 'You are not running a supported accounting_storage plugin' >&2; exit 1"
        accounts = f"[ $4 = qos ] && printf '{qos}' && exit\ncat <<'END'\n{sacctmgr}END"
        script("sacctmgr", accounting if sacctmgr is None else accounts)
        code = int(sbatch != TAKEN) if code is None else code
        script("sbatch", f"{then}\ncat >&2 <<'END'\n{sbatch}\nEND\nexit {code}")
        for name in without:
            (folder / name).unlink()

    def script(name, body):
        path = folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/asked\n{body}\n')
        path.chmod(0o755)

    for name in ("sh", "cat", "sleep"):
        (folder / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("SBATCH_ACCOUNT", "def-prof")
    monkeypatch.delenv("SBATCH_PARTITION", raising=False)
    answers.asked = lambda: (tmp_path / "asked").read_text().splitlines()
    return answers


def test_accepted_jobs_are_right_and_were_only_tested(slurm):
    slurm()
    assert "takes the jobs of train: account def-prof, -p gpu -t 180" in only(check_requests([TRAIN]), OK)
    (asked,) = [line for line in slurm.asked() if line.startswith("sbatch")]
    assert asked == f"sbatch --test-only {' '.join(TRAIN.options)} --wrap=true"


def test_a_missing_client_is_one_problem_and_nothing_is_asked(slurm, tmp_path):
    slurm(without=["sbatch", "squeue", "sacct"])
    text = only(check_requests([TRAIN], ("sacct",)), PROBLEM)
    assert "sbatch, squeue, sacct not found" in text and "login node" in text
    assert not (tmp_path / "asked").exists()


def refusal(slurm, words: str, request: JobRequest = TRAIN, **answers) -> str:
    slurm(sbatch=words, **answers)
    return only(check_requests([request]), PROBLEM)


def test_a_wrong_account_is_named_with_those_that_are_right(slurm, monkeypatch):
    monkeypatch.setenv("SBATCH_ACCOUNT", "def-nobody")
    text = refusal(slurm, WRONG_ACCOUNT)
    assert "account def-nobody is refused" in text and "yours are def-prof_cpu, def-prof_gpu" in text
    assert text.endswith("export SBATCH_ACCOUNT=def-prof")


def test_no_account_where_one_is_required(slurm, monkeypatch):
    monkeypatch.delenv("SBATCH_ACCOUNT")
    text = refusal(slurm, NO_ACCOUNT, sacctmgr="alpha\nbeta\nbeta\n")
    assert "no account is named (You must specify an account" in text
    assert text.endswith("export SBATCH_ACCOUNT=NAME, one of alpha, beta")


def test_an_account_of_the_profile_counts_before_the_environments(slurm):
    text = refusal(slurm, WRONG_ACCOUNT, JobRequest(("train",), ("-A", "def-else", "--gpus=1")), sacctmgr=None)
    assert "account def-else is refused" in text and "does not list yours" in text


def test_an_account_that_is_yours_but_not_for_this_is_no_matter_of_its_name(slurm):
    text = refusal(slurm, WRONG_ACCOUNT)
    assert "account def-prof may not be used for this" in text and "--gpus=a100:1" in text


def test_an_unknown_gpu_type_is_named_with_the_types_and_slices_there_are(slurm):
    request = JobRequest(("train", "predict"), ("-p", "gpu", "--gpus=h100:1"))
    text = refusal(slurm, NO_NODE, request)
    assert text.startswith("SLURM, jobs of train, predict: no GPU type h100 here")
    assert "there are a100, a100_1g.5gb, a100_3g.20gb, p100" in text


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        ("--gpus=a100_3g.20gb:1", "a100_3g.20gb"),
        ("--gpus=2", None),
        ("--gres=gpu:v100:1", "v100"),
        ("--gres=gpu:2", None),
        ("--gres=lscratch:20", None),
        ("--gpus-per-node=h100:4", "h100"),
        ("--mem=1000", None),
    ],
)
def test_the_gpu_type_of_a_request_is_read_however_it_is_written(option, kind):
    assert JobRequest(("train",), ("-t", "60", option)).gpu == kind


def test_a_gpu_type_of_another_partition_names_that_partition(slurm):
    text = refusal(slurm, NO_NODE, JobRequest(("train",), ("--gpus=a100:1",)))
    assert "partition cpu has no a100, which gpu has: correct slurm_partition" in text


def test_an_unknown_partition_is_named_with_those_there_are(slurm):
    text = refusal(slurm, NO_PARTITION, JobRequest(("train",), ("-p", "x")))
    assert "no partition x; there are cpu, gpu, old" in text


def test_a_walltime_above_the_limit_names_the_limit(slurm):
    assert "gpu allows 3:00:00): correct runtime" in refusal(slurm, TOO_LONG)


def test_more_than_any_node_has_names_what_the_nodes_have(slurm):
    assert "(nodes: 48 CPUs, 498000 MB, gpu:a100:4)" in refusal(slurm, NO_NODE)


def test_words_that_are_not_known_are_passed_on_with_what_was_asked(slurm):
    text = refusal(slurm, "allocation failure: Invalid feature specification")
    assert "Invalid feature specification: requested is -p gpu -t 180" in text
    assert "sbatch ends with code 3" in refusal(slurm, "", code=3)


def test_nodes_that_are_all_drained_are_a_warning_since_jobs_would_wait(slurm):
    slurm(sbatch=NO_NODE)
    found = check_requests([JobRequest(("train",), ("-p", "old", "--gpus=p100:1"))])
    assert "down, drained or in maintenance" in only(found, WARNING)


def test_a_partition_that_takes_no_jobs_now_is_a_warning(slurm):
    slurm(sbatch="allocation failure: Required partition not available (inactive or drain)")
    assert "wait" in only(check_requests([TRAIN]), WARNING)


def test_where_the_cluster_chooses_the_partition_drained_nodes_are_a_warning_too(slurm):
    slurm(sbatch=NO_NODE)
    found = check_requests([JobRequest(("train",), ("-p", "default", "--gpus=p100:1"))])
    assert "the cluster are down, drained or in maintenance" in only(found, WARNING)


@pytest.mark.parametrize("limit", ["AssocMaxSubmitJobLimit", "QOSMaxSubmitJobPerUserLimit"])
def test_a_queue_that_is_full_for_now_is_a_warning(slurm, limit):
    slurm(sbatch=f"sbatch: error: {limit}\nallocation failure: Job violates accounting/QOS policy (job submit limit)")
    assert limit in only(check_requests([TRAIN]), WARNING)


@pytest.mark.parametrize(
    ("sacctmgr", "qos", "options", "kind", "words"),
    [
        ("def-prof_gpu|4||normal|normal", "", (), WARNING, "account def-prof_gpu: the submit limit is 4,"),
        ("def-prof_gpu|9|3||normal", "", (), WARNING, "account def-prof_gpu: the submit limit is 3,"),
        ("def-prof_gpu|||normal|long,normal", "normal|2|", (), WARNING, "QOS normal: the submit limit is 2,"),
        (
            "def-prof_gpu||||long,normal",
            "long||1\nnormal|2|",
            ("--qos=long",),
            WARNING,
            "QOS long: the submit limit is 1,",
        ),
        ("def-prof_gpu|0|||normal", "", (), PROBLEM, "account def-prof_gpu: the submit limit is 0"),
        ("def-other|1|||normal", "", (), None, ""),
        ("def-prof_gpu|5|||normal", "normal|5|", (), None, ""),
    ],
)
def test_the_number_of_jobs_is_compared_with_the_limits_of_account_and_qos(slurm, sacctmgr, qos, options, kind, words):
    slurm(sacctmgr=f"{sacctmgr}\n", qos=qos)
    found = list(check_requests([JobRequest(("train",), (*TRAIN.options, *options), jobs=5)], jobs=100))
    assert [finding.kind for finding in found] == [OK, *([kind] if kind else [])]
    assert words in found[-1].text


@pytest.mark.parametrize(("sacctmgr", "age", "told"), [(None, 120, True), (None, 300, False), (ACCOUNTS, 120, False)])
def test_a_short_memory_of_slurm_is_a_warning_where_there_is_no_accounting(slurm, sacctmgr, age, told):
    slurm(sacctmgr=sacctmgr, age=age)
    warnings = of_kind(list(check_requests([TRAIN])), WARNING)
    assert ["MinJobAge" in text for text in warnings] == [True] * told


def test_a_controller_that_is_away_is_a_warning(slurm):
    slurm(sbatch="allocation failure: Unable to contact slurm controller (connect failure)", sinfo=None)
    assert "not checked" in only(check_requests([TRAIN]), WARNING)


def test_a_controller_that_never_answers_is_not_waited_for(slurm, monkeypatch):
    slurm(then="exec sleep 600")  # and then takes the job
    monkeypatch.setattr(slurm_requests, "PATIENCE", 0.5)
    assert "not checked" in only(check_requests([TRAIN]), WARNING)


def test_one_fault_of_several_rules_is_one_line(slurm, monkeypatch):
    monkeypatch.setenv("SBATCH_ACCOUNT", "def-nobody")
    slurm(sbatch=WRONG_ACCOUNT)
    others = [TRAIN, JobRequest(("predict",), ("-p", "gpu")), JobRequest(("tokenize_and_label",), ("-t", "60"))]
    text = only(check_requests(others), PROBLEM)
    assert text.startswith("SLURM, jobs of train, predict, tokenize_and_label: account def-nobody")


def test_the_default_partition_is_asked_for_as_the_executor_does(slurm):
    slurm()
    assert "-p cpu -t 60" in only(check_requests([JobRequest(("prepare_questions",), ("-t", "60"))]), OK)


def test_where_sinfo_says_nothing_slurms_own_words_are_passed_on(slurm):
    text = refusal(slurm, NO_NODE, sinfo=None)
    assert "Requested node configuration is not available" in text and "nodes: not known" in text


# All together


def test_everything_wrong_is_shown_at_once(slurm, downloaded, monkeypatch):  # noqa: F811
    with_versions(monkeypatch, transformers="4.57.6")
    (downloaded / "vocab.json").unlink()
    slurm(sbatch=WRONG_ACCOUNT)
    with_space(monkeypatch, 0)
    plan = Plan(
        downloads={"resources/models/new": ("model", {"repo": "someone/nobody", "revision": COMMIT})},
        present=(FOLDER,),
        trainings=(training(downloaded),),
        requests=(TRAIN,),
    )
    problems = of_kind(checks.preflight(plan), PROBLEM)
    words = ("transformers 4.57.6", "vocab.json is missing", "someone/nobody", "account def-prof", "free some space")
    assert len(problems) == len(words)
    assert all(word in text for word, text in zip(words, problems, strict=True)), problems


def test_a_right_plan_has_no_problem_and_asks_slurm_nothing_where_jobs_stay_here(slurm, downloaded, tmp_path):  # noqa: F811
    found = checks.preflight(Plan({}, present=(FOLDER,)))
    assert kinds(found) == [OK, OK, OK]
    assert not (tmp_path / "asked").exists()
