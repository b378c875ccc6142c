"""What `scripts/gpu_check.sh` measured on a machine without laudc, as measurements of a calibration."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from laudc.calibrate.cuda.fit import TimedBlock, TimedNetwork
from laudc.calibrate.cuda.run import CudaCalibration, fit_and_save, require_same_gpu
from laudc.devices import load_profile, user_profile_path
from laudc.errors import UserError
from laudc.files import check_apart
from laudc.ops.scheduled import BlockRecord, decode_blocks

_METHOD = (
    "medians of CUDA events around replayed graphs of single blocks (scripts/gpu_check.sh), weights in the cache where "
    "they fit; relative least squares; errors and intervals on stages and modes left out in turn"
)
SCHEMA_VERSION = 2
# So many blocks determine a fit.
_LEAST_BLOCKS = 12


def calibrate_from_file(
    measurements: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    device: str | os.PathLike[str],
) -> CudaCalibration:
    """Fits a CUDA device's profile to the blocks in results.json of `scripts/gpu_check.sh`; `output` as for
    `calibrate_cuda`.

    Raises UserError when the file cannot be read, is something else, is of another GPU than the profile's, or is the
    output.
    """
    profile = load_profile(device)
    path = Path(measurements)
    target = Path(output) if output is not None else user_profile_path(profile.id)
    check_apart(path, target)
    try:
        data = json.loads(path.read_text())
        facts, networks = _facts(data), _networks(data)
    except OSError as error:
        raise UserError(f"cannot read {path}", error.strerror or str(error), "check the path") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} holds no measurements of a GPU",
            f"{type(error).__name__}: {error}",
            "give the results.json of scripts/gpu_check.sh of this laudc",
        ) from error
    require_same_gpu(profile, facts)
    if len(networks) < _LEAST_BLOCKS:
        raise UserError(
            f"{path} holds too few measurements",
            f"{len(networks)} blocks can be used, {_LEAST_BLOCKS} are the least",
            "run scripts/gpu_check.sh without --quick",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    return fit_and_save(target, profile, networks, facts, _METHOD, {})


def _facts(data: Mapping[str, Any]) -> dict[str, Any]:
    if data["kind"] != "gpu-check" or data["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"it is {data['kind']!r}, version {data['schema_version']!r}")
    device = data["device"]
    sm = int(device["sm"])
    capability = f"{sm // 10}.{sm % 10}"
    return {"gpu": str(device["name"]), "sm": capability, "cuda": str(device["cuda"]), "torch": str(device["torch"])}


def _networks(data: Mapping[str, Any]) -> list[TimedNetwork]:
    """The rows with one known amount of work: a layer that is measured kept and skipped has none."""
    found = []
    for row in data["blocks"]:
        if row["counts"] is None:
            continue
        record = decode_blocks(row["record"], BlockRecord)[0]
        counts = tuple(float(value) for value in row["counts"])
        block = TimedBlock(record, counts, float(row["times"]["laudc"]["median_us"]) * 1e3)
        group = (row["stage"], row["mode"])
        found.append(TimedNetwork(group, str(row["precision"]), int(row["batch"]), (block,)))
    return found
