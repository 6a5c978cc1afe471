"""Downloads through the real client against a stand-in hub on loopback, with the faults that networks have."""

import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from qa.hub.download import fetch_dataset, fetch_model, matching_files, model_files
from small_hub import COMMIT, MODEL, QUICK, REPO, UNWANTED, WEIGHTS, aside_of, contents, refusal

# what is fetched


def test_a_model_is_its_config_tokenizer_and_safetensors_files_and_nothing_else(hub, target):
    fetch_model(REPO, target, QUICK)
    found = contents(target)
    del found["source.json"]
    assert found == MODEL
    assert [p.name for p in target.parent.iterdir()] == ["tiny"]


def test_source_json_has_the_licence_and_language_of_the_models_card(hub, target, tmp_path):
    assert not {"license", "language"} & fetch_model(REPO, target).keys()
    card = b"---\nlicense: cc-by-4.0\nlanguage:\n- en\n- fr\n---\n# tiny\n"
    hub.add_repo("model", "someone/tiny", COMMIT, MODEL | {"README.md": card})
    terms = {"license": "cc-by-4.0", "language": ["en", "fr"]}
    assert fetch_model(REPO, target).items() >= terms.items() and not (target / "README.md").exists()
    folder = tmp_path / "given"
    folder.mkdir()
    for name, content in MODEL.items():
        (folder / name).write_bytes(content)
    for content, expected in ((card, terms), (b"---\n[: broken\n---\n", {}), (b"\xff", {}), (b"# plain", {})):
        (folder / "README.md").write_bytes(content)
        source = fetch_model({"path": str(folder)}, target)
        assert {key: source[key] for key in terms if key in source} == expected


def test_source_json_says_whence_when_and_which_bytes(hub, target):
    before = datetime.now(UTC).replace(microsecond=0)
    source = fetch_model(REPO, target, QUICK)
    assert source == json.loads((target / "source.json").read_text())
    assert {key: source[key] for key in ("kind", "repo", "revision")} == {"kind": "model", **REPO}
    assert source["files"] == {
        name: {"sha256": sha256(content).hexdigest(), "size": len(content)} for name, content in MODEL.items()
    }
    moment = datetime.fromisoformat(source["downloaded"])
    assert moment.utcoffset() == UTC.utcoffset(None) and before <= moment <= datetime.now(UTC)


def test_shards_are_those_that_the_index_names(hub, target):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    shards = {"model-00001-of-00002.safetensors": b"1" * 100, "model-00002-of-00002.safetensors": b"2" * 100}
    stray = {"model-00003-of-00003.safetensors": b"3"}
    files = {name: MODEL[name] for name in ("config.json", "vocab.json")}
    files |= shards | {"model.safetensors.index.json": json.dumps(index).encode()}
    hub.add_repo("model", "someone/sharded", COMMIT, files | stray | UNWANTED)
    source = fetch_model({"repo": "someone/sharded", "revision": COMMIT}, target, QUICK)
    assert set(source["files"]) == set(files)
    assert contents(target).items() >= files.items()


@pytest.mark.parametrize(
    "index, said",
    [
        (b'{"weight_map": {"a": "model-00009-of-00009.safetensors"}}', "model-00009-of-00009.safetensors"),
        (b'{"weight_map": {"a": "pytorch_model.bin"}}', "pytorch_model.bin"),
        (b'{"weight_map": {"a": "../config.json"}}', "../config.json"),
        (b'{"metadata": {}}', "weight_map"),
        (b"[]", "weight_map"),
        (b"{", "not JSON"),
    ],
)
def test_an_index_that_names_no_safetensors_beside_it_is_refused(hub, target, index, said):
    files = {"config.json": b"{}", "vocab.txt": b"a", "pytorch_model.bin": b"p", "model.safetensors.index.json": index}
    hub.add_repo("model", "someone/sharded", COMMIT, files)
    assert said in refusal(fetch_model, {"repo": "someone/sharded", "revision": COMMIT}, target, QUICK)
    assert not target.exists()


def test_one_safetensors_file_is_preferred_to_shards():
    names = ["config.json", "vocab.txt", "model.safetensors", "model.safetensors.index.json"]
    assert model_files(names, "here", None) == ["config.json", "vocab.txt", "model.safetensors"]


