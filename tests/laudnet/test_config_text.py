"""MMDetection's configurations are read as data and never run."""

from __future__ import annotations

from pathlib import Path

import pytest
from laudnet.config_text import read_config_file, read_config_text


def test_data_is_read_and_nothing_is_run(tmp_path: Path) -> None:
    text = f"""
import os
classes = 10 // 0
depth = -(2 + 3) * 2
scales = [8] + [4 * 2 ** 0, 1. / 4]
pair = (1333, 800)
model = dict(type='X', depth=depth, inner={{'a': None, **{{'b': 1}}}}, run=os.getcwd(), many=[i for i in range(3)])
open({str(tmp_path / "made")!r}, 'w')
__import__('os').system('touch {tmp_path / "made"}')
"""
    found = read_config_text(text)
    assert found == {"depth": -10, "pair": [1333, 800], "model": {"type": "X", "depth": -10, "inner": {"a": None}}}
    assert not (tmp_path / "made").exists()


def test_lists_are_repeated_within_bounds() -> None:
    text = "classes = 3\nweights = [1.0] * classes + [0.1]\nlong = [0] * 100000\nnested = [[0]] * 2\n"
    found = read_config_text(text)
    assert found == {"classes": 3, "weights": [1.0, 1.0, 1.0, 0.1]}


def test_repeated_doubling_fills_no_memory() -> None:
    lists = read_config_text("a = [1, 2]\n" + "a = a + a\n" * 13 + "b = a + [1]\n")
    assert len(lists.pop("a")) == 1 << 14 and not lists
    assert read_config_text("a = [1]\n" + "a = a + a\n" * 40) == {}
    assert read_config_text("a = 10\n" + "a = a * a\n" * 40) == {}


def test_numbers_that_no_calculation_holds_are_left_out() -> None:
    huge = "9" * 400
    found = read_config_text(f"a = {huge}\nb = -{huge}\nc = 1e999\nd = [1, {huge}]\ne = dict(f={huge}, g=2)\nh = 1\n")
    assert found == {"e": {"g": 2}, "h": 1}


def test_shared_values_do_not_grow_beyond_bounds() -> None:
    for doubled in ("[a, a]", "dict(x=a, y=a)"):
        with pytest.raises(ValueError, match="more than 1048576 values"):
            read_config_text("a = [1]\n" + f"a = {doubled}\n" * 40)
    deep = read_config_text("a = [1]\n" + "b = a\n" + "a = [a]\n" * 1000)
    assert deep == {"b": [1]}


def test_base_files_lie_beneath(tmp_path: Path) -> None:
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "a.py").write_text("x = dict(a=1, b=dict(c=2, d=3))\ny = [1]\n")
    (tmp_path / "bases" / "b.py").write_text("_base_ = 'a.py'\nz = 1\nx = dict(b=dict(c=4))\n")
    (tmp_path / "own.py").write_text("_base_ = ['bases/b.py']\nx = dict(e=dict(_delete_=True, f=1))\ny = 2\n")
    found = read_config_file(tmp_path / "own.py")
    assert found == {"x": {"a": 1, "b": {"c": 4, "d": 3}, "e": {"f": 1}}, "y": 2, "z": 1}
    (tmp_path / "own.py").write_text("_base_ = 'bases/b.py'\nx = dict(b=dict(_delete_=True, f=1))\n")
    assert read_config_file(tmp_path / "own.py")["x"] == {"a": 1, "b": {"f": 1}}


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "round.py").write_text("_base_ = 'round.py'\n")
    with pytest.raises(ValueError, match="on top of each other"):
        read_config_file(tmp_path / "round.py")
    (tmp_path / "lost.py").write_text("_base_ = 'nowhere.py'\n")
    with pytest.raises(FileNotFoundError):
        read_config_file(tmp_path / "lost.py")
    with pytest.raises(ValueError, match="not Python"):
        read_config_text("x = (")
    with pytest.raises(ValueError, match="not Python"):
        read_config_text("x = " + "-" * 100_000 + "1")
