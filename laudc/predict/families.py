"""Families of dynamic networks, told apart by the records of their blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from laudc.ops.scheduled import BlockRecord, RegNetRecord
from laudc.ops.scheduled_vit import VitRecord

Record = BlockRecord | VitRecord

RESNET, REGNET, VIT = "resnet", "regnet", "vit"
FAMILIES = (RESNET, REGNET, VIT)
TITLES: Mapping[str, str] = {RESNET: "LAUD-ResNet", REGNET: "LAUD-RegNetY", VIT: "LAUD-T2T-ViT"}


def family_of(record: Record) -> str:
    """The family that a block belongs to, one of FAMILIES."""
    if isinstance(record, VitRecord):
        return VIT
    return REGNET if isinstance(record, RegNetRecord) else RESNET


def family_of_network(records: Iterable[Record]) -> str | None:
    """The family of all blocks; None where there are none or they are of several."""
    found = {family_of(record) for record in records}
    return found.pop() if len(found) == 1 else None


def record_of(data: Mapping[str, Any]) -> Record:
    """The record that a manifest or a run's metadata holds as plain data. Raises TypeError for anything else."""
    if "tokens" in data:
        return VitRecord(**data)
    return RegNetRecord(**data) if "squeeze" in data else BlockRecord(**data)