def test_pickled_weights_alone_are_refused_with_a_way_out(hub, target):
    files = {name: content for name, content in (MODEL | UNWANTED).items() if not name.endswith(".safetensors")}
    hub.add_repo("model", "someone/old", COMMIT, files)
    message = refusal(fetch_model, {"repo": "someone/old", "revision": COMMIT}, target, QUICK)
    assert "someone/old" in message and "pytorch_model.bin" in message
    assert "/someone/old/discussions" in message and "/someone/old/commits/refs%2Fpr%2FN" in message
    assert not hub.asked("*/resolve/*") and not target.parent.exists()


@pytest.mark.parametrize("missing, said", [("config.json", "config.json"), ("tokenizer", "vocab.txt")])
def test_a_missing_config_or_tokenizer_is_named(hub, target, missing, said):
    names = ["config.json", "tokenizer_config.json", "vocab.json", "model.safetensors"]
    dropped = {"config.json"} if missing == "config.json" else {"vocab.json"}
    hub.add_repo("model", "someone/half", COMMIT, {name: b"{}" for name in names if name not in dropped})
    message = refusal(fetch_model, {"repo": "someone/half", "revision": COMMIT}, target, QUICK)
    assert said in message and "someone/half" in message


def test_data_files_are_matched_by_pattern_and_kept_in_order(hub, tmp_path):
    names = ["v2/train-00001-of-00002.parquet", "v2/train-00000-of-00002.parquet", "v2/dev.parquet", "v1/dev.parquet"]
    hub.add_repo("dataset", "someone/squad", COMMIT, {name: name.encode() for name in [*names, "README.md"]})
    splits = {"train": "v2/train-*.parquet", "dev": ["v2/dev.parquet", "v1/*.parquet", "*/dev.parquet"]}
    source = fetch_dataset({"repo": "someone/squad", "revision": COMMIT, "splits": splits}, tmp_path / "data", QUICK)
    assert source["splits"] == {
        "train": ["train/00000-train-00000-of-00002.parquet", "train/00001-train-00001-of-00002.parquet"],
        "dev": ["dev/00000-dev.parquet", "dev/00001-dev.parquet"],
    }
    assert (tmp_path / "data" / "dev" / "00000-dev.parquet").read_bytes() == b"v2/dev.parquet"
    assert (tmp_path / "data" / "dev" / "00001-dev.parquet").read_bytes() == b"v1/dev.parquet"
    first = source["files"]["train/00000-train-00000-of-00002.parquet"]
    assert first["from"] == "v2/train-00000-of-00002.parquet"
    assert first["sha256"] == sha256(b"v2/train-00000-of-00002.parquet").hexdigest()
    assert source["kind"] == "dataset" and source["repo"] == "someone/squad" and source["revision"] == COMMIT
    assert set(contents(tmp_path / "data")) == {*source["files"], "source.json"}


def test_a_pattern_without_a_match_lists_what_there_is(hub, tmp_path):
    hub.add_repo("dataset", "someone/squad", COMMIT, {"plain/dev.parquet": b"d", "plain/train.parquet": b"t"})
    source = {"repo": "someone/squad", "revision": COMMIT, "splits": {"dev": "validation*.parquet"}}
    message = refusal(fetch_dataset, source, tmp_path / "data", QUICK)
    assert "'validation*.parquet'" in message and "plain/dev.parquet" in message and "split dev" in message


def test_a_name_with_brackets_matches_itself():
    assert matching_files(["dev[1].json"], ["dev1.json", "dev[1].json"], "here") == ["dev1.json", "dev[1].json"]


def test_a_split_may_not_lead_out_of_the_folder(tmp_path):
    assert "../dev" in refusal(fetch_dataset, {"splits": {"../dev": "x.json"}}, tmp_path / "data")


# folders, packages and files of this machine


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "own"
    for name, content in (MODEL | UNWANTED).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_local_model_is_copied_and_hashed(folder, target):
    source = fetch_model({"path": str(folder)}, target)
    assert (source["kind"], source["path"]) == ("model", str(folder)) and "revision" not in source
    assert source["files"]["model.safetensors"] == {"sha256": sha256(WEIGHTS).hexdigest(), "size": len(WEIGHTS)}
    assert set(contents(target)) == {*MODEL, "source.json"} and contents(target).items() >= MODEL.items()


