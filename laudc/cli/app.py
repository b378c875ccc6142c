"""The `laudc` command: finds the verb, runs it, and turns every end into an exit code and a paragraph."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from laudc.cli.session import Session
from laudc.errors import InternalError, LaudcError

# verb: module in laudc.cli
_VERBS = {
    "export": "export",
    "build-engine": "build_engine",
    "profile": "profile",
    "predict": "predict",
    "calibrate": "calibrate",
    "search": "search",
    "verify": "verify",
    "run": "run",
    "inspect": "inspect_file",
    "devices": "devices",
    "zoo": "zoo",
    "doctor": "doctor",
}

EXIT_INTERRUPTED = 130


class _LazyVerbs(click.Group):
    """Imports a verb only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        command: click.Command = importlib.import_module(f"laudc.cli.{_VERBS[cmd_name]}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _VERBS and not args[0].startswith("-"):
            raise click.UsageError(_unknown_verb(args[0]), ctx)
        return super().resolve_command(ctx, args)


def _unknown_verb(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, _VERBS, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    return f"There is no command '{name}'.{hint}"


def _show_version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        import laudc

        click.echo(f"laudc {laudc.__version__}")
        ctx.exit()


@click.group(
    cls=_LazyVerbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 fine, 1 internal error, 2 wrong input or usage, 3 checked and failed.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
def cli() -> None:
    """Makes trained LAUDNet dynamic networks run as fast as their masks allow.

    \b
    Example:
      laudc export checkpoint.pth.tar -o model.onnx
      laudc build-engine model.onnx --device cpu -o model.laudc
      laudc verify model.laudc --reference checkpoint.pth.tar
      laudc profile model.laudc --images photos/ --against-dense
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    session = Session()
    try:
        code = cli.main(args=arguments, prog_name="laudc", standalone_mode=False, obj=session)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        session.clear_progress()
        error.show()
        session.write_error(LaudcError(error.format_message()), 2)
        return 2
    except (click.Abort, KeyboardInterrupt):
        session.clear_progress()
        click.echo("laudc: interrupted", err=True)
        return EXIT_INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # The reader of a pipe (head, less) has seen enough; click leaves with SystemExit then, and only then.
        # Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except LaudcError as error:
        return _report(session, error)
    except Exception as error:
        return _report(session, _as_internal(error))


def _as_internal(error: Exception) -> InternalError:
    wrapped = InternalError(
        "laudc met an error that it does not know",
        f"{type(error).__name__}: {error}",
        "Run the command again with -vv for the traceback and please report it together with 'laudc doctor'",
    )
    wrapped.__cause__ = error
    return wrapped


def _report(session: Session, error: LaudcError) -> int:
    session.clear_progress()
    if session.verbosity >= 2:
        traceback.print_exception(error.__cause__ if isinstance(error, InternalError) else error)
    click.echo(f"laudc: {error}", err=True)
    session.write_error(error, error.exit_code)
    return error.exit_code
