"""The code digest: changed by what code does, by nothing else, through imports of any form."""

import shutil
import subprocess
from pathlib import Path

import pytest

from qa.plan.code_digest import LIBRARY, _essence, _imports, _tree, code_digest

MODULES = {
    "a": '"""A."""\nfrom qa import b\n\n\ndef f(x):\n    """Twice x."""\n    return 2 * x\n',
    "b": "def g():\n    from qa.c import h\n    return h()\n",
    "c": "def h():\n    return 1\n",
    "d": "import qa.a\nimport json\n",
    "unused": "X = 1\n",
}


@pytest.fixture
def digest_with(tmp_path):
    def digest(**changes):
        for function in (_essence, _imports, _tree, code_digest):
            function.cache_clear()
        for name, text in {**MODULES, **changes}.items():
            (tmp_path / f"{name}.py").write_text(text)
        return code_digest(tmp_path / "d.py", tmp_path)

    return digest


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a", "    return 2 * x", "    # why\n    return  2*x  # twice"),
        ("a", '"""Twice x."""', '"""Doubles x."""'),
        ("a", '    """Twice x."""\n', ""),
        ("unused", "X = 1", "X = 2"),
    ],
)
def test_comments_docstrings_formatting_and_strangers_change_nothing(name, old, new, digest_with):
    before = digest_with()
    assert digest_with(**{name: MODULES[name].replace(old, new)}) == before


@pytest.mark.parametrize(
    ("name", "old", "new"), [("a", "2 * x", "3 * x"), ("c", "return 1", "return 2"), ("d", "json", "re")]
)
def test_code_changes_it_however_far_down_the_imports(name, old, new, digest_with):
    before = digest_with()
    assert digest_with(**{name: MODULES[name].replace(old, new)}) != before
    assert digest_with() == before


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_it_is_the_same_under_every_version_of_python(version):
    below_home = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    python = next(map(str, below_home), None) or shutil.which(f"python{version}")
    if python is None:
        pytest.skip(f"no Python {version} here")
    names = ("decoding/postprocess.py", "hub/download.py", "config/settings.py")
    code = "from qa.plan.code_digest import code_digest, LIBRARY; "
    code += f"print([code_digest(LIBRARY / name) for name in {names}])"
    environment = {"PYTHONPATH": str(LIBRARY.parent)}
    done = subprocess.run([python, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([code_digest(LIBRARY / name) for name in names])


def test_a_text_that_is_no_docstring_counts(digest_with):
    one, two = (digest_with(c=f"def h():\n    return '{word}'\n") for word in ("one", "two"))
    assert one != two


def test_a_module_that_only_tells_how_far_a_stage_is_counts_nothing(digest_with):
    told = "from qa.common.progress import P\n\n\ndef h():\n    return P\n"
    one, two = (digest_with(c=told, progress=f"P = {number}\n") for number in (1, 2))
    assert one == two
    assert digest_with(c=told.replace("P", "Q"), progress="P = 2\n") != two
