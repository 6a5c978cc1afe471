"""The code digest: changed by what code does, by nothing else, through imports of any form."""

import pytest

from qa.digest import _essence, _imports, _tree, code_digest

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


def test_a_text_that_is_no_docstring_counts(digest_with):
    one, two = (digest_with(c=f"def h():\n    return '{word}'\n") for word in ("one", "two"))
    assert one != two
