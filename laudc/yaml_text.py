"""YAML as plain data, from files that a stranger may have written."""

from __future__ import annotations

from typing import Any

import yaml

# Aliases let a short text stand for any number of values; no file of ours comes near this many.
_MOST_VALUES = 1_000_000


def parse_yaml(text: bytes | str) -> Any:
    """The plain data that a YAML document holds: mappings, lists, texts, numbers; None for an empty one.

    Raises ValueError with the reason in one line: not YAML, a tag that asks for more than data, a key that is there
    twice, aliases that refer to themselves or stand for too many values.
    """
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _values(node, {}) > _MOST_VALUES:
                raise ValueError(f"its aliases stand for more than {_MOST_VALUES} values")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        where = "" if error.problem_mark is None else f" (line {error.problem_mark.line + 1})"
        raise ValueError(f"{error.problem or error.context}{where}") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error).partition("\n")[0]) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _values(node: yaml.Node, counted: dict[int, int]) -> int:
    """How many values a node stands for, aliases followed; `counted` holds those of nodes met before, 0 of those that
    are being counted."""
    known = counted.get(id(node))
    if known == 0:
        raise ValueError(f"a value contains itself (line {node.start_mark.line + 1})")
    if known is not None:
        return known
    counted[id(node)] = 0
    total = 1
    if isinstance(node, yaml.MappingNode):
        _check_keys(node)
        total += sum(_values(part, counted) for pair in node.value for part in pair)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_values(part, counted) for part in node.value)
    counted[id(node)] = total
    return total


def _check_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                raise ValueError(f"the key '{key.value}' is there twice (line {key.start_mark.line + 1})")
            seen.add((key.tag, key.value))
