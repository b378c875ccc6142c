"""laudc: makes LAUDNet dynamic networks run as fast as their masks allow.

The public names below are loaded on first use, so that `import laudc` needs the standard library only.
`laudc.export`, `laudc.verify` and `laudc.profile` are packages that can be called: `laudc.export(...)` runs
the function of the same name inside.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from laudc.errors import CheckFailed, InternalError, LaudcError, UserError

if TYPE_CHECKING:
    from laudc.calibrate import calibrate
    from laudc.engine import build_engine, load_engine
    from laudc.export import export
    from laudc.predict import predict
    from laudc.profile import profile
    from laudc.search import search
    from laudc.verify import verify

__version__ = "0.1.0"

__all__ = [
    "CheckFailed",
    "InternalError",
    "LaudcError",
    "UserError",
    "__version__",
    "build_engine",
    "calibrate",
    "export",
    "load_engine",
    "predict",
    "profile",
    "search",
    "verify",
]

_LAZY = {
    "build_engine": "laudc.engine",
    "calibrate": "laudc.calibrate",
    "export": "laudc.export",
    "load_engine": "laudc.engine",
    "predict": "laudc.predict",
    "profile": "laudc.profile",
    "search": "laudc.search",
    "verify": "laudc.verify",
}


def make_callable(module_name: str, function: Callable[..., Any]) -> None:
    """Let the package `module_name` be called like `function`.

    Importing a subpackage binds it in its parent under its own name, so `laudc.export` is the package as soon
    as anything imports it; being callable, it serves as the function as well.
    """
    module = sys.modules[module_name]
    members = {"__call__": staticmethod(function), "__doc__": module.__doc__}
    module.__class__ = type("CallableModule", (types.ModuleType,), members)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'laudc' has no attribute {name!r}")
    module = importlib.import_module(_LAZY[name])
    member = getattr(module, name)
    if module.__name__ != f"laudc.{name}":
        return member
    if not callable(module):
        make_callable(module.__name__, member)
    return module


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
