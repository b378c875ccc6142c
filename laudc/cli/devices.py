"""laudc devices"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from laudc.cli.session import Session, shared_options

if TYPE_CHECKING:
    from laudc.devices import DeviceProfile


@click.group("devices", invoke_without_command=True, short_help="Devices to build for and to predict.")
@shared_options
@click.pass_context
def command(ctx: click.Context) -> None:
    """Lists the known devices and what this machine is; `show NAME` prints a profile.

    A profile of your own is a YAML file: start from what `show` prints, and give its path (FILE.yaml) wherever a
    device is asked for.

    \b
    Example:
      laudc devices
      laudc devices show nano
    """
    if ctx.invoked_subcommand is not None:
        return
    from laudc.devices import available_profiles, detect_host

    session = ctx.ensure_object(Session)
    profiles = [_usable_profile(name) for name in available_profiles()]
    host = detect_host()
    session.say(f"{_table(profiles)}\n\nThis machine: {host.describe()}")
    session.write({"kind": "devices", "devices": [profile.to_dict() for profile in profiles], "host": host.to_dict()})


def _usable_profile(name: str) -> DeviceProfile:
    """The profile. Raises UserError also for a calibration in it that is none: its numbers would pass for measured."""
    from laudc.devices import load_profile
    from laudc.predict.calibration import require_usable_calibration

    profile = load_profile(name)
    require_usable_calibration(profile)
    return profile


def _table(profiles: list[DeviceProfile]) -> str:
    from laudc.report import Column, render_table

    columns = [
        Column("device", left=True),
        Column("backend", left=True),
        Column("precision", left=True),
        Column("batch"),
        Column("fp32 peak", "GMAC/s"),
        Column("memory", "GB/s"),
        Column("numbers", left=True),
        Column("description", left=True),
    ]
    rows = [
        [
            profile.id,
            profile.backend,
            profile.precision,
            str(profile.batch),
            f"{profile.peak_macs_per_s() / 1e9:.0f}",
            f"{profile.memory.dram_gb_s:.1f}",
            profile.status,
            profile.description,
        ]
        for profile in profiles
    ]
    return render_table(columns, rows)


@command.command("show", short_help="Print one profile.")
@click.argument("name")
@shared_options
@click.pass_obj
def show(session: Session, name: str) -> None:
    """Prints the profile NAME (or FILE.yaml) with the source of each number, as a file that can be used as a profile.

    The numbers of a CPU profile are those of this machine; its memory bandwidth is measured for this (0.2 seconds).

    \b
    Example:
      laudc devices show cpu
      laudc devices show v100 --json v100.json
    """
    import yaml

    from laudc.devices.bandwidth import with_measured_bandwidth

    profile = _usable_profile(name)
    session.progress("measuring the memory bandwidth")
    profile = with_measured_bandwidth(profile)
    dump: Callable[..., Any] = yaml.safe_dump
    text = dump(profile.to_yaml_dict(), sort_keys=False, default_flow_style=None, width=110).rstrip()
    session.say(f"# {profile.id}: {profile.status}\n{text}")
    session.write({"kind": "device", "device": profile.to_dict()})
