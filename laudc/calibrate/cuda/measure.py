"""Times made-up networks of our CUDA kernels on a GPU.

The blocks of a network follow each other as in an engine, so that weights come from memory; launches are replayed from
CUDA graphs, and CUDA events take the time. The runtime's own kernels (stem, head, dense blocks) are not measured.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import numpy as np

from laudc.backends.cuda_kernels import Io, Library
from laudc.calibrate.cuda.blocks import MadeBlock, made_blocks
from laudc.calibrate.cuda.setting import Setting
from laudc.calibrate.design import Design, draw_designs
from laudc.calibrate.pace import Pace
from laudc.calibrate.samples import Sample
from laudc.predict.decisions import mean_counts

if TYPE_CHECKING:
    from laudc.backends.tensorrt.cuda import Cuda

Array = np.ndarray

PANEL = 64
_WARMUP = 3
_LEAST_CALLS, _MOST_CALLS = 9, 60
_LEAST_SECONDS = 0.1


class CudaMeasurer:
    """The GPU of this machine. The `threads` of a sample are the number of a setting, from 1 on."""

    kinds: tuple[str, ...] = ("sparse",)

    def __init__(self, cuda: Cuda, library: Library, settings: Sequence[Setting]) -> None:
        self._cuda, self._library = cuda, library
        self.settings = tuple(settings)
        self._pace: _Network | None = None

    def facts(self) -> dict[str, Any]:
        """See `Measurer.facts`."""
        gpu = self._cuda.gpu()
        return {
            "gpu": gpu.name,
            "sm": gpu.sm,
            "kernels_sm": self._library.sm,
            "cuda": gpu.cuda,
            "driver": gpu.driver,
            "settings": [setting.name for setting in self.settings],
        }

    def measure(self, design: Design, kind: str, threads: int) -> Sample:
        """See `Measurer.measure`; times are medians of CUDA events, counts means over the images."""
        setting = self.settings[threads - 1]
        blocks = made_blocks(design, setting.batch, PANEL)
        with closing(_Network(self._cuda, self._library, blocks, setting)) as network:
            before = self._now()
            totals = network.time_all()
            singles = network.time_blocks(len(totals))
            after = self._now()
            counts = network.counts()
        low, middle, high = np.percentile(totals, (25, 50, 75))
        medians = np.median(singles, axis=0)
        return Sample(
            design.index,
            kind,
            threads,
            float(middle),
            float((high - low) / middle),
            0.0,  # what else runs on the GPU shows in the pace
            (before, after),
            tuple(counts),
            tuple(map(float, medians)),
        )

    def _now(self) -> Pace:
        """By a network that is always the same, in the plainest setting: it needs the GPU's clock, all its cores and
        its memory."""
        if self._pace is None:
            blocks = made_blocks(draw_designs(1)[0], 1, PANEL)
            self._pace = _Network(self._cuda, self._library, blocks, Setting("fp32", 1))
        taken = float(np.median(self._pace.time_all()))
        return Pace(taken, taken, taken)


class _Network:
    """Blocks on the GPU, each a run of its own with its own input."""

    def __init__(self, cuda: Cuda, library: Library, blocks: Iterable[MadeBlock], setting: Setting) -> None:
        self._cuda = cuda
        self._cleanup = ExitStack()
        try:
            self._runs = [_Run(cuda, library, block, setting, self._cleanup) for block in blocks]
            self._whole = self._replay(self._enqueue_all)
            self._single = [self._replay(run.enqueue) for run in self._runs]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Gives everything back."""
        self._cleanup.close()

    def _enqueue_all(self) -> None:
        for run in self._runs:
            run.enqueue()

    def _replay(self, work: Callable[[], Any]) -> Callable[[], Any]:
        work()
        self._cuda.wait()
        return self._cuda.capture(work) or work

    def time_all(self) -> Array:
        """Times of the whole network, (calls,) in ns."""
        for _ in range(_WARMUP):
            self._cuda.elapsed_us(self._whole)
        times: list[float] = []
        begin = time.perf_counter()
        while len(times) < _LEAST_CALLS or (time.perf_counter() - begin < _LEAST_SECONDS and len(times) < _MOST_CALLS):
            times.append(self._cuda.elapsed_us(self._whole) * 1e3)
        return np.asarray(times)

    def time_blocks(self, calls: int) -> Array:
        """Times of each block after the one before it, (calls, blocks) in ns."""
        return np.asarray([[self._cuda.elapsed_us(one) * 1e3 for one in self._single] for _ in range(calls)])

    def counts(self) -> list[tuple[float, ...]]:
        """Per block what its masks left, from the decisions on the GPU: means over the images."""
        return [run.counts() for run in self._runs]


class _Run:
    """One block."""

    def __init__(self, cuda: Cuda, library: Library, block: MadeBlock, setting: Setting, cleanup: ExitStack) -> None:
        self._cuda, self._library, self._cleanup, self._record = cuda, library, cleanup, block.record
        self._handle = library.create([block.record], setting.precision)
        cleanup.callback(library.get, "destroy", self._handle)
        element = np.float16 if setting.precision == "fp16" else np.float32
        outputs = setting.batch * block.outputs
        self._margins = np.zeros((setting.batch, int(library.get("margins", self._handle))), np.float32)
        self._packed = (ctypes.c_void_p * 1)(self._upload(block.packed))
        workspace = int(library.get("workspace_bytes", self._handle, setting.batch))
        prepared = self._allocate(int(library.get("prepared_bytes", self._handle)))
        library.call("prepare", self._handle, self._packed, prepared, cuda.stream)
        self._margins_at = self._allocate(self._margins.nbytes)
        self._io = Io(
            x=self._upload(block.x.astype(element)),
            packed=ctypes.cast(self._packed, ctypes.POINTER(ctypes.c_void_p)),
            prepared=prepared,
            y=self._allocate(outputs * np.dtype(element).itemsize),
            margins=self._margins_at if self._margins.size else None,
            margins_stride=self._margins.shape[1],
            workspace=self._allocate(workspace),
            workspace_bytes=workspace,
            batch=setting.batch,
        )

    def _allocate(self, size: int) -> int:
        address = self._cuda.allocate(max(1, size))
        self._cleanup.callback(self._cuda.free, address)
        return address

    def _upload(self, array: Array) -> int:
        address = self._allocate(array.nbytes)
        self._cuda.upload(address, np.ascontiguousarray(array))
        return address

    def enqueue(self) -> None:
        """Puts the block on the stream."""
        self._library.call("enqueue", self._handle, ctypes.byref(self._io), self._cuda.stream)

    def counts(self) -> tuple[float, ...]:
        """As `Sample.counts` has them."""
        if self._margins.size:
            self._cuda.download(self._margins, self._margins_at)
        return mean_counts(self._record, self._margins)
