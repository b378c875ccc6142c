"""YAML of strangers: data, or a reason in one line."""

import pytest

from laudc.yaml_text import parse_yaml


def test_plain_data():
    text = "a: &x [1, 2.5, text]\nb: *x\nc: {d: null}\n"
    assert parse_yaml(text) == {"a": [1, 2.5, "text"], "b": [1, 2.5, "text"], "c": {"d": None}}
    assert parse_yaml(b"") is None


def bomb(levels=12):
    lines = ["l0: &l0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (bomb(), "stand for more than"),
        ("a: &a [1, *a]", "contains itself"),
        ("&a {b: *a}", "contains itself"),
        ("a: 1\na: 2", r"the key 'a' is there twice \(line 2\)"),
        ("a: {b: 1, b: 2}", "'b' is there twice"),
        ("[" * 10_000, "too deeply"),
        ("!!python/object/apply:os.system [true]", "constructor for the tag"),
        ("a: [1", r"\(line 1\)"),
        ("? [1]\n: 2", "unhashable"),
        (bytes(range(256)), "unacceptable character"),
        ("--- 1\n--- 2", "another document"),
        ("9" * 5000, "digits"),
    ],
)
def test_what_is_refused_is_refused_in_one_line(text, why):
    with pytest.raises(ValueError, match=why) as failure:
        parse_yaml(text)
    assert "\n" not in str(failure.value)
