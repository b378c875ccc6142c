"""What every backend offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from laudc.devices.gpu import GpuRecord


@dataclass(frozen=True)
class Availability:
    """Whether a backend can be used here; `reason` says why not."""

    ok: bool
    reason: str = ""


def join_outputs(outputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """A network's outputs (B, ...) as one array: the only one as it is, several as one row per image."""
    import numpy as np

    if len(outputs) == 1:
        return outputs[0]
    return np.concatenate([output.reshape(len(output), -1) for output in outputs], axis=1)


class Runner(Protocol):
    """A loaded engine."""

    def run(self, images: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        """Runs float32 NCHW images; returns the network's outputs, logits first."""

    @property
    def last_counts(self) -> NDArray[np.int32] | None:
        """(batch, blocks, 4) of the last run: conv1 rows, conv2/3 rows, kept mask cells, kept channel groups; of
        transformer blocks attended tokens, tokens in the MLP, kept tokens, kept heads.
        """

    @property
    def block_times_ns(self) -> NDArray[np.int64] | None:
        """(blocks,) wall time of each block in the last run, nanoseconds."""

    @property
    def block_names(self) -> list[str]:
        """Names of the blocks in `last_counts` and `block_times_ns`."""

    def trace(self, images: NDArray[np.float32]) -> tuple[NDArray[Any], dict[str, dict[str, NDArray[Any]]]]:
        """Joined outputs, and per block `spatial_margin` (B,gs,mh,mw) and `channel_margin` (B,g), keep − drop, or
        `token_margin` (B,L-1), `head_margin` (B,h) and `layer_margin` (B,2), as far as the block has them.
        """


class Backend(Protocol):
    """A runtime that compiles and runs scheduled models."""

    name: str

    def is_available(self) -> Availability:
        """Whether it can be used on this machine."""

    def version(self) -> str:
        """Exact version of the runtime."""

    def check_env(self) -> list[tuple[str, bool, str]]:
        """(what was checked, whether it is fine, detail) for `laudc doctor`."""

    def compile(self, scheduled: onnx.ModelProto) -> bytes:
        """The compiled form of a scheduled model, for the bundle."""

    def load(
        self,
        model: bytes,
        *,
        threads: int | None = None,
        weights: Mapping[str, NDArray[Any]] | None = None,
        weights_folder: Path | None = None,
        schedule: Sequence[Mapping[str, Any]] = (),
        spin_us: int | None = None,
    ) -> Runner:
        """Makes a compiled model ready to run.

        `weights` are its external initializers, used where they are without a copy; their file must lie in
        `weights_folder`. `schedule` are the manifest's blocks, for runtimes whose compiled form does not name them.
        `spin_us` is how long threads of a CPU wait busily for more work after a call; None: as long as the runtime
        likes.
        """

    def gpu(self) -> GpuRecord | None:
        """The GPU that it runs on; None for a runtime on the CPU."""

    def native_library_path(self) -> Path:
        """The native library the engine needs."""

    def native_abi(self) -> dict[str, Any]:
        """What the native library says about itself and this CPU."""
