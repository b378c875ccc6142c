"""What `laudc-runner build` does, in Python: an uncompiled engine, compiled for the GPU of this machine."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from laudc.backends.tensorrt import TensorRt
from laudc.devices.tensorrt import major
from laudc.engine.bundle import Bundle, member_record, open_bundle, write_bundle
from laudc.engine.compat import check_compiled
from laudc.engine.manifest import MODEL, PLAN, TENSORRT, WEIGHTS, BackendRecord, Manifest, NativeRecord
from laudc.errors import UserError
from laudc.files import sha256_file

Progress = Callable[[str], None]


def finish_engine(
    engine: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    timing_cache: str | os.PathLike[str] | None = None,
    progress: Progress = lambda step: None,
) -> Manifest:
    """Compiles an engine for TensorRT here, for the first time or anew, and writes it to `output`.

    Args:
        timing_cache: file with what TensorRT has measured before, which makes building fast; the default lies in the
            user's cache folder, one per TensorRT version and kind of GPU.

    Raises:
        UserError: the engine is for another runtime, another TensorRT major or another ABI of the plugins, TensorRT
            cannot be used here, or compiling fails. Nothing half-written is left.
    """
    from laudc.engine.build import usable_backend

    bundle = open_bundle(engine)
    try:
        runtime = usable_backend(TENSORRT)
    except UserError as error:
        # An engine that is complete needs TensorRT all the same; another one most likely is on the wrong machine.
        check_compiled(engine, bundle.manifest)
        raise error
    assert isinstance(runtime, TensorRt)
    _check_fits(bundle, runtime)
    cache = os.fspath(timing_cache) if timing_cache is not None else _default_cache(runtime)
    plan = _compile(bundle, runtime, cache, progress)
    about = runtime.native_abi()
    kept = {name: bundle.read(name) for name in bundle.manifest.members if name != PLAN}
    members = {**kept, PLAN: plan}
    manifest = dataclasses.replace(
        bundle.manifest,
        compiled=True,
        gpu=runtime.gpu(),
        backend=BackendRecord(TENSORRT, runtime.version()),
        native_library=NativeRecord(
            sha256_file(runtime.native_library_path()),
            about["abi"],
            about["version"],
            tuple(map(str, about.get("sm", ()))),
        ),
        members={name: member_record(data) for name, data in members.items()},
    )
    progress("writing the engine")
    write_bundle(output, manifest, members)
    return manifest


def _check_fits(bundle: Bundle, runtime: TensorRt) -> None:
    manifest, path = bundle.manifest, bundle.path
    if manifest.backend.name != TENSORRT:
        raise UserError(
            f"{path} is no engine for TensorRT",
            f"it was built for {manifest.backend.name} on {manifest.device.id}",
            "build one with laudc build-engine for a device with a GPU",
        )
    if major(manifest.backend.version) != major(runtime.version()):
        raise UserError(
            f"{path} was written for another TensorRT",
            f"field 'backend.version': the engine is for {manifest.backend.version}, here it is {runtime.version()}",
            f"write it again: laudc build-engine MODEL.onnx --device {manifest.device.id} "
            f"--tensorrt {runtime.version()}",
        )
    found = runtime.native_abi()["abi"]
    if manifest.native_library.abi != found:
        raise UserError(
            f"{path} was built for another plugin library",
            f"field 'native_library.abi': the engine has {manifest.native_library.abi}, the library {found}",
            "write the engine again with this version of laudc",
        )


def _compile(bundle: Bundle, runtime: TensorRt, cache: str, progress: Progress) -> bytes:
    from laudc.backends.tensorrt.compile import CompileRequest, compile_plan
    from laudc.engine.build import parse_onnx
    from laudc.schedule.lower_gpu import run_nodes

    manifest = bundle.manifest
    assert manifest.request is not None
    model = bundle.read(MODEL)
    request = CompileRequest(
        files={MODEL: model, WEIGHTS: bundle.read(WEIGHTS)},
        model=MODEL,
        input_name=manifest.input.name,
        input_shape=tuple(size if isinstance(size, int) else -1 for size in manifest.input.shape),
        batch=manifest.request.batch,
        workspace_mib=manifest.request.workspace_mib,
        precision=manifest.precision,
        runs=len(run_nodes(parse_onnx(model, bundle.path))),
        timing_cache=cache,
    )
    return compile_plan(request, runtime.native_library_path(), progress=progress)


def _default_cache(runtime: TensorRt) -> str:
    """The same file that laudc-runner uses."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "laudc"
    base.mkdir(parents=True, exist_ok=True)
    return str(base / f"timing-trt{runtime.version()}-sm{runtime.gpu().sm}.cache")
