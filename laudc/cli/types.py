"""Values of options that click has no type for."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

import click
from click.core import ParameterSource

from laudc.errors import UserError


class ImageSize(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on
    """`224` or `224x160` (height x width), as (height, width) in pixels."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", str(value))
        if match is None:
            self.fail(f"'{value}' is neither a side in pixels (224) nor height x width (224x160)", param, ctx)
        return int(match.group(1)), int(match.group(2) or match.group(1))


Function = TypeVar("Function", bound=Callable[..., Any])


def target_options(function: Function) -> Function:
    """Adds `--target` and `--host-keys`, for verbs that can work on another machine."""
    keys = click.option(
        "--host-keys",
        type=click.Choice(["yes", "accept-new"]),
        default="yes",
        show_default=True,
        help="Host keys that --target trusts: known ones, or also those of machines never seen before.",
    )
    target = click.option(
        "--target", metavar="ssh://[USER@]HOST[:PORT]", help="Do it on that machine, through ssh."
    )

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        given = click.get_current_context().get_parameter_source("host_keys") is ParameterSource.COMMANDLINE
        if given and kwargs["target"] is None:
            raise UserError(
                "--host-keys was given without --target",
                "nothing is done on another machine",
                "add --target, or leave it out",
            )
        return function(*args, **kwargs)

    return target(keys(cast(Function, checked)))
