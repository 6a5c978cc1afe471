"""The last lines of a log: what of them is shown, and that they cannot steer a terminal."""

from qa.jobs import log_lines

TRACE = 'Traceback (most recent call last):\n  File "/a/b.py", line 1, in f\n    g(x)\n    ^^^^\n'


def test_long_lines_of_a_log_are_shown_whole(tmp_path):
    path = tmp_path / "long.log"
    path.write_bytes(b"x" * 5000 + b"\n\n\xff odd bytes\n")
    first, second = log_lines.error_lines(path)
    assert first == "x" * 5000 and "odd bytes" in second
    assert log_lines.error_lines(tmp_path / "nowhere.log") == []


def test_of_a_traceback_the_error_comes_first_and_then_only_its_last_place(tmp_path):
    path = tmp_path / "x.log"
    own = [f"22:00:0{n} train: INFO step {n}" for n in range(9)] + [
        "22:00:09 train: ERROR ValueError: no (traceback in x)"
    ]
    deep = "".join(f'  File "/a/{n}.py", line {n}, in f\n    g({n})\n    ^^^^\n' for n in range(40))
    path.write_text("\n".join([*own, "Traceback (most recent call last):", f"{deep}ValueError: no", ""]))
    shown = log_lines.error_lines(path)
    assert shown[-4:] == [own[-1], '  File "/a/39.py", line 39, in f', "    g(39)", "ValueError: no"]
    assert shown[:-4] == own[-7:-1] and len(shown) == log_lines.LAST_LINES
    path.write_text("\n".join(own))
    assert log_lines.error_lines(path, 3) == own[-3:]
    path.write_text(f"{TRACE}ValueError: {'long ' * 99}\nmore\nmore\n")
    assert log_lines.error_lines(path, 3)[-1] == "more"


def test_of_a_long_log_only_the_end_is_read_and_nothing_in_it_steers_the_terminal(tmp_path):
    path = tmp_path / "long.log"
    path.write_text("x\n" * log_lines.TAIL + "\x1b[31mred\x1b[0m\x07 10%|# \r 20%|## \nlast\n")
    assert log_lines.error_lines(path, 3) == ["red  10%|#", " 20%|##", "last"]
    path.write_text("")
    assert log_lines.error_lines(path) == []
