"""laudc devices"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from laudc.cli.session import Session, shared_options
from laudc.errors import UserError

if TYPE_CHECKING:
    from laudc.devices import DeviceProfile


@dataclass(frozen=True)
class _Listed:
    """A device in the list. `profile`: None where it cannot be read; `problem`: why nothing can be predicted by it."""

    name: str
    profile: DeviceProfile | None
    problem: UserError | None = None

    @property
    def status(self) -> str:
        """What stands beside its numbers."""
        if self.profile is None:
            return "profile cannot be used"
        return self.profile.status if self.problem is None else "calibration cannot be used"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without paths of this machine."""
        data = {"id": self.name} if self.profile is None else self.profile.to_dict()
        return {**data, "status": self.status, **({} if self.problem is None else {"problem": self.problem.why})}


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
    listed = [_listed(name) for name in available_profiles()]
    host = detect_host()
    problems = [f"{device.name}: {device.problem}" for device in listed if device.problem is not None]
    session.say("\n\n".join([_table(listed), *problems, f"This machine: {host.describe()}"]))
    session.write({"kind": "devices", "devices": [device.to_dict() for device in listed], "host": host.to_dict()})


def _listed(name: str) -> _Listed:
    """With what is wrong with the user's own profile, which is no reason not to list the others."""
    from laudc.devices import load_profile
    from laudc.predict.calibration import require_usable_calibration

    profile = None
    try:
        profile = load_profile(name)
        require_usable_calibration(profile)
    except UserError as error:
        return _Listed(name, profile, error)
    return _Listed(name, profile)


def _usable_profile(name: str) -> DeviceProfile:
    """The profile. Raises UserError also for a calibration in it that is none: its numbers would pass for measured."""
    from laudc.devices import load_profile
    from laudc.predict.calibration import require_usable_calibration

    profile = load_profile(name)
    require_usable_calibration(profile)
    return profile


def _table(listed: list[_Listed]) -> str:
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
    return render_table(columns, [_row(device) for device in listed])


def _row(device: _Listed) -> list[str]:
    profile = device.profile
    if profile is None:
        return [device.name, "-", "-", "-", "-", "-", device.status, ""]
    return [
        profile.id,
        profile.backend,
        profile.precision,
        str(profile.batch),
        f"{profile.peak_macs_per_s() / 1e9:.0f}",
        f"{profile.memory.dram_gb_s:.1f}",
        device.status,
        profile.description,
    ]


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
