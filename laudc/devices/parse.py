"""From a profile file to a `DeviceProfile`; every error names the path to the key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import UserError
from .fields import Fields
from .host import detect_host
from .host_numbers import host_numbers
from .profile import (
    BACKENDS,
    DTYPES,
    KINDS,
    MOST_IMAGES,
    Compute,
    DeviceProfile,
    DtypeRate,
    Identity,
    KernelSet,
    LaudnetParameters,
    Launch,
    Memory,
    Toolchain,
)


def parse_profile(path: Path, host: Mapping[str, tuple[float, str]] | None = None) -> DeviceProfile:
    """Reads and checks one profile file; raises UserError naming the first field that is wrong.

    `host` replaces what this machine says about itself in profiles of kind `cpu`: path of a number to (value,
    source).
    """
    from ..yaml_text import parse_yaml

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read the device profile {path}",
            error.strerror or str(error),
            "give the path of a profile (FILE.yaml), or a name from 'laudc devices'",
        ) from error
    try:
        data = parse_yaml(raw)
    except ValueError as error:
        raise _bad_profile(path, f"it is not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise _bad_profile(path, "it holds no mapping of fields")
    return profile_from_mapping(data, path, sha256=hashlib.sha256(raw).hexdigest(), host=host)


def profile_from_mapping(
    data: Mapping[str, Any],
    path: Path,
    *,
    sha256: str,
    host: Mapping[str, tuple[float, str]] | None = None,
) -> DeviceProfile:
    """A profile from what its file holds; `path` is for messages. Raises UserError."""
    on_host = None
    if data.get("kind") == "cpu":
        on_host = host_numbers(detect_host()) if host is None else host
    top = Fields(data, lambda why: _bad_profile(path, why), host=on_host)
    profile = DeviceProfile(
        id=top.name("id"),
        kind=top.text("kind", one_of=KINDS),
        description=top.text("description"),
        backend=top.text("backend", one_of=BACKENDS),
        precision=top.text("precision", one_of=tuple(DTYPES)),
        batch=top.whole("batch", least=1, most=MOST_IMAGES),
        identity=_identity(top.section("identity")),
        toolchain=_toolchain(top.section("toolchain")),
        compute=_compute(top.section("compute")),
        memory=_memory(top.section("memory")),
        launch=_launch(top.section("launch")),
        dtypes=_dtypes(top.section("dtypes")),
        unsupported=_unsupported(top.section("unsupported")),
        kernels=_kernels(top),
        laudnet=_laudnet(top.section("laudnet_compat")),
        calibration=MappingProxyType(dict(_mapping(top, "calibration"))),
        sources=MappingProxyType(top.sources),
        sha256=sha256,
        path=str(path),
        data=MappingProxyType(dict(data)),
    )
    top.done()
    if profile.precision not in profile.dtypes:
        raise top.error("precision", f"one of the device's dtypes: {', '.join(profile.dtypes)}")
    return profile


def _mapping(top: Fields, key: str) -> Mapping[str, Any]:
    value = top.raw(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise top.error(key, "a mapping of fields")
    return value


def _identity(fields: Fields) -> Identity:
    identity = Identity(
        vendor=fields.text("vendor", ""),
        product=fields.text("product", ""),
        architecture=fields.text("architecture", ""),
        compute_capability=fields.text("compute_capability", "", like=r"\d+\.\d+", wanted="text such as '8.6'"),
        host_arch=fields.text("host_arch", ""),
    )
    fields.done()
    return identity


def _toolchain(fields: Fields) -> Toolchain:
    names = ("jetpack", "cuda", "cudnn", "tensorrt", "onnxruntime", "python")
    toolchain = Toolchain(**{name: fields.text(name, "") for name in names}, notes=fields.texts("notes"))
    fields.done()
    return toolchain


def _compute(fields: Fields) -> Compute:
    compute = Compute(
        units=fields.number("units", least=1.0),
        lanes=fields.number("lanes"),
        clock_ghz=fields.number("clock_ghz"),
        max_threads=fields.number("max_threads", 0.0, zero=True),
        shared_kib=fields.number("shared_kib", 0.0, zero=True),
    )
    fields.done()
    return compute


def _memory(fields: Fields) -> Memory:
    memory = Memory(
        dram_gb_s=fields.number("dram_gb_s"),
        l2_gb_s=fields.number("l2_gb_s"),
        l1_kib=fields.number("l1_kib", 0.0, zero=True),
        l2_kib=fields.number("l2_kib"),
        l3_kib=fields.number("l3_kib", 0.0, zero=True),
        capacity_gib=fields.number("capacity_gib", 0.0, zero=True),
    )
    fields.done()
    return memory


def _launch(fields: Fields) -> Launch:
    launch = Launch(
        stream_us=fields.number("stream_us", zero=True),
        graph_us=fields.number("graph_us", zero=True),
        sync_us=fields.number("sync_us", zero=True),
    )
    fields.done()
    return launch


def _dtypes(fields: Fields) -> Mapping[str, DtypeRate]:
    # fp32 is always there: a CPU takes its rate from the host, elsewhere the missing key is named.
    entries = {name: fields.section(name) for name in DTYPES}
    fields.done()
    rates = {}
    for name, entry in entries.items():
        if entry.empty and name != "fp32":
            continue
        rates[name] = DtypeRate(entry.number("macs_per_cycle"), entry.text("engine", ""))
        entry.done()
    return MappingProxyType(rates)


def _unsupported(fields: Fields) -> Mapping[str, str]:
    reasons = {name: fields.text(name, "") for name in DTYPES}
    fields.done()
    return MappingProxyType({name: reason for name, reason in reasons.items() if reason})


def _kernels(top: Fields) -> tuple[KernelSet, ...]:
    value = top.raw("kernels")
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise top.error("kernels", "a list of {isa: TEXT, features: [TEXT, ...]}")
    return tuple(_kernel_set(top.nested(f"kernels[{index}]", item)) for index, item in enumerate(value))


def _kernel_set(fields: Fields) -> KernelSet:
    kernel = KernelSet(isa=fields.text("isa"), features=fields.texts("features"))
    fields.done()
    return kernel


def _laudnet(fields: Fields) -> LaudnetParameters | None:
    if fields.empty:
        return None
    parameters = LaudnetParameters(
        units=fields.number("units"),
        lanes=fields.number("lanes"),
        clock_hz=fields.number("clock_ghz") * 1e9,
        dram_bytes_s=fields.number("dram_gb_s") * 1e9,
        l2_factor=fields.number("l2_factor"),
        batch=fields.whole("batch", least=1),
        launch_s=fields.number("launch_us", zero=True) * 1e-6,
        pipeline_depth=fields.number("pipeline_depth"),
        coalescing=fields.number("coalescing"),
    )
    fields.done()
    return parameters


def _bad_profile(path: Path, why: str) -> UserError:
    return UserError(
        f"{path} is not a usable device profile",
        why,
        "compare it with a shipped profile: laudc devices show cpu, laudc devices show v100",
    )
