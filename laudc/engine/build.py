"""From portable ONNX to an engine bundle."""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laudc.devices import DeviceProfile, Host, detect_host, load_profile
from laudc.engine.bundle import looks_like_bundle, member_record, open_bundle, write_bundle
from laudc.engine.manifest import (
    FORMAT,
    FORMAT_VERSION,
    GPU_BACKENDS,
    MODEL,
    ONNXRUNTIME_CUDA,
    PORTABLE,
    TENSORRT,
    WEIGHTS,
    BackendRecord,
    CpuRecord,
    DeviceRecord,
    Manifest,
    NativeRecord,
    SourceRecord,
    TensorRecord,
)
from laudc.engine.uncompiled import GPU_PANEL, check_precision, uncompiled_engine
from laudc.engine.weights import split_weights
from laudc.errors import UserError
from laudc.files import check_apart, sha256_bytes, sha256_file

if TYPE_CHECKING:
    import onnx

    from laudc.backends import Backend
    from laudc.predict.activation import Activation

# What each backend computes in.
PRECISIONS = {"onnxruntime": ("fp32",), ONNXRUNTIME_CUDA: ("fp32", "tf32"), TENSORRT: ("fp32", "tf32", "fp16")}
BACKENDS = tuple(PRECISIONS)
SCHEDULES = ("auto", "dense", "sparse")
_DEFAULT_PRECISION = "fp32"

Progress = Callable[[str], None]


@dataclass(frozen=True)
class BuildResult:
    """A finished engine: where it is and what it says about itself. `size` in bytes."""

    path: Path
    size: int
    manifest: Manifest


def build_engine(
    model: str | os.PathLike[str] | onnx.ModelProto,
    output: str | os.PathLike[str],
    *,
    device: str | os.PathLike[str] | None = None,
    backend: str = "auto",
    precision: str | None = None,
    schedule: str = "auto",
    activation: str | float | os.PathLike[str] | Activation | None = None,
    calibrate_images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
    batch: int | None = None,
    portable: bool = True,
    tensorrt: str | None = None,
    timing_cache: str | os.PathLike[str] | None = None,
    progress: Progress = lambda step: None,
) -> BuildResult:
    """Compiles a portable ONNX model (or an engine that carries one) for a device into the bundle `output`.

    Args:
        model: path of the ONNX file or of an engine, or the model itself.
        device: name of a device profile or path of one; "cpu" if not given. An engine for TensorRT is compiled as it
            was scheduled, on the device that it is for, unless another device is named here: then the model inside is
            built for that one.
        precision: arithmetic, one of `PRECISIONS`; "fp32" if not given, and of an engine that only has to be compiled
            what it was scheduled in.
        schedule: "auto" decides per block by predicted cost, "dense" and "sparse" force all blocks.
        activation: what the masks keep: a file that `laudc profile --save-activation` wrote, or a rate between 0 and
            1; half of everything if nothing is said.
        calibrate_images: folder or files whose masks are computed here and now, in place of `activation`.
        batch: images per call that the schedule is made for; the device's usual number if left out.
        tensorrt: version of TensorRT on the device; the profile's if not given.
        timing_cache: file with what TensorRT has measured before.
        portable: keep a copy of the portable model inside, for `--against-dense` and for rebuilding.
        progress: called with the name of each step as it begins.

    Raises:
        UserError: the model, the device or an option does not fit, the native library is missing, or `output`
            cannot be written. Nothing half-written is left.
    """
    if finishes(model, device):
        require_as_scheduled(
            model,
            backend=backend,
            precision=precision,
            schedule=schedule,
            activation=activation,
            calibrate_images=calibrate_images,
            batch=batch,
            portable=portable,
            tensorrt=tensorrt,
        )
        check_output(output, model, timing_cache)
        return _finish_bundle(model, output, timing_cache, progress)
    precision = _DEFAULT_PRECISION if precision is None else precision
    profile = load_profile("cpu" if device is None else device)
    _check_choice("backend", backend, ("auto", *BACKENDS), fix="leave --backend out")
    _check_choice("schedule", schedule, SCHEDULES, fix="use --schedule auto")
    name = chosen_backend(profile, backend)
    _check_backend_fits(profile, name)
    check_tensorrt_options(name, tensorrt=tensorrt, timing_cache=timing_cache)
    check_output(output, model, activation, profile.path, timing_cache)
    if name == TENSORRT:
        return _build_tensorrt(
            model,
            output,
            profile,
            precision,
            functools.partial(_activation, activation=activation, images=calibrate_images),
            batch,
            schedule,
            tensorrt,
            timing_cache,
            portable,
            progress,
        )
    _check_choice("precision", precision, PRECISIONS[name], fix="use --precision fp32")
    runtime = usable_backend(name)
    native, about = native_record(runtime), runtime.native_abi()
    cpu = kernels_record(profile, about["active"], detect_host()) if runtime.gpu() is None else None
    progress("reading the model")
    proto, serialized = read_portable(model)
    _check_has_our_ops(proto, model)

    from laudc.predict.models import images_per_call
    from laudc.schedule import lower, make_plan
    from laudc.schedule.forecast import chooser_for
    from laudc.schedule.lower_gpu import for_gpu, lower_onnxruntime_cuda

    progress("scheduling")
    images = images_per_call(batch, profile, fixed_batch(proto))
    chooser = None
    if cpu:
        measured = _activation(proto, serialized, activation, calibrate_images)
        chooser = chooser_for(profile, proto, measured, batch=images, isa=about["active"])
    plan = make_plan(proto, choice=schedule, panel=about.get("panel", GPU_PANEL), chooser=chooser)
    plan = plan if cpu else for_gpu(plan)
    scheduled = lower(proto, plan) if cpu else lower_onnxruntime_cuda(proto, plan, precision)
    manifest_parts = _describe(proto, serialized)
    del proto
    progress("compiling")
    weights = split_weights(scheduled)
    members = {MODEL: runtime.compile(scheduled), WEIGHTS: weights}
    if portable:
        members[PORTABLE] = serialized
    manifest = Manifest(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        laudc_version=_version(),
        device=DeviceRecord(profile.id, profile.sha256),
        backend=BackendRecord(name, runtime.version()),
        cpu=cpu,
        gpu=runtime.gpu(),
        native_library=native,
        precision=precision,
        schedule=plan.to_dict(),
        members={member: member_record(data) for member, data in members.items()},
        **manifest_parts,
    )
    progress("writing the engine")
    write_bundle(output, manifest, members)
    path = Path(output)
    return BuildResult(path, path.stat().st_size, manifest)