def test_links_in_a_local_model_are_followed_to_their_content(folder, target, tmp_path):
    (tmp_path / "blob").write_bytes(WEIGHTS)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("../blob")
    fetch_model({"path": str(folder)}, target)
    assert not (target / "model.safetensors").is_symlink()
    assert (target / "model.safetensors").read_bytes() == WEIGHTS


def test_a_link_that_leads_nowhere_is_named(folder, target):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("nowhere")
    assert str(folder / "model.safetensors") in refusal(fetch_model, {"path": str(folder)}, target)
    assert not target.exists() and not aside_of(target).exists()


def test_a_pointer_of_git_lfs_is_no_file(folder, target, tmp_path):
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 9\n"
    for file, call, source in (
        (folder / "model.safetensors", fetch_model, {"path": str(folder)}),
        (tmp_path / "train.json.gz", fetch_dataset, {"splits": {"train": str(tmp_path / "train.json.gz")}}),
    ):
        file.write_text(pointer)
        message = refusal(call, source, target)
        assert message.startswith(f"{file}: a pointer of Git LFS") and "git lfs pull" in message and not target.exists()


def test_a_folder_that_is_missing_or_holds_pickles_only_is_refused(folder, target, tmp_path):
    assert "nowhere" in refusal(fetch_model, {"path": str(tmp_path / "nowhere")}, target)
    (folder / "model.safetensors").unlink()
    message = refusal(fetch_model, {"path": str(folder)}, target)
    assert str(folder) in message and "pytorch_model.bin" in message


@pytest.fixture
def package(tmp_path, monkeypatch, folder):
    """A distribution `some-models` 1.2 that ships the folder `some_models/tiny`; importing it would fail."""
    site = tmp_path / "site"
    folder.rename(folder.with_name("tiny"))
    (site / "some_models").mkdir(parents=True)
    (site / "some_models" / "__init__.py").write_text("raise RuntimeError('imported')")
    folder.with_name("tiny").rename(site / "some_models" / "tiny")
    (site / "some_models-1.2.dist-info").mkdir()
    (site / "some_models-1.2.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: some-models\nVersion: 1.2\n"
    )
    monkeypatch.syspath_prepend(site)
    return {"package": "some-models", "directory": "some_models/tiny"}


def test_a_model_that_a_package_ships_is_taken_without_importing_it(package, target):
    source = fetch_model(package, target)
    assert source.items() >= {"kind": "model", **package, "version": "1.2"}.items()
    assert contents(target).items() >= MODEL.items()


def test_a_package_that_is_missing_or_lacks_the_folder_is_named(package, target):
    missing = {"package": "no-such-models", "directory": "x"}
    assert "pip install no-such-models" in refusal(fetch_model, missing, target)
    message = refusal(fetch_model, package | {"directory": "some_models/huge"}, target)
    assert "some_models/huge" in message and "some-models 1.2" in message


def test_local_data_files_are_copied_in_the_order_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b/train.json.gz", "a/train.json.gz", "dev.json"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(name)
    splits = {"train": ["b/train.json.gz", "a/train.json.gz"], "dev": str(tmp_path / "dev.json")}
    source = fetch_dataset({"splits": splits}, Path("data/own"))
    assert source["splits"]["train"] == ["train/00000-train.json.gz", "train/00001-train.json.gz"]
    assert source["files"]["train/00000-train.json.gz"]["from"] == "b/train.json.gz"
    assert Path("data/own/train/00000-train.json.gz").read_text() == "b/train.json.gz"
    assert Path("data/own/dev/00000-dev.json").read_text() == "dev.json"


def test_a_missing_data_file_is_named(tmp_path):
    (tmp_path / "train.json").write_text("{}")
    splits = {"train": str(tmp_path / "train.json"), "dev": str(tmp_path / "dev.json")}
    assert str(tmp_path / "dev.json") in refusal(fetch_dataset, {"splits": splits}, tmp_path / "data")
    assert [p.name for p in tmp_path.iterdir()] == ["train.json"]
