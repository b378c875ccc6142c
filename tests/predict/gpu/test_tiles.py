"""The cut of GEMMs: what the model says must be what the kernels' sources say, and what they do."""

from __future__ import annotations

import ctypes
import re
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from laudc.calibrate.cuda.blocks import made_blocks
from laudc.calibrate.cuda.measure import _Run
from laudc.calibrate.cuda.setting import Setting
from laudc.devices import load_profile
from laudc.ops.scheduled import ChannelMasker
from laudc.ops.scheduled_vit import WIDEST_GPU_HEAD
from laudc.predict.families import FAMILIES, RESNET
from laudc.predict.gpu import attention, gemm, images, launch, model, regnet, tiles
from laudc.predict.gpu.model import GpuModel, gpu_of
from laudc.predict.interface import Place
from laudc.predict.network import batches
from laudc.predict.work import full_work, work_of_row
from tests.cuda.support import HostCuda, emulated_kernels, small_design

CUDA = Path("plugins/cuda")
_SHAPES = {"Small": "small", "Tall": "tall", "Big": "big"}


def _source(name: str) -> str:
    return (CUDA / name).read_text()


def _number(source: str, pattern: str) -> int:
    found = re.findall(pattern, source)
    assert len(found) == 1, f"{pattern} is there {len(found)} times"
    return int(found[0])


def test_the_tiles_are_those_of_the_kernels() -> None:
    shapes = _source("shapes.h")
    simt = re.findall(r"typedef SimtShape<(\d+), (\d+)> Simt(\w+);", shapes)
    mma = re.findall(r"typedef MmaShape<(\d+), (\d+), (\d+), (\d+), (\d+)> Mma(\w+);", shapes)
    assert "kThreads = kTileM * kTileN / 64" in _source("gemm_simt.cuh")
    assert "kThreads = kWarpsM * kWarpsN * kWarp" in _source("gemm_mma.cuh")
    assert {
        _SHAPES[name]: tiles.Tile(int(m), int(n), int(m) * int(n) // 64) for m, n, name in simt
    } == tiles.SIMT_TILES
    assert {
        _SHAPES[name]: tiles.Tile(int(m), int(n), int(down) * int(across) * launch.WARP)
        for m, n, down, across, _, name in mma
    } == tiles.MMA_TILES
    ahead = {int(stages) - 1 for *_, stages, _ in mma}
    sm80 = gpu_of(load_profile("h200"), "fp16")
    assert {tiles.cut_gemm(sm80, segments=1, rows=9, depth=9, columns=9).ahead} == ahead


def test_the_steps_are_those_of_the_kernels() -> None:
    assert _number(_source("gemm_simt.cuh"), r"kStep = (\d+);") == tiles._SIMT_STEP
    stage = _source("gemm_mma.cuh")
    vector = _number(stage, r"kVector = (\d+) / static_cast<int>\(sizeof\(T\)\)")
    vectors = _number(stage, r"kStep = (\d+) \* kVector")
    assert vector * vectors == tiles._MMA_STEP_BYTES


def test_the_rules_are_those_of_the_launches() -> None:
    source = _source("gemm_tiles.cpp")
    assert _number(source, r"kShortest = (\d+);") == tiles._SHORTEST_SPLIT
    assert _number(source, r"steps / kShortest, (\d+)\}") == tiles._MOST_SPLITS
    assert _number(source, r"return (\d+) \* multiprocessors; \}") == tiles._SPLIT_TILES_PER_UNIT
    assert _number(source, r"std::max\(1, (\d+) / size.threads\)") == tiles._THREADS_PER_UNIT
    small = _number(source, r"kSmallTile = (\d+);")
    times = _number(source, r"INT64_C\((\d+)\) \* multiprocessors \* kSmallTile \* kSmallTile")
    assert times * small**2 == tiles._PARTIAL_FLOATS_PER_UNIT
    run = _source("run.cpp")
    assert _number(run, r"kFirstVoltaSm = (\d+)") == model._FIRST_HALF_SM
    assert model._FIRST_TENSOR_SM["tf32"] == tiles._FIRST_BACKGROUND_SM == _number(run, r"kFirstMmaSm = (\d+)")


def test_the_other_kernels_are_shaped_like_their_sources() -> None:
    grouped, lists, heads = _source("grouped_conv.cuh"), _source("lists.cuh"), _source("attention.cuh")
    assert _number(grouped, r"kGroupedThreads = (\d+);") == regnet.GROUPED_THREADS
    assert _number(grouped, r"kNarrowGroup = (\d+)") == regnet.NARROW_GROUP
    assert _number(grouped, r"kWideGroup = (\d+)") == regnet.WIDE_GROUP
    assert _number(lists, r"kListThreads = (\d+);") == images.LIST_THREADS
    excitation = _source("excitation.cuh")
    assert _number(excitation, r"kExciteThreads = (\d+);") == images.LIST_THREADS
    assert _number(_source("tokens.cuh"), r"kNormThreads = (\d+);") == images.LIST_THREADS
    assert _number(heads, r"kAttentionWarps = (\d+);") == attention.ATTENTION_WARPS
    assert WIDEST_GPU_HEAD == _number(heads, r"kWidestHead = (\d+);") == attention.WIDE_HEADS.features
    assert _number(_source("vit_run.cpp"), r"kWidestHead = (\d+);") == WIDEST_GPU_HEAD
    slots = {name: int(number) for number, name in re.findall(r"AttentionShape<(\d+)> (\w+);", heads)}
    few, most, fewer = map(int, re.findall(r"kQueries = kSlots <= (\d+) \? (\d+) : (\d+);", heads)[0])
    for shape, name in ((attention.NARROW_HEADS, "NarrowHeads"), (attention.WIDE_HEADS, "WideHeads")):
        assert shape.features == slots[name] * launch.WARP
        assert shape.queries == (most if slots[name] <= few else fewer)
    for name in ("regnet_run.cpp", "vit_call.cpp"):
        assert _number(_source(name), r"kBlocksPerMultiprocessor = (\d+);") == images.BLOCKS_PER_UNIT
    assert _number(_source("workspace.cpp"), r"kChunksPerMultiprocessor = (\d+);") == images._CHUNKS_PER_UNIT


class _Emulated:
    """Runs small blocks on an emulated GPU, and asks what was launched."""

    def __init__(self, sm: int, units: int) -> None:
        self.library = emulated_kernels()
        self.library.device.sm, self.library.device.multiprocessors = sm, units
        self._counters = ctypes.CDLL(str(Path("build/native/plugins/tests/liblaudc_cuda_emulation.so").resolve()))
        self._counters.laudc_emulated_launches.restype = ctypes.c_int64

    def _counted(self) -> Counter[str]:
        gemms = self._counters.laudc_emulated_gemms
        found = {name: sum(gemms(kind, at) for kind in range(7)) for at, name in enumerate(("small", "tall", "big"))}
        found["split"] = self._counters.laudc_emulated_split_gemms()
        return Counter({**found, "launches": self._counters.laudc_emulated_launches()})

    def counted(self, block, setting: Setting) -> tuple[Counter[str], tuple[float, ...]]:
        """What a call launches, and what its decisions left."""
        with ExitStack() as cleanup:
            run = _Run(HostCuda(), self.library, block, setting, cleanup)
            before = self._counted()
            run.enqueue()
            return self._counted() - before, run.counts()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("sm", "units", "precision"), [(53, 1, "fp16"), (70, 4, "fp16"), (86, 1, "tf32"), (80, 40, "fp32")]
)
def test_the_launches_are_those_that_the_c_interface_makes(family, sm, units, precision, monkeypatch) -> None:
    emulated, setting = _Emulated(sm, units), Setting(precision, 2)
    cuts: list[tiles.Cut] = []

    def noted(*given, **named) -> tiles.Cut:
        cuts.append(tiles.cut_gemm(*given, **named))
        return cuts[-1]

    monkeypatch.setattr(gemm, "cut_gemm", noted)
    device = {53: "nano", 70: "v100", 86: "rtx3090", 80: "h200"}[sm]
    on = GpuModel(replace(gpu_of(load_profile(device), precision), sm=sm, units=units))
    seen: Counter[str] = Counter()
    for block in made_blocks(small_design(family), setting.batch, 64):
        done, counts = emulated.counted(block, setting)
        cuts.clear()
        work = work_of_row(block.record, counts)
        launches = on.launches(block.record, work, Place(), batches(1, setting.batch))
        assert len(launches) == done["launches"]
        names = {id(tile): name for table in (tiles.SIMT_TILES, tiles.MMA_TILES) for name, tile in table.items()}
        expected = Counter(names[id(cut.tile)] for cut in cuts)
        # The library counts the tall tile of multiply-adds as the big one, which they do not have.
        tall = done["tall"] + (0 if on.gpu.tensor_cores else done["big"])
        big = done["big"] if on.gpu.tensor_cores else 0
        assert (expected["small"], expected["tall"], expected["big"]) == (done["small"], tall, big)
        assert sum(cut.splits > 1 for cut in cuts) == done["split"]
        seen += expected
    assert units > 1 or set(seen) - {"small"}, "the blocks do not try enough"