def _build_tensorrt(
    model: str | os.PathLike[str] | onnx.ModelProto,
    output: str | os.PathLike[str],
    profile: DeviceProfile,
    precision: str,
    make_activation: Callable[[onnx.ModelProto, bytes], Activation],
    batch: int | None,
    schedule: str,
    tensorrt: str | None,
    timing_cache: str | os.PathLike[str] | None,
    portable: bool,
    progress: Progress,
) -> BuildResult:
    """An uncompiled engine, and the compiled one where this machine is the device."""
    from laudc.predict.models import images_per_call
    from laudc.schedule import make_plan
    from laudc.schedule.forecast import chooser_for

    check_precision(profile, precision)
    progress("reading the model")
    proto, serialized = read_portable(model)
    _check_has_our_ops(proto, model)
    progress("scheduling")
    images = images_per_call(batch, profile, fixed_batch(proto))
    chooser = chooser_for(profile, proto, make_activation(proto, serialized), batch=images, precision=precision)
    plan = make_plan(proto, choice=schedule, panel=GPU_PANEL, chooser=chooser)
    here = _tensorrt_here(profile)
    manifest, members = uncompiled_engine(
        proto,
        serialized,
        plan,
        profile,
        _describe(proto, serialized),
        precision=precision,
        batch=images,
        tensorrt=tensorrt or here,
        keep_portable=portable,
    )
    progress("writing the engine")
    if here is None:
        write_bundle(output, manifest, members)
    else:
        manifest = _finish_here(manifest, members, output, timing_cache, progress)
    return BuildResult(Path(output), Path(output).stat().st_size, manifest)


def _finish_here(
    manifest: Manifest,
    members: dict[str, bytes],
    output: str | os.PathLike[str],
    timing_cache: str | os.PathLike[str] | None,
    progress: Progress,
) -> Manifest:
    """This machine is the device."""
    from laudc.engine.finish import finish_engine

    with tempfile.TemporaryDirectory(prefix="laudc-") as folder:
        uncompiled = os.path.join(folder, "uncompiled.laudc")
        write_bundle(uncompiled, manifest, members)
        return finish_engine(uncompiled, output, timing_cache=timing_cache, progress=progress)


def finishes(model: object, device: str | os.PathLike[str] | None) -> bool:
    """Whether building `model` for `device` means to compile an engine for TensorRT as it was scheduled.

    It has a plan already or not, and is for that device, or no other was named.
    """
    if not isinstance(model, (str, os.PathLike)) or not os.path.isfile(model) or not looks_like_bundle(model):
        return False
    manifest = open_bundle(model).manifest
    return manifest.backend.name == TENSORRT and (device is None or load_profile(device).id == manifest.device.id)


