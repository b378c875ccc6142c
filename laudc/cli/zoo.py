"""laudc zoo"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from laudc.cli.session import Session, shared_options

if TYPE_CHECKING:
    from laudc.zoo import Card


@click.group("zoo", invoke_without_command=True, short_help="Known models and where they are.")
@shared_options
@click.pass_context
def command(ctx: click.Context) -> None:
    """Lists the models that LAUDNet's authors published or say how to train, and those trained in this project.

    \b
    Example:
      laudc zoo
      laudc zoo show laud-resnet101-channel-g2-t0.5
    """
    if ctx.invoked_subcommand is not None:
        return
    _list(ctx.ensure_object(Session))


@command.command("list", short_help="List all models.")
@shared_options
@click.pass_obj
def list_models(session: Session) -> None:
    """Lists all models, as `laudc zoo` does.

    \b
    Example:
      laudc zoo list --json zoo.json
    """
    _list(session)


@command.command("show", short_help="Show one card.")
@click.argument("name")
@shared_options
@click.pass_obj
def show(session: Session, name: str) -> None:
    """Shows the card of the model NAME.

    \b
    Example:
      laudc zoo show digits-spatial
    """
    from laudc.zoo import find_card

    card = find_card(name)
    session.say("\n".join(f"{key.replace('_', ' '):<12} {_text(value)}" for key, value in asdict(card).items()))
    session.write({"kind": "zoo_card", "card": asdict(card)})


def _list(session: Session) -> None:
    from laudc.zoo import cards

    found = cards()
    session.say(_table(found))
    session.write({"kind": "zoo", "cards": [asdict(card) for card in found]})


def _table(found: list[Card]) -> str:
    from laudc.report import Column, render_table

    columns = [Column(name, left=True) for name in ("model", "arch", "mode", "granularity")]
    columns += [Column("target"), *(Column(name, left=True) for name in ("task", "status"))]
    rows = [
        [
            card.name,
            card.arch,
            card.mode,
            card.granularity or "-",
            "-" if card.target_rate is None else f"{card.target_rate:g}",
            card.task,
            card.status,
        ]
        for card in found
    ]
    return render_table(columns, rows)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_text(entry)}" for key, entry in value.items())
    return "not known" if value is None else str(value)
