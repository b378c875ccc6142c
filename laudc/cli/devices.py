"""laudc devices"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from laudc.cli.session import Session, shared_options


@click.group("devices", invoke_without_command=True, short_help="Devices to build for.")
@shared_options
@click.pass_context
def command(ctx: click.Context) -> None:
    """Lists the devices that engines can be built for; `show NAME` prints a profile.

    \b
    Example:
      laudc devices
      laudc devices show cpu
    """
    if ctx.invoked_subcommand is not None:
        return
    from laudc.devices import available_profiles, detect_host, load_profile
    from laudc.report import Column, render_table

    session = ctx.ensure_object(Session)
    profiles = [load_profile(name) for name in available_profiles()]
    host = detect_host()
    rows = [[profile.id, profile.backend, profile.precision, profile.description] for profile in profiles]
    columns = [Column(title, left=True) for title in ("device", "backend", "precision", "description")]
    session.say(f"{render_table(columns, rows)}\n\nThis machine: {host.describe()}")
    session.write(
        {"kind": "devices", "devices": [profile.to_dict() for profile in profiles], "host": host.to_dict()}
    )


@command.command("show", short_help="Print one profile.")
@click.argument("name")
@shared_options
@click.pass_obj
def show(session: Session, name: str) -> None:
    """Prints the profile NAME (or FILE.yaml).

    \b
    Example:
      laudc devices show cpu
    """
    import yaml

    from laudc.devices import load_profile

    profile = load_profile(name)
    dump: Callable[..., Any] = yaml.safe_dump
    session.say(dump(profile.to_dict(), sort_keys=False).rstrip())
    session.write({"kind": "device", "device": profile.to_dict()})
