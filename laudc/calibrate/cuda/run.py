"""The calibration of a GPU: measure, or read what `scripts/gpu_check.sh` measured; fit; write the profile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laudc.calibrate.cuda.fit import TimedBlock, TimedNetwork, fit_gpu
from laudc.calibrate.cuda.setting import Setting, settings_for
from laudc.calibrate.design import Design, draw_designs, evenly_mixed
from laudc.calibrate.run import (
    MOST_SAMPLES,
    median_drift,
    most_disturbed,
    networks_by_family,
    require_quiet,
    take_samples,
    undisturbed_samples,
)
from laudc.calibrate.samples import Sample, SideFile
from laudc.devices import DeviceProfile, load_profile, save_profile, user_profile_path
from laudc.errors import UserError
from laudc.ops.scheduled import BlockRecord, Conv2Algorithm
from laudc.predict.families import FAMILIES, REGNET, RESNET, VIT
from laudc.predict.gpu.load import MODEL, VERSION
from laudc.predict.gpu.model import gpu_of

if TYPE_CHECKING:
    from laudc.calibrate.cuda.measure import CudaMeasurer

# Of all families together; three data types with two batches each make nearly as many samples as are allowed.
DEFAULT_NETWORKS = 48
# So many networks of each family: few coefficients are fitted, and to all families together.
LEAST_NETWORKS = {RESNET: 12, REGNET: 6, VIT: 6}

Progress = Callable[[str, float], None]

MEASURED_HERE = (
    "medians of CUDA events around replayed graphs of made-up networks of our kernels, weights from memory; relative "
    "least squares; errors and intervals on networks left out in turn"
)


@dataclass(frozen=True)
class CudaCalibration:
    """A finished calibration of a GPU.

    Attributes:
        path: of the profile that was written.
        gpu: name of the GPU.
        samples: networks timed, each in one data type and batch; `blocks` timed inside them.
        repeatability: median relative difference of networks measured twice; None where none were.
        held_out: by data type, errors of blocks and networks on networks that the fit has not seen.
    """

    path: Path
    gpu: str
    samples: int
    blocks: int
    repeatability: float | None
    held_out: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        names = ("gpu", "samples", "blocks", "repeatability")
        known = {name: getattr(self, name) for name in names}
        return {"path": str(self.path), **known, "held_out": dict(self.held_out)}


def calibrate_cuda(
    output: str | os.PathLike[str] | None = None,
    *,
    device: str | os.PathLike[str],
    networks: int = DEFAULT_NETWORKS,
    families: Sequence[str] = FAMILIES,
    force: bool = False,
    measurer: CudaMeasurer | None = None,
    progress: Progress = lambda step, share: None,
) -> CudaCalibration:
    """Measures the GPU of this machine with our own kernels and writes a device profile with what was fitted.

    Args:
        output: profile to write; None: the user's own place, where `--device NAME` finds it.
        device: profile of a CUDA device that the result extends; it must describe this machine's GPU.
        networks: how many networks are measured, of all families together, each in every data type and batch.
        families: which to measure, of `laudc.predict.families.FAMILIES`; predictions for the others stay modelled.
        force: write the profile even if the GPU was disturbed.
        measurer: what to measure with; None: the GPU of this machine.
        progress: called with the current step and its finished share.

    Raises:
        UserError: there is no CUDA device here, or another one than the profile's; the kernels are missing; options do
            not fit; or `output` cannot be written.
        CheckFailed: the GPU was too busy for a fit to be worth anything, and `force` is not set.
    """
    profile = load_profile(device)
    settings = settings_for(profile)
    measurer = _measurer(profile, settings) if measurer is None else measurer
    facts = measurer.facts()
    require_same_gpu(profile, facts)
    numbers = networks_by_family(families, networks, DEFAULT_NETWORKS, LEAST_NETWORKS)
    designs = evenly_mixed([draw_designs(count, family=family) for family, count in numbers.items()])
    most = MOST_SAMPLES // len(settings)
    if len(designs) > most:
        raise UserError(
            f"cannot calibrate with {networks} networks",
            f"{most} of them make {MOST_SAMPLES} samples, and no more are taken",
            f"use --networks {min(DEFAULT_NETWORKS, most)}",
        )
    path = Path(output) if output is not None else user_profile_path(profile.id)
    side = SideFile(path.with_name(path.name + ".part"), {**facts, "networks": numbers})
    path.parent.mkdir(parents=True, exist_ok=True)
    samples, repeats = take_samples(measurer, designs, range(1, len(settings) + 1), side, time.monotonic(), progress)
    progress("fitting", 0.97)
    repeatability = median_drift(samples, repeats)
    good = undisturbed_samples(samples)
    disturbed = most_disturbed(samples, good)
    require_quiet(repeatability, disturbed, force, side.path)
    used = good if len(good) > len(samples) / 2 else samples
    more = {"repeatability": repeatability, "disturbed": round(disturbed, 3)}
    result = fit_and_save(path, profile, timed_networks(designs, used, settings), facts, MEASURED_HERE, more)
    side.remove()
    return replace(result, samples=len(samples))


def _measurer(profile: DeviceProfile, settings: Sequence[Setting]) -> CudaMeasurer:
    from laudc.backends.cuda_kernels import KernelError, Library, library_path
    from laudc.backends.tensorrt.cuda import open_cuda
    from laudc.calibrate.cuda.measure import CudaMeasurer

    try:
        cuda = open_cuda()
    except UserError as error:
        raise UserError(
            f"the device '{profile.id}' cannot be calibrated here",
            f"a calibration measures the GPU of the machine it runs on, and {error.what}: {error.why}",
            "run laudc calibrate on the device itself, or give what scripts/gpu_check.sh measured there with "
            "--measurements results.json",
        ) from error
    path = library_path()
    try:
        return CudaMeasurer(cuda, Library(path), settings)
    except (OSError, KernelError) as error:
        raise UserError(f"the CUDA kernels {path} cannot be used", str(error), "build them for this GPU") from error


def require_same_gpu(profile: DeviceProfile, facts: Mapping[str, Any]) -> None:
    wanted = profile.identity.compute_capability
    if wanted and str(facts["sm"]) != wanted:
        raise UserError(
            f"the device '{profile.id}' was not measured",
            f"it is sm {wanted}; the GPU that was, {facts['gpu']}, is sm {facts['sm']}",
            "use --device with the profile of that GPU ('laudc devices' lists them)",
        )


def timed_networks(
    designs: Sequence[Design], samples: Sequence[Sample], settings: Sequence[Setting]
) -> list[TimedNetwork]:
    """What was measured, as the fit takes it."""
    by_index = {design.index: design for design in designs}
    found = []
    for sample in samples:
        blocks = []
        for (_, record), counts, ns in zip(
            by_index[sample.design].records(64), sample.counts, sample.block_ns, strict=True
        ):
            assert ns is not None
            direct = {"conv2_algorithm": Conv2Algorithm.DIRECT} if isinstance(record, BlockRecord) else {}
            blocks.append(TimedBlock(replace(record, **direct), counts, ns))  # type: ignore[arg-type]
        setting = settings[sample.threads - 1]
        found.append(TimedNetwork(sample.design, setting.precision, setting.batch, tuple(blocks), sample.total_ns))
    return found


def fit_and_save(
    path: Path,
    profile: DeviceProfile,
    networks: Sequence[TimedNetwork],
    facts: Mapping[str, Any],
    method: str,
    more: Mapping[str, Any],
) -> CudaCalibration:
    """Fits every data type that was measured and writes the profile."""
    import laudc

    plain = replace(profile, calibration={})
    models = [(name, gpu_of(plain, name)) for name in profile.dtypes]
    fits = fit_gpu(models, networks)
    blocks = sum(len(network.blocks) for network in networks)
    calibration = {
        "model": MODEL,
        "version": VERSION,
        "machine": dict(facts),
        "laudc": laudc.__version__,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "method": method,
        "samples": len(networks),
        **more,
        "fits": [{**fit.to_dict(), "held_out": errors} for fit, errors in fits],
    }
    save_profile(path, profile, calibration)
    held_out = {fit.precision: errors for fit, errors in fits}
    repeatability = more.get("repeatability")
    return CudaCalibration(path, str(facts["gpu"]), len(networks), blocks, repeatability, held_out)
