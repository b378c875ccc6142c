"""A loaded engine: call it with images."""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING, Any

from laudc.devices import detect_host
from laudc.engine.bundle import Bundle, open_bundle
from laudc.engine.compat import check_compatible, check_compiled
from laudc.engine.manifest import PLAN, Manifest
from laudc.engine.weights import read_weights
from laudc.errors import UserError

_MOST_THREADS = 1024

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from laudc.backends import Runner


class Engine:
    """A compiled network. Called with images, it returns its outputs as NumPy arrays, logits first.

    A context manager: leaving it releases the runtime's memory and threads. For one thread at a time.
    """

    def __init__(self, bundle: Bundle, runner: Runner) -> None:
        self._bundle = bundle
        self._runner: Runner | None = runner

    @property
    def manifest(self) -> Manifest:
        """What the bundle says about itself."""
        return self._bundle.manifest

    @property
    def bundle(self) -> Bundle:
        """The file the engine was loaded from."""
        return self._bundle

    @property
    def input_shape(self) -> tuple[int | str, ...]:
        """(batch, channels, height, width); batch is a number only when it is fixed."""
        return self.manifest.input.shape

    def __call__(self, images: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        """Runs the network on normalised float32 NCHW images. Raises UserError for another type or shape."""
        self._check_images(images)
        outputs: tuple[NDArray[Any], ...] = tuple(self._open_runner().run(images))
        return outputs

    @property
    def block_names(self) -> list[str]:
        """The blocks that `active_counts` and `block_times_ns` tell about, in forward order."""
        return self._open_runner().block_names

    @property
    def active_counts(self) -> NDArray[np.int32] | None:
        """What the last call computed, int32 (batch, blocks, 4); None before the first call.

        Per image and block: conv1 rows, conv2 and conv3 rows, kept spatial mask cells, kept channel groups. Of a
        transformer block: tokens whose attention and whose MLP were computed, kept tokens, kept heads.
        """
        return self._open_runner().last_counts

    @property
    def block_times_ns(self) -> NDArray[np.int64] | None:
        """Wall time of each block in the last call, in nanoseconds; None before the first call."""
        return self._open_runner().block_times_ns

    def gpu_time_us(self, images: NDArray[np.float32]) -> float | None:
        """GPU time of one run in microseconds, copies left out; None for an engine that the caller's clock measures."""
        clock = getattr(self._open_runner(), "time_us", None)
        if clock is None:
            return None
        self._check_images(images)
        return float(clock(images))

    def layer_times_us(self, runs: int) -> dict[str, list[float]]:
        """Times of the compiled engine's layers, from the runtime's profiler; empty where it has no such layers."""
        profiler = getattr(self._open_runner(), "layer_times_us", None)
        return {} if profiler is None else dict(profiler(runs))

    def trace(self, images: NDArray[np.float32]) -> tuple[NDArray[Any], dict[str, dict[str, NDArray[Any]]]]:
        """The logits, and per block the margins of its decisions: `spatial_margin` and `channel_margin`, or of a
        transformer block `token_margin`, `head_margin` and `layer_margin`, as far as it has them.

        A margin is keep minus drop: a decision keeps from 0 on, in transformers above 0
        (`laudc.ops.names.kept`). Slower than a call.
        """
        self._check_images(images)
        return self._open_runner().trace(images)

    def close(self) -> None:
        """Releases the runtime; calling the engine afterwards is an error. Closing twice is not."""
        self._runner = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_runner(self) -> Runner:
        if self._runner is None:
            raise UserError(
                "the engine is closed",
                "it was used after its 'with' block or close()",
                "load it again with laudc.load_engine",
            )
        return self._runner

    def _check_images(self, images: NDArray[np.float32]) -> None:
        wanted = f"a float32 array of shape {self._shape_text()}"
        dtype, shape = getattr(images, "dtype", None), getattr(images, "shape", None)
        if dtype is None or shape is None:
            raise UserError(
                f"the engine takes {wanted}",
                f"it was given {type(images).__name__}",
                "convert it with numpy.asarray",
            )
        if dtype != "float32":
            raise UserError(
                f"the engine takes {wanted}",
                f"it was given {dtype}",
                "convert it with .astype(numpy.float32) after normalising",
            )
        if len(shape) != 4:
            fix = (
                "add the batch dimension: images[None]"
                if len(shape) == 3
                else "give (batch, channels, height, width)"
            )
            raise UserError(
                f"the engine takes {wanted}", f"it was given {len(shape)} dimensions: {tuple(shape)}", fix
            )
        if shape[0] < 1:
            raise UserError(
                f"the engine takes {wanted}", "it was given an empty batch", "give at least one image"
            )
        if any(
            isinstance(want, int) and want != got for want, got in zip(self.input_shape, shape, strict=True)
        ):
            raise UserError(
                f"the engine takes {wanted}",
                f"it was given {tuple(shape)}",
                "resize the images, or export the network for this size (laudc export --input-size)",
            )

    def _shape_text(self) -> str:
        return "(" + ", ".join(map(str, self.input_shape)) + ")"


def load_engine(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    change: Callable[[onnx.ModelProto], onnx.ModelProto] = lambda graph: graph,
    spin_us: int | None = None,
) -> Engine:
    """Loads an engine after checking the file and that this machine can run it.

    Args:
        path: the bundle that `build_engine` wrote.
        threads: threads of the runtime's pool; None lets the runtime choose (one per core).
        change: makes the graph that is run of the bundle's, such as one with further outputs; an engine that its
            runtime has compiled ahead has none and stays as it is.
        spin_us: how long threads of a CPU wait busily for more work after a call, in microseconds; None lets the
            runtime choose.

    Raises:
        UserError: the bundle is damaged, or was built for another CPU, runtime or library version; the
            message names the first field that differs and the command that rebuilds it.
    """
    if threads is not None and not 1 <= threads <= _MOST_THREADS:
        raise UserError(
            f"an engine cannot run with {threads} threads",
            "at least one is needed" if threads < 1 else f"{_MOST_THREADS} are the most",
            "leave it out for one per core",
        )
    from laudc.engine.build import usable_backend

    bundle = open_bundle(path)
    check_compiled(path, bundle.manifest)
    runtime = usable_backend(bundle.manifest.backend.name)
    check_compatible(
        path,
        bundle.manifest,
        host=detect_host(),
        backend_version=runtime.version(),
        native=runtime.native_abi(),
        gpu=runtime.gpu(),
    )
    if PLAN in bundle:
        return Engine(bundle, runtime.load(bundle.read(PLAN), schedule=bundle.manifest.blocks))
    graph, weights = read_weights(bundle)
    model, folder = change(graph).SerializeToString(), bundle.path.resolve().parent
    return Engine(bundle, runtime.load(model, threads=threads, weights=weights, weights_folder=folder, spin_us=spin_us))