def require_as_scheduled(engine: Any, *, backend: str, precision: str | None, portable: bool, **others: Any) -> None:
    """Raises UserError for options of `build_engine` that would need an engine that `finishes` to be scheduled anew."""
    manifest = open_bundle(engine).manifest
    changed = [name for name, value in others.items() if value not in (None, "auto")]
    changed += ["backend"] if backend not in ("auto", manifest.backend.name) else []
    changed += ["precision"] if precision not in (None, manifest.precision) else []
    changed += [] if portable else ["no_portable"]
    if not changed:
        return
    options = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
    raise UserError(
        f"{engine} cannot be built with {options}",
        f"it is an engine for {manifest.device.id} ({manifest.precision}), which is compiled as it was scheduled",
        f"leave {options} out, or build anew from the ONNX file",
    )


def _finish_bundle(
    engine: Any, output: str | os.PathLike[str], timing_cache: str | os.PathLike[str] | None, progress: Progress
) -> BuildResult:
    from laudc.engine.finish import finish_engine

    manifest = finish_engine(engine, output, timing_cache=timing_cache, progress=progress)
    return BuildResult(Path(output), Path(output).stat().st_size, manifest)


def _tensorrt_here(profile: DeviceProfile) -> str | None:
    """Version of TensorRT if this machine can compile for the device: the same kind of GPU, and all that is needed."""
    from laudc import backends

    identity = profile.data.get("identity")
    wanted = str(identity.get("compute_capability", "")) if isinstance(identity, Mapping) else ""
    runtime = backends.get(TENSORRT)
    if not wanted or not runtime.is_available().ok:
        return None
    gpu = runtime.gpu()
    return runtime.version() if gpu is not None and gpu.sm == wanted else None


def _version() -> str:
    import laudc

    return laudc.__version__


def _check_backend_fits(profile: DeviceProfile, name: str) -> None:
    """Raises UserError for a device and a runtime that do not go together."""
    on_gpu = name in GPU_BACKENDS
    if on_gpu == (profile.kind != "cpu"):
        return
    raise UserError(
        f"engines for the backend {name} do not run on device '{profile.id}'",
        f"{name} needs a GPU, and this is a CPU" if on_gpu else f"{name} runs on the CPU, and this is a GPU",
        "leave --backend out, or use a device that fits ('laudc devices' lists them)",
    )


def chosen_backend(profile: DeviceProfile, backend: str) -> str:
    """The runtime of an engine for a device: `backend`, or the device's usual one for "auto"."""
    return profile.backend if backend == "auto" else backend


def check_tensorrt_options(backend: str, **for_tensorrt: str | os.PathLike[str] | None) -> None:
    """Raises UserError for options that only TensorRT heeds, of an engine for another runtime."""
    given = [f"--{name.replace('_', '-')}" for name, value in for_tensorrt.items() if value is not None]
    if given and backend != TENSORRT:
        raise UserError(
            f"{given[0]} does not fit an engine for {backend}", "only TensorRT heeds it", f"leave {given[0]} out"
        )


def check_output(output: str | os.PathLike[str], model: object, *others: object) -> None:
    """Raises UserError for a file that the engine is made from and would overwrite.

    An engine may be built anew in its place, as it carries the model. `others`: further files that are read.
    """
    is_engine = isinstance(model, (str, os.PathLike)) and os.path.isfile(model) and looks_like_bundle(model)
    for source in others if is_engine else (model, *others):
        check_apart(source, output)


def fixed_batch(model: onnx.ModelProto) -> int | None:
    """The only number of images that a model takes; None where it takes any."""
    images = tensor_record(model.graph.input[0]).shape[0]
    return images if isinstance(images, int) else None


def _activation(
    model: onnx.ModelProto,
    serialized: bytes,
    activation: str | float | os.PathLike[str] | Activation | None,
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None,
) -> Activation:
    from laudc.engine.trace import trace_images
    from laudc.schedule.blocks import Graph
    from laudc.schedule.forecast import read_activation
    from laudc.schedule.plan import block_records

    sha256 = sha256_bytes(serialized)
    if images is None:
        return read_activation(activation, block_records(Graph(model), 64), sha256)
    if activation is not None:
        raise UserError(
            "activation was given twice",
            "--activation and --calibrate-images both say what the masks keep",
            "leave one of them out",
        )
    return trace_images(model, sha256, [images] if isinstance(images, (str, os.PathLike)) else images)


def _check_choice(option: str, value: str, allowed: tuple[str, ...], *, fix: str) -> None:
    if value not in allowed:
        raise UserError(f"{option} '{value}' is not available in this version", f"it offers: {', '.join(allowed)}", fix)


