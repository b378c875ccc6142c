"""laudc doctor"""

from __future__ import annotations

import click

from laudc.cli.session import Session, shared_options
from laudc.errors import CheckFailed


@click.command("doctor", short_help="Check this installation.")
@shared_options
@click.pass_obj
def command(session: Session) -> None:
    """Checks what laudc needs on this machine and says what to do about what is missing.

    \b
    Example:
      laudc doctor
    """
    from laudc.doctor import examine
    from laudc.report import Column, render_table

    checks = examine()
    rows = [[check.verdict, check.name, check.detail] for check in checks]
    session.say(
        render_table([Column("", left=True), Column("what", left=True), Column("found", left=True)], rows)
    )
    session.write(
        {"kind": "doctor", "ok": all(c.acceptable for c in checks), "checks": [c.to_dict() for c in checks]}
    )
    broken = [check for check in checks if not check.acceptable]
    if broken:
        raise CheckFailed(
            f"{len(broken)} of {len(checks)} checks failed, {broken[0].name} first",
            broken[0].detail,
            broken[0].fix,
        )