def test_of_several_shapes_the_largest_that_keeps_all_busy_is_taken() -> None:
    gpu = gpu_of(load_profile("h200"), "fp16")

    def name(rows: int, columns: int) -> str:
        cut = tiles.cut_gemm(gpu, segments=1, rows=rows, depth=256, columns=columns)
        return next(name for name, tile in tiles.MMA_TILES.items() if tile == cut.tile)

    busy = 2 * gpu.units
    assert name(128 * busy, 128) == "big"
    assert name(128 * busy, 64) == "tall"
    assert name(128 * (busy - 1), 128) == "tall"
    assert name(64 * busy, 64) == "small"
    few = tiles.cut_gemm(gpu, segments=1, rows=49, depth=512, columns=512, taps=9)
    assert few.splits == min(gpu.units // 8, 9 * 16 // 8, 16) and few.tile == tiles.MMA_TILES["small"]


def test_the_convolution_of_a_masker_has_a_launch_of_its_own() -> None:
    block = next(made_blocks(small_design(RESNET), 1, 64)).record
    with_masker = replace(block, mask_groups=0, channel_groups=16, channel_masker=ChannelMasker.CONV, masker_hidden=16)
    names = {}
    for precision in ("fp32", "fp16"):
        on = GpuModel(gpu_of(load_profile("h200"), precision))
        launches = on.launches(with_masker, full_work(with_masker), Place(), batches(1, 2))
        names[precision] = [one.name for one in launches]
        # In fp32 whatever the data type.
        assert launches[0].on_gemm_units == (precision == "fp32")
    assert names["fp32"] == names["fp16"] == ["hidden map", "masker", "projection", "conv1", "conv2", "conv3"]
