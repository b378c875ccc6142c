"""What all verbs share: the options `--json`, `-v`, `-q`, where text goes, and progress."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click

from laudc.errors import LaudcError, UserError

SCHEMA_VERSION = 1
# Nothing is shown for what is over sooner.
_PROGRESS_AFTER_S = 1.0
_BAR_WIDTH = 24

Function = TypeVar("Function", bound=Callable[..., Any])


class Session:
    """One run of the command. `verbosity` is -1 with -q, else the number of -v."""

    def __init__(self) -> None:
        self.json_target: str | None = None
        self.verbosity = 0
        self._started = time.monotonic()
        self._progress_shown = False

    def say(self, text: str) -> None:
        """Shows a result to people; standard output stays pure JSON when that was asked for there."""
        self.clear_progress()
        if self.verbosity >= 0:
            click.echo(text, err=self.json_target == "-")

    def detail(self, text: str) -> None:
        """Shows something only with -v, on standard error."""
        if self.verbosity >= 1:
            self.clear_progress()
            click.echo(text, err=True)

    def write(self, data: dict[str, Any]) -> None:
        """Writes the machine-readable result if `--json` asks for it. Raises UserError when it cannot."""
        if self.json_target is not None:
            from laudc.report import write_json

            self.clear_progress()
            write_json({"schema_version": SCHEMA_VERSION, **data}, self.json_target)

    def require_json_apart(self, others: Iterable[Any]) -> None:
        """Raises UserError where the file of `--json` is there and another argument names it too.

        The result, or the error, would replace what the command works on; so neither is written then.
        """
        target = self.json_target
        if target is None or not os.path.isfile(target):
            return
        for other in others:
            with contextlib.suppress(OSError, ValueError):  # most arguments name no file
                if not isinstance(other, str) or not os.path.samefile(other, target):
                    continue
                self.json_target = None
                raise UserError(
                    f"cannot write {target}",
                    "another argument names it too, and it would be lost",
                    "choose another path for --json",
                )

    def write_error(self, error: LaudcError, code: int) -> None:
        """The machine-readable result of a command that failed; a check's own result is not overwritten."""
        if code == 3:
            return
        facts = {"what": error.what, "why": error.why, "fix": error.fix, "exit_code": code}
        # The file may be the very thing that could not be written; the paragraph has been shown already.
        with contextlib.suppress(LaudcError):
            self.write({"kind": "error", "error": facts})

    def progress(self, step: str, share: float | None = None) -> None:
        """Shows the current step on a terminal once the command has taken a second."""
        if share is None:
            self.detail(step)
        late = time.monotonic() - self._started > _PROGRESS_AFTER_S
        if self.verbosity == 0 and late and sys.stderr.isatty():
            bar = "" if share is None else f" [{'#' * round(share * _BAR_WIDTH):{_BAR_WIDTH}}] {share:4.0%}"
            click.echo(f"\r\x1b[K{step} ...{bar}", nl=False, err=True)
            self._progress_shown = True

    def clear_progress(self) -> None:
        """Removes the progress line."""
        if self._progress_shown:
            click.echo("\r\x1b[K", nl=False, err=True)
            self._progress_shown = False


def _set_json(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Session).json_target = value


def _set_verbose(ctx: click.Context, parameter: click.Parameter, value: int) -> None:
    if value:
        ctx.ensure_object(Session).verbosity = value


def _set_quiet(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Session).verbosity = -1


def _with_json_apart(function: Function) -> Function:
    @functools.wraps(function)
    def checked(*args: Any, **given: Any) -> Any:
        values = (one for value in given.values() for one in (value if isinstance(value, tuple) else (value,)))
        click.get_current_context().ensure_object(Session).require_json_apart(values)
        return function(*args, **given)

    return checked  # type: ignore[return-value]


def shared_options(function: Function) -> Function:
    """Adds the options that every verb has; the verb gets them through `click.pass_obj` as a Session."""
    function = _with_json_apart(function)
    options = (
        click.option(
            "--json",
            metavar="FILE",
            expose_value=False,
            callback=_set_json,
            help="Write the result as JSON to FILE, or to standard output for '-'.",
        ),
        click.option(
            "-v",
            "--verbose",
            count=True,
            expose_value=False,
            callback=_set_verbose,
            help="Say more; twice: tracebacks.",
        ),
        click.option(
            "-q", "--quiet", is_flag=True, expose_value=False, callback=_set_quiet, help="Say only errors."
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function
