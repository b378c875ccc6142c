"""Small pieces that several tests of predictions need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from laudc.ops.scheduled import BlockRecord
from laudc.predict.blueprint import Blueprint
from laudc.predict.cpu.amounts import Machine
from laudc.predict.cpu.cost import Cost
from laudc.predict.cpu.families import CPU_FAMILIES
from laudc.predict.cpu.load import MODEL, VERSION
from laudc.predict.cpu.model import CpuModel, Fit
from laudc.predict.cpu.outside import OUTSIDE_TERMS
from laudc.predict.cpu.terms import TERMS
from laudc.predict.families import REGNET, RESNET, VIT
from laudc.predict.frame import VitFrame
from laudc.predict.interface import Conditions, Interval
from laudc.predict.regnet_blueprint import RegNetBlueprint
from laudc.predict.vit_blueprint import VitBlueprint

SMALL = Blueprint(
    layers=(1, 2, 2, 1), modes=("spatial", "channel", "layer", "both"), spatial=(2, 2, 1, 1), input_size=64
)
REGNET_SMALL = RegNetBlueprint(
    layers=(1, 2, 1, 1),
    widths=(32, 48, 64, 96),
    group_width=16,
    modes=("channel", "both", "spatial", "channel"),
    spatial=(1, 2, 2, 1),
    channel=(1, 2, 1, 4),
    input_size=64,
)
VIT_SMALL = VitBlueprint(
    dim=64,
    heads=4,
    hidden=(128, 192, 128),
    token=(True, True, False),
    head=(False, True, True),
    layer=(False, True, True),
    input_size=64,
    num_classes=10,
)
VIT_FRAME = VitFrame(stem_nodes=40, stem_macs=10_000_000, stem_floats=500_000, head_inputs=64, classes=10)


def block(**changes: int) -> BlockRecord:
    """An identity block of 14 by 14 pixels with a spatial mask of 7 by 7 cells."""
    fields = {"cin": 256, "width": 64, "cout": 256, "stride": 1, "hin": 14, "win": 14, "projection": 0}
    return BlockRecord(**{**fields, "mask_groups": 1, "mask_h": 7, "mask_w": 7, **changes})


def cpu_fit(threads: int = 1, **ns: float) -> Fit:
    """A fit with plausible coefficients; `ns` replaces some."""
    block_ns = {name: 0.02 if name.endswith("_macs") else 0.0 for name in TERMS} | {"block": 300.0, "masked": 0.1}
    outside = dict.fromkeys(OUTSIDE_TERMS, 0.0)
    outside |= {"call": 2e4, "own_stem": 0.01, "runtime_stem": 0.01, "pointwise": 0.015, "spatial": 0.015}
    outside |= {"strided": 0.015, "transposed": 1.0, "nodes": 500.0}
    for name, value in ns.items():
        (block_ns if name in block_ns else outside)[name] = value
    return Fit(
        threads,
        Cost.flat(np.asarray([block_ns[name] for name in TERMS])),
        Cost.flat(np.asarray([outside[name] for name in OUTSIDE_TERMS])),
        None,
        (Interval(1e9, 0.9, 1.2),),
        (Interval(1e9, 0.95, 1.1),),
    )


def cpu_model(threads: int = 1, **ns: float) -> CpuModel:
    """A model with such a fit on a machine with 32 MiB of cache."""
    return CpuModel(Machine("avx512", threads, 32 << 20, 1 << 20), cpu_fit(threads, **ns))


def family_model(family: str, threads: int = 1) -> CpuModel:
    """A model of any family with plausible coefficients."""
    about = CPU_FAMILIES[family]
    block_ns = [0.02 if name.endswith("_macs") else 0.01 for name in about.block_names]
    outside_ns = [500.0 if name in ("call", "nodes", "runs", "stem_nodes") else 0.05 for name in about.outside_names]
    interval = Interval(1e9, 0.9, 1.2)
    costs = (Cost.flat(np.asarray(ns)) for ns in (block_ns, outside_ns))
    fit = Fit(threads, *costs, None, (interval,), (interval,), family)
    return CpuModel(Machine("avx512", threads, 32 << 20, 1 << 20), fit)


def save_calibrated(path: Path, usual: Conditions | None = None) -> None:
    """Writes a profile whose calibration claims to be of this machine, with plausible coefficients for 1 and 2 threads;
    `usual`: the conditions that they are for."""
    from laudc import backends
    from laudc.devices import detect_host, load_profile, save_profile

    host = detect_host()
    machine = {
        "cpu": host.cpu,
        "arch": host.arch,
        "isa": backends.get("onnxruntime").native_abi()["active"],
        "last_cache": 32 << 20,
        "second_cache": 1 << 20,
    }
    fits = {RESNET: [cpu_fit(threads) for threads in (1, 2)]}
    for family in (REGNET, VIT):
        fits[family] = [family_model(family, threads).fit for threads in (1, 2)]
    families = {name: {"fits": [replace(fit, usual=usual).to_dict() for fit in own]} for name, own in fits.items()}
    calibration = {"model": MODEL, "version": VERSION, "machine": machine, "families": families}
    save_profile(path, load_profile("cpu"), calibration)