def usable_backend(name: str) -> Backend:
    """The backend of that name, ready to use. Raises UserError when it is not."""
    from laudc import backends

    runtime = backends.get(name)
    available = runtime.is_available()
    if not available.ok:
        raise UserError(f"the backend {name} cannot be used", available.reason, "'laudc doctor' shows what is missing")
    return runtime


def read_portable(model: str | os.PathLike[str] | onnx.ModelProto) -> tuple[onnx.ModelProto, bytes]:
    """The portable model and its serialised form. Raises UserError for a file that holds none."""
    import onnx

    if isinstance(model, onnx.ModelProto):
        return model, model.SerializeToString()
    path = Path(model)
    try:
        raw = _portable_of_bundle(path) if looks_like_bundle(path) else path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {path}", error.strerror or str(error), "check the path and its permissions"
        ) from error
    return parse_onnx(raw, path), raw


def parse_onnx(raw: bytes, path: Path) -> onnx.ModelProto:
    """An ONNX model from its bytes. Raises UserError when they are not one; `path` is for the message."""
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(raw)
    except (DecodeError, ValueError) as error:
        raise UserError(
            f"{path} is not an ONNX model",
            "it cannot be parsed as one",
            "make one: laudc export CHECKPOINT -o MODEL.onnx",
        ) from error
    if not model.ir_version or not model.graph.node:
        raise UserError(
            f"{path} is not an ONNX model",
            "it has no graph",
            "make one: laudc export CHECKPOINT -o MODEL.onnx",
        )
    return model


def _portable_of_bundle(path: Path) -> bytes:
    bundle = open_bundle(path)
    if PORTABLE not in bundle:
        raise UserError(
            f"{path} does not carry its portable model",
            "it was built with --no-portable",
            "give the ONNX file that it was built from",
        )
    return bundle.read(PORTABLE)


def _check_has_our_ops(model: onnx.ModelProto, source: object) -> None:
    import onnx

    from laudc.ops import DOMAIN, check_contract

    if any(node.domain == DOMAIN for node in model.graph.node):
        check_contract(model)
        return
    shown = "the model" if isinstance(source, onnx.ModelProto) else str(source)
    raise UserError(
        f"{shown} has no dynamic blocks",
        f"none of its {len(model.graph.node)} nodes is of the domain {DOMAIN}",
        "export a LAUDNet checkpoint: laudc export CHECKPOINT -o MODEL.onnx",
    )


def metadata(model: onnx.ModelProto) -> dict[str, Any]:
    """The `laudc.*` metadata properties without their prefix, parsed; what is not JSON stays text."""
    values: dict[str, Any] = {}
    for item in model.metadata_props:
        if item.key.startswith("laudc."):
            try:
                values[item.key.removeprefix("laudc.")] = json.loads(item.value)
            except ValueError:
                values[item.key.removeprefix("laudc.")] = item.value
    return values


def _describe(model: onnx.ModelProto, serialized: bytes) -> dict[str, Any]:
    """The manifest's fields that come from the portable model."""
    known = metadata(model)
    return {
        "source": SourceRecord(sha256_bytes(serialized), known.get("checkpoint_sha256") or None),
        "arch": str(known.get("arch", "unknown")),
        "config": _mapping(known.get("config")),
        "preprocess": _mapping(known.get("preprocess")),
        "input": tensor_record(model.graph.input[0]),
        "outputs": tuple(map(tensor_record, model.graph.output)),
    }


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def tensor_record(info: onnx.ValueInfoProto) -> TensorRecord:
    """Name, type and shape of a graph input or output."""
    import onnx

    tensor = info.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?" for dim in tensor.shape.dim)
    return TensorRecord(info.name, dtype, shape)


def native_record(runtime: Backend) -> NativeRecord:
    """The native library as it is now. Raises UserError when it is not there."""
    about = runtime.native_abi()
    return NativeRecord(
        sha256=sha256_file(runtime.native_library_path()),
        abi=about["abi"],
        version=about["version"],
        isa=tuple(map(str, about.get("isa", about.get("sm", ())))),
    )


def kernels_record(profile: DeviceProfile, active: str, host: Host) -> CpuRecord:
    """The kernels that the library runs here, with the CPU features that the profile says they need.

    Raises UserError when the profile does not know these kernels.
    """
    for kernel in profile.data.get("kernels", ()):
        if kernel["isa"] == active:
            return CpuRecord(host.arch, active, tuple(kernel["features"]))
    raise UserError(
        f"the device profile '{profile.id}' does not describe the kernels that run here",
        f"the native library runs its '{active}' kernels on this CPU ({host.cpu})",
        "add them to the profile's 'kernels', or use --device cpu",
    )
