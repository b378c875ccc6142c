"""Operators by the names and arguments of the authors' code; one call, or many at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from laudc.errors import UserError

from .conv import conv
from .cost import Cost
from .dynamic_conv import dynamic_conv
from .dynamic_se import dynamic_se
from .maskers import channel_masker, masker_conv1
from .model import Model
from .movement import gather, scatter, scatter_add
from .plain import add, avg_pool, fc, se
from .transformer import layernorm, linear, softmax

OPERATORS: Mapping[str, Callable[..., Cost]] = MappingProxyType(
    {
        "add": add,
        "avg_pool": avg_pool,
        "channel_masker_predictor": channel_masker,
        "conv": conv,
        "dynamic_conv": dynamic_conv,
        "dynamic_se": dynamic_se,
        "fc": fc,
        "gather": gather,
        "layernorm": layernorm,
        "linear": linear,
        "masker_conv1": masker_conv1,
        "scatter": scatter,
        "scatter_add": scatter_add,
        "se": se,
        "softmax": softmax,
    }
)

# Larger than any layer, small enough to be worked through.
_LARGEST = 1 << 20

# Sizes: at least 1. Shares: 0 to 1. Paddings: at least 0. Everything else is a flag.
_SHARES = ("density", "ic_density", "oc_density", "c_density")
_PADDINGS = ("granul_size_pad", "nxt_layer_ks")
_FLAGS = ("with_indexing", "spatial_masker", "channel_masker", "test_nofuse", "no_fuse")
_SHAPES = ("shape", "x_shape", "w_shape", "out_shape")


@dataclass(frozen=True)
class Call:
    """One operator with its arguments, sorted by name."""

    op: str
    arguments: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, op: str, **arguments: Any) -> Call:
        """A checked call; lists become tuples. Raises UserError for an unknown operator or a wrong argument."""
        if op not in OPERATORS:
            raise _bad(op, f"there is no such operator; known are {', '.join(OPERATORS)}")
        checked = {name: _checked(op, name, value) for name, value in arguments.items()}
        signature = inspect.signature(OPERATORS[op])
        try:
            signature.bind(None, **checked)
        except TypeError as error:
            raise _bad(op, str(error)) from error
        return cls(op, tuple(sorted(checked.items())))


def predict(model: Model, call: Call) -> Cost:
    """The cost of one call. Raises UserError for sizes that do not go together."""
    return OPERATORS[call.op](model, **dict(call.arguments))


def predict_many(model: Model, calls: Iterable[Call]) -> list[Cost]:
    """The costs of many calls in their order; equal ones are computed once."""
    known: dict[Call, Cost] = {}
    costs = []
    for call in calls:
        if call not in known:
            known[call] = predict(model, call)
        costs.append(known[call])
    return costs


def _checked(op: str, name: str, value: Any) -> Any:
    if name in _SHAPES:
        if not isinstance(value, (list, tuple)) or not value or not all(map(_is_size, value)):
            raise _bad(op, f"argument '{name}' is {value!r}, wanted a list of sizes")
        return tuple(value)
    if name in _SHARES:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
        wanted = "a share between 0 and 1"
    elif name in _FLAGS:
        fits, wanted = isinstance(value, bool), "true or false"
    elif name in _PADDINGS:
        fits, wanted = value == 0 or _is_size(value), f"a whole number from 0 to {_LARGEST}"
    elif name == "reduction_size":
        fits, wanted = value is None or _is_size(value), f"a whole number from 1 to {_LARGEST}"
    else:
        fits, wanted = _is_size(value), f"a whole number from 1 to {_LARGEST}"
    if not fits:
        raise _bad(op, f"argument '{name}' is {value!r}, wanted {wanted}")
    return value


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LARGEST


def _bad(op: str, why: str) -> UserError:
    return UserError(f"operator '{op}' cannot be predicted", why, "correct the call")
