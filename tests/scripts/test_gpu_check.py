"""The GPU check without a GPU: geometry, chosen rates, the reference, the binding's layout, the report, the script."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from gpu_check import __main__ as command  # noqa: E402
from gpu_check import cases, measure, native, numerics, report  # noqa: E402
from gpu_check.jobs import Job, Stopped, Worker  # noqa: E402
from gpu_check.journal import FAILED, SKIPPED, Journal  # noqa: E402
from gpu_check.reference import DenseBlock, exact_margins, masked_block  # noqa: E402
from gpu_check.weights import make_block  # noqa: E402

from laudc.ops.scheduled import BlockRecord, ChannelMasker  # noqa: E402

SMALL = {
    "spatial": BlockRecord(16, 8, 16, 1, 8, 8, 0, 1, 4, 4),
    "layer": BlockRecord(16, 8, 16, 1, 8, 8, 0, 1, 1, 1),
    "channel": BlockRecord(16, 8, 16, 1, 8, 8, 0, channel_groups=4, channel_masker=ChannelMasker.LINEAR),
    "both": BlockRecord(16, 8, 32, 2, 8, 8, 1, 1, 2, 2, 4, ChannelMasker.LINEAR),
}


def _input(record, batch=4):
    random = np.random.default_rng(1)
    return np.abs(random.standard_normal((batch, record.cin, record.hin, record.win))).astype(np.float32)


class FakeRun:
    """In place of the kernels: the reference itself, on the CPU, in the layout of the kernels."""

    def __init__(self, library, records, packed, *, precision, batch, device):
        self.records, self.dtype = records, torch.float16 if precision == "fp16" else torch.float32
        self.blocks = [library.blocks[tuple(vars(record).items())] for record in records]
        self.margins = torch.zeros((batch, max(1, sum(record.margins for record in records))))
        self.counts = torch.zeros((batch, len(records), 4), dtype=torch.int32)
        self.wrong = library.wrong

    def __call__(self, x):
        value, at = x.permute(0, 3, 1, 2).float(), 0
        for index, block in enumerate(self.blocks):
            margins = exact_margins(block, value).float()
            self.margins[:, at : at + block.record.margins] = margins
            cells = block.record.spatial_cells
            self.counts[:, index, 2] = (margins[:, :cells] >= 0).sum(1)
            self.counts[:, index, 3] = (margins[:, cells:] >= 0).sum(1)
            value, at = masked_block(block, value, margins), at + block.record.margins
        return value.permute(0, 2, 3, 1).to(self.dtype) + self.wrong

    def close(self):
        pass


class FakeLibrary:
    """Hands the blocks that are made to the runs that pretend to compute them."""

    def __init__(self, monkeypatch, wrong=0.0):
        self.blocks, self.wrong = {}, wrong
        for module in (measure, numerics):
            monkeypatch.setattr(module, "make_block", self._make)

    def _make(self, record, *arguments, **options):
        block = make_block(record, *arguments, **options)
        self.blocks[tuple(vars(record).items())] = block
        return block


@pytest.mark.parametrize("mode", SMALL)
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 1.0])
def test_maskers_keep_what_was_asked_for(mode, rate):
    record = SMALL[mode]
    x = torch.from_numpy(_input(record))
    margins = exact_margins(make_block(record, rate, x), x).numpy()
    cells = record.spatial_cells
    if cells:
        assert (margins[:, :cells] >= 0).mean() == rate
    if record.channel_groups:
        kept = (margins[:, cells:] >= 0).sum(1)
        assert (kept == max(1, round(rate * record.channel_groups))).all()


def test_one_image_is_decided_as_a_whole():
    record, x = SMALL["layer"], torch.from_numpy(_input(SMALL["layer"], 1))
    for keep in (True, False):
        block = make_block(record, 0.5, x, keep_layer=keep)
        assert bool(exact_margins(block, x)[0, 0] >= 0) is keep


def test_dense_weights_do_not_depend_on_the_masks():
    """One dense block is measured against all modes and rates."""
    record = SMALL["channel"]
    x = torch.from_numpy(_input(record))
    one = make_block(record, 0.25, x)
    for mode in ("spatial", "layer"):
        other = make_block(SMALL[mode], 1.0, x)
        for name in ("conv1", "conv2", "conv3"):
            for mine, its in zip(getattr(one.weights, name), getattr(other.weights, name), strict=True):
                np.testing.assert_array_equal(mine, its)


def test_the_reference_is_the_dense_block_when_everything_is_kept():
    for record in SMALL.values():
        x = torch.from_numpy(_input(record))
        block = make_block(record, 1.0, x)
        dense = DenseBlock(block)(x)
        torch.testing.assert_close(masked_block(block, x, torch.ones(len(x), record.margins)), dense)
        if record.spatial_cells:
            dropped = masked_block(block, x, -torch.ones(len(x), record.margins))
            assert dropped.shape == dense.shape and not torch.equal(dropped, dense)


def test_cases_fit_the_kernels_records():
    listed = list(cases.block_cases(quick=False))
    assert len({case.name for case in listed}) == len(listed) and len(listed) > 200
    for case in listed:
        record = case.record
        assert record.hout == cases.STAGES[case.stage][3]
        if case.granularity:
            assert record.mask_h * case.granularity == record.hout
    network = cases.network_records("both")
    assert len(network) == 33
    for before, after in itertools.pairwise(network):
        assert (before.cout, before.hout) == (after.cin, after.hin)
    assert {case.batch for case in cases.block_cases(quick=True)} == set(cases.BATCHES)
    macs = sum(map(cases.block_macs, network))
    assert 7.5e9 < macs < 7.8e9  # ResNet-101 has 7.8 thousand million, stem and head included


def _small_case(monkeypatch, mode):
    monkeypatch.setattr(cases, "block_record", lambda stage, chosen, grain, first: SMALL[chosen])
    return cases.Case(0, mode, 0, 0.5, 4)


@pytest.mark.parametrize("mode", SMALL)
def test_numerics_pass_what_is_right_and_fail_what_is_not(monkeypatch, mode):
    case = _small_case(monkeypatch, mode)
    for wrong, passed in ((0.0, True), (0.5, False)):
        library = FakeLibrary(monkeypatch, wrong)
        checks = [job.run() for job in numerics.check_jobs(library, [case], make=FakeRun, device="cpu")]
        assert [check.precision for check in checks] == ["fp32", "tf32", "fp16"]
        assert all(check.passed is passed for check in checks), checks
    assert "FAILED" in report.numerics_summary(checks)
    assert "of margins" in report.numerics_summary(checks)
    names = [case.name for case in numerics.numeric_cases()]
    assert len(set(names)) == len(names) == 36 and any("first" in name for name in names)


@pytest.mark.parametrize("wrong", [0.1, float("nan"), float("inf")])
def test_margins_have_to_be_right_where_no_decision_differs(wrong):
    case, y = cases.Case(0, "layer", 0, 0.5, 1), torch.ones(1)
    margins = torch.tensor([2.0, 1.0], dtype=torch.float64)
    assert numerics._judge(case, "fp32", y, y, y.double(), margins, margins).passed
    other = margins + torch.tensor([0.0, wrong])
    assert not numerics._judge(case, "fp32", y, y, y.double(), other, margins).passed
    assert numerics._judge(case, "fp32", y, y, y.double(), other, other).passed is math.isfinite(wrong)


def _bench(library, make=FakeRun):
    ticks = iter(range(1, 1_000_000))

    def clock(call):
        call()
        return float(next(ticks))

    return measure.Bench(
        library, clock, runs=3, compiled=False, make=make, graph=lambda call: call, device="cpu"
    )


def test_measuring_blocks_and_the_report(monkeypatch, tmp_path):
    rows = []
    for mode in SMALL:
        case = _small_case(monkeypatch, mode)
        rows += [job.run() for job in measure.block_jobs(_bench(FakeLibrary(monkeypatch)), [case])]
    single = cases.Case(0, "layer", 0, 0.5, 1)
    rows += [job.run() for job in measure.block_jobs(_bench(FakeLibrary(monkeypatch)), [single])]
    assert {row.precision for row in rows} == {"fp16", "tf32"}
    for row in rows:
        assert set(row.times) == {"laudc", "cudnn", "cudnn graph"}
        assert row.speedup == row.times[row.best_dense].median_us / row.times["laudc"].median_us
        assert measure.Row.from_dict(json.loads(json.dumps(row.to_dict()))) == row
    findings = report.Findings({"name": "none"}, {"stream_us": 1.0}, [], rows, [], [], [], complete=True)
    report.write(tmp_path, findings)
    read = json.loads((tmp_path / "results.json").read_text())
    assert read["kind"] == "gpu-check" and len(read["blocks"]) == len(rows)
    assert read["blocks"][0]["times"]["laudc"]["median_us"] > 0
    assert rows[0].name in (tmp_path / "table.txt").read_text()


def test_measuring_a_whole_network(monkeypatch):
    blocks = [SMALL["layer"], SMALL["channel"]]
    monkeypatch.setattr(measure, "network_records", lambda mode: blocks)
    monkeypatch.setattr(measure.torch.nn, "Linear", lambda inside, out: torch.nn.modules.linear.Linear(16, 5))

    class SmallStem(torch.nn.Module):
        def forward(self, x):
            return x[:, :1, :8, :8].abs().repeat(1, 16, 1, 1)

    monkeypatch.setattr(measure, "Stem", SmallStem)
    monkeypatch.setattr(measure, "PAIRS", {"tf32": torch.float32})
    bench = _bench(FakeLibrary(monkeypatch))
    rows = [job.run() for job in measure.network_jobs(bench, ["layer"], [0.5, 1.0], [2])]
    assert len(rows) == 2 and rows[0].batch == 2 and "%" in rows[0].name
    assert measure.launch_cost(bench).stream_us > 0


@pytest.fixture
def emulated():
    """The kernels on the emulated GPU, as the native tests build them."""
    path = ROOT / "build/native/plugins/tests/liblaudc_cuda_emulation.so"
    if not path.exists():
        pytest.skip(f"{path} is not built: make native")
    return native.Library(path)


@pytest.mark.parametrize("mode", SMALL)
def test_the_kernels_themselves_pass_the_numerics(emulated, monkeypatch, mode):
    case = _small_case(monkeypatch, mode)
    for job in numerics.check_jobs(emulated, [case], device="cpu"):
        found = job.run()
        assert found.passed and found.repeatable, found


def test_the_kernels_themselves_are_measured(emulated, monkeypatch):
    case = _small_case(monkeypatch, "spatial")
    (fp16, tf32) = [job.run() for job in measure.block_jobs(_bench(emulated, native.Run), [case])]
    assert (fp16.precision, tf32.precision) == ("fp16", "tf32")
    assert fp16.counts is not None and 0 < fp16.counts[1] < SMALL["spatial"].hout * SMALL["spatial"].wout


class _Result:
    def __init__(self, value):
        self.value = value

    def to_dict(self):
        return {"value": self.value}


def _jobs(ran, *numbers):
    def job(number):
        def run():
            ran.append(number)
            return _Result(number)

        return Job(f"case {number}", run)

    return [job(number) for number in numbers]


def test_a_call_goes_on_where_an_earlier_one_stopped(tmp_path, monkeypatch):
    path, ran = tmp_path / "measured.jsonl", []
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    worker = Worker(Journal(path, {"gpu": "a"}), 2.0, say=lambda text: now.__setitem__(0, now[0] + 1))
    assert worker.work_off("blocks", _jobs(ran, 1, 2, 3, 4)) is False and ran == [1, 2]
    with path.open("a") as file:
        file.write('{"part": "blocks", "na')  # a call that was killed while it wrote
    for _ in range(2):
        again = Worker(Journal(path, {"gpu": "a"}), None, say=lambda text: None)
        assert again.work_off("blocks", _jobs(ran, 1, 2, 3, 4)) is True and ran == [1, 2, 3, 4]
    assert [found["value"] for found in Journal(path, {"gpu": "a"}).results("blocks")] == [1, 2, 3, 4]
    other = Journal(path, {"gpu": "b"})
    assert not other.has("blocks", "case 1") and path.with_name(path.name + ".old1").exists()
    Journal(path, {"gpu": "c"})  # what the first GPU gave is not overwritten
    assert path.with_name(path.name + ".old2").exists() and "case 4" in path.with_name(path.name + ".old1").read_text()


def test_cases_that_fail_are_written_down_and_passed_over(tmp_path, monkeypatch):
    def fail(error):
        def run():
            raise error

        return run

    journal = Journal(tmp_path / "j", {})
    worker = Worker(journal, None, say=lambda text: None)
    out_of_memory = torch.cuda.OutOfMemoryError("CUDA out of memory")
    jobs = [Job("big", fail(out_of_memory)), Job("bad", fail(native.KernelError("enqueue: no\nmore"))), *_jobs([], 1)]
    assert worker.work_off("blocks", jobs)
    assert journal.without_result(SKIPPED)[0]["name"] == "big"
    assert journal.without_result(FAILED) == [{"part": "blocks", "name": "bad", "why": "enqueue: no"}]
    assert journal.results("blocks") == [{"value": 1}]
    monkeypatch.setattr("gpu_check.jobs._gpu_works", lambda: False)
    with pytest.raises(Stopped, match="illegal memory access"):
        worker.work_off("networks", [Job("n", fail(RuntimeError("CUDA error: an illegal memory access")))])
    assert journal.has("networks", "n")


@pytest.mark.parametrize(("error", "why"), [(KeyError("x"), "KeyError: 'x'"), (RuntimeError(), "RuntimeError")])
def test_no_kind_of_error_ends_the_other_cases(tmp_path, error, why):
    def fail():
        raise error

    journal = Journal(tmp_path / "j", {})
    assert Worker(journal, None, say=lambda text: None).work_off("blocks", [Job("bad", fail), *_jobs([], 1)])
    assert journal.without_result(FAILED)[0]["why"] == why and journal.results("blocks") == [{"value": 1}]


@pytest.mark.parametrize("broken", ["torch._dynamo.reset", "torch.compile"])
def test_without_a_compiler_the_other_candidates_remain(monkeypatch, broken):
    def fail(*_, **__):
        raise ModuleNotFoundError("no module named triton")

    monkeypatch.setattr(broken, fail)
    with pytest.warns(UserWarning, match="torch.compile left out: no module"):
        found = measure.dense_candidates(
            torch.nn.ReLU(), torch.zeros(1, 1, 2, 2), compiled=True, graph=lambda call: call
        )
    assert set(found) == {"cudnn", "cudnn graph"}


def test_the_command(tmp_path, monkeypatch, capsys):
    """Parts, exit codes, the files that it leaves."""
    wrong = numerics.Check("c", "fp32", 1.0, 0.0, 0, True, False)
    right = numerics.Check("c", "fp16", 0.0, 0.0, 0, True, True)
    jobs = {"numerics": [Job("right", lambda: right)], "launch": [Job("launch", lambda: measure.LaunchCost(2, 1, 9))]}
    monkeypatch.setattr(command, "jobs_of", lambda part, *_, **__: jobs[part])
    monkeypatch.setattr(command, "Library", lambda path: None)
    memory = itertools.count(79.1)  # differs from call to call, which changes no result
    monkeypatch.setattr(command, "device_facts", lambda library: {"name": "none", "memory_gib": next(memory)})
    words = ["--library", "x.so", "--out", str(tmp_path / "o"), "--only", "numerics,launch"]
    assert command.main([*words, "--seconds", "0"]) == command.UNFINISHED
    assert json.loads((tmp_path / "o/results.json").read_text())["complete"] is False
    assert command.main(words) == 0
    data = json.loads((tmp_path / "o/results.json").read_text())
    assert data["complete"] and len(data["numerics"]) == 1 and data["launch"]["stream_us"] == 2
    assert "per launch: stream 2.0" in (tmp_path / "o/table.txt").read_text()
    jobs["numerics"].append(Job("wrong", lambda: wrong))
    assert command.main(words) == command.WRONG
    assert "FAILED c fp32" in capsys.readouterr().out
    assert json.loads((tmp_path / "o/results.json").read_text())["device"]["memory_gib"] > 80
    assert not list((tmp_path / "o").glob("*.old*"))


_FAKE_LIBRARY = r"""
#include <stdint.h>
#include <stdio.h>
#include <string.h>
typedef struct { int32_t sm, multiprocessors; } device;
typedef struct {
  const void* x; const float* const* packed; const void* prepared; void* y; int32_t* counts; float* margins;
  int64_t margins_stride; void* workspace; size_t workspace_bytes; int64_t batch;
} io;
static int64_t seen[64];
int laudc_cuda_current_device(device* d, char* e, size_t n) { d->sm = 90; d->multiprocessors = 132; return 0; }
void* laudc_cuda_create(const char* op, const int64_t* r, size_t c, int p, const device* d, char* e, size_t n) {
  if (strcmp(op, "BottleneckRun") || d->sm != 90 || r[0] == 99) { snprintf(e, n, "blocks[0].cin is 99"); return 0; }
  memcpy(seen, r, c * 8);
  return seen;
}
void laudc_cuda_destroy(void* r) {}
int64_t laudc_cuda_margins(void* r) { return 16; }
int64_t laudc_cuda_packed_floats(void* r, int64_t b) { return 4; }
size_t laudc_cuda_workspace_bytes(void* r, int64_t batch) { return 64 * batch; }
size_t laudc_cuda_prepared_bytes(void* r) { return 16; }
int laudc_cuda_prepare(void* r, const float* const* w, void* p, void* s, char* e, size_t n) {
  memcpy(p, w[0], 16);
  return 0;
}
int laudc_cuda_enqueue(void* r, const io* i, void* s, char* e, size_t n) {
  if (i->workspace_bytes != 64 * (size_t)i->batch || i->margins_stride != 16) { snprintf(e, n, "layout"); return 1; }
  ((float*)i->y)[0] = ((const float*)i->x)[0] + ((const float*)i->prepared)[3];
  i->counts[3] = 5; i->margins[15] = 0.5f;
  return 0;
}
"""


@pytest.fixture
def binding(tmp_path):
    """The binding over a library that only answers."""
    (tmp_path / "fake.c").write_text(_FAKE_LIBRARY)
    words = ["cc", "-shared", "-fPIC", "-w", "-o", tmp_path / "fake.so", tmp_path / "fake.c"]
    try:
        subprocess.run(words, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    return native.Library(tmp_path / "fake.so")


def test_the_binding_hands_over_what_the_header_says(binding):
    assert binding.sm == 90
    packed = np.arange(4, dtype=np.float32)
    run = native.Run(binding, [SMALL["spatial"]], [packed], precision="fp32", batch=2, device="cpu")
    x = torch.full((2, 8, 8, 16), 2.0)
    assert run(x)[0, 0, 0, 0] == 5.0
    assert run.counts[0, 0, 3] == 5 and run.margins[0, 15] == 0.5
    run.close()


def test_the_library_s_own_words_are_kept(binding):
    wrong = BlockRecord(99, 8, 16, 1, 8, 8, 0)
    with pytest.raises(native.KernelError, match=r"blocks\[0\]\.cin is 99"):
        native.Run(binding, [wrong], [np.zeros(4, np.float32)], precision="fp16", batch=1, device="cpu")
    with pytest.raises(native.KernelError, match="wants 4 packed floats, there are 3"):
        native.Run(binding, [SMALL["layer"]], [np.zeros(3, np.float32)], precision="fp32", batch=1, device="cpu")


def _script(*words, root=ROOT):
    return subprocess.run(["bash", root / "scripts/gpu_check.sh", *words], capture_output=True, text=True, timeout=60)


def test_the_script(tmp_path):
    assert subprocess.run(["bash", "-n", ROOT / "scripts/gpu_check.sh"], timeout=30).returncode == 0
    assert subprocess.run(["sh", "-n", ROOT / "deploy/runner/build.sh"], timeout=30).returncode == 0
    help_text = _script("--help")
    assert help_text.returncode == 0 and "--quick" in help_text.stdout
    dry = _script("--dry-run", "--quick", "--out", str(tmp_path / "o"), "--tensorrt", "/t", "--engines", "/e")
    assert dry.returncode == 0 and "gpu_check" in dry.stdout and "laudc-runner" in dry.stdout
    part = _script("--dry-run", "--only", "numerics,blocks", "--minutes", "9", "--out", str(tmp_path / "o"))
    assert _script("--dry-run", "--minutes", "08", "--out", str(tmp_path / "o")).returncode == 0
    assert "numerics\\,blocks" in part.stdout and "--seconds" in part.stdout and "check_operators" not in part.stdout
    assert not (tmp_path / "o").exists()
    for words, told in (
        (["--fast"], "no option '--fast'"),
        (["--out"], "needs a value"),
        (["--minutes", "x"], "whole number"),
        (["--only", "blocks,magic"], "no part 'magic'"),
        (["--compile", "launch"], "no part 'launch'"),
        (["--tensorrt", "/t"], "needs --engines"),
        (["--engines", "/e"], "needs --tensorrt"),
        (["--only", "launch,engines"], "needs --tensorrt"),
    ):
        done = _script(*words)
        assert done.returncode == 2 and told in done.stderr


_NVCC = """#!/bin/sh
case $1 in
  --version) echo "release ${RELEASE:-13.0}, V"; exit ;;
  --list-gpu-code) echo sm_80; echo sm_90; exit ;;
esac
echo "$*" >> "$TOOLS/calls"
case $RELEASE$* in 10.*c++17*) echo "Value 'c++17' is not defined for option 'std'" >&2; exit 1 ;; esac
while [ $# -gt 0 ]; do
  if [ "$1" = -o ]; then echo '#!/bin/sh' > "$2"; cat "$TOOLS/program" >> "$2"; chmod +x "$2"; fi
  shift
done
"""
# Stands for python: answers what the script asks, and ends as a file says.
_PYTHON = """#!/bin/sh
case $* in
  *get_device_capability*) echo "${CAPABILITY:-90}" ;;
  *gpu_check*) echo "$*" >> "$TOOLS/python"; exit "$(cat "$TOOLS/code")" ;;
esac
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with a GPU, to all appearances: nvcc and python are scripts."""
    tools = tmp_path / "tools"
    tools.mkdir()
    silent, smi = "#!/bin/sh\n", "#!/bin/sh\necho 9.0\n"
    for name, text in {"nvcc": _NVCC, "python3": _PYTHON, "nvidia-smi": smi, "compute-sanitizer": silent}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    (tools / "program").write_text("echo 'ok     one'\n")
    (tools / "code").write_text("0")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("TOOLS", str(tools))
    for name in ("PYTHON", "CUDACXX"):
        monkeypatch.delenv(name, raising=False)
    return tools


def test_the_script_from_end_to_end(machine, tmp_path):
    words = ["--out", str(tmp_path / "o"), "--minutes", "9"]
    done = _script(*words)
    assert done.returncode == 0, done.stderr
    assert "all of 3 right" in done.stdout and (tmp_path / "o/operators.txt").exists()
    asked = (machine / "python").read_text()
    assert "--only numerics,launch,networks,blocks --compile networks" in asked and "--seconds 5" in asked
    calls = (machine / "calls").read_text().splitlines()
    assert len(calls) == 4 and "arch=compute_90,code=sm_90" in calls[0] and "real_gpu.cpp" in calls[1]
    # Kernels are built, and operators checked, once.
    again = _script(*words)
    assert again.returncode == 0 and "is there already" in again.stdout and "by an earlier call" in again.stdout
    assert len((machine / "calls").read_text().splitlines()) == 4
    assert "memcheck" not in (tmp_path / "o/operators.txt").read_text()
    assert _script(*words, "--sanitize").returncode == 0
    assert "test_cuda_vit under racecheck" in (tmp_path / "o/operators.txt").read_text()


@pytest.mark.parametrize(
    ("program", "code", "wanted"), [("exit 1", 0, 3), ("exit 1", 4, 3), ("", 4, 4), ("", 3, 3), ("", 1, 1)]
)
def test_exit_codes_of_the_script(machine, tmp_path, program, code, wanted):
    (machine / "program").write_text(f"echo 'FAILED one'\n{program}\n")
    (machine / "code").write_text(str(code))
    done = _script("--out", str(tmp_path / "o"), "--minutes", "9")
    assert done.returncode == wanted
    assert ("give the same command again" in done.stdout) is (wanted == 4)
    assert (machine / "python").exists()  # what is wrong in one part does not keep the others from running


def test_what_a_part_s_compiler_lacks_does_not_keep_the_others_from_running(machine, tmp_path, monkeypatch):
    monkeypatch.setenv("RELEASE", "10.2")
    done = _script("--out", str(tmp_path / "o"))
    assert done.returncode == 3 and "needs CUDA 11.0" in done.stdout and "of CUDA 10" in done.stdout
    assert "needs CUDA 11.0" in (tmp_path / "o/operators.txt").read_text() and (machine / "python").exists()


def test_compute_sanitizer_beside_nvcc(machine, tmp_path, monkeypatch):
    beside = tmp_path / "cuda/bin"
    beside.mkdir(parents=True)
    for name in ("nvcc", "compute-sanitizer"):
        (machine / name).rename(beside / name)
    monkeypatch.setenv("CUDACXX", str(beside / "nvcc"))
    words = ["--out", str(tmp_path / "o"), "--only", "operators", "--sanitize"]
    assert _script(*words).returncode == 0
    (beside / "compute-sanitizer").unlink()
    if shutil.which("compute-sanitizer") is None:
        missing = _script(*words)
        assert missing.returncode == 2 and "neither in PATH nor beside" in missing.stderr


def _copy(folder):
    """The script and what it builds, to be changed; in place of the runner's build, one that gives a script."""
    for part in ("plugins/core", "plugins/cuda", "plugins/tensorrt", "plugins/tests"):
        shutil.copytree(ROOT / part, folder / part)
    (folder / "scripts").mkdir()
    shutil.copy2(ROOT / "scripts/gpu_check.sh", folder / "scripts")
    (folder / "deploy/runner").mkdir(parents=True)
    (folder / "deploy/runner/build.sh").write_text(
        'echo "build $TENSORRT_ROOT $CUDACXX $CUDAToolkit_ROOT" >> "$TOOLS/runner"\n'
        'mkdir -p "$2"; cp "$TOOLS/laudc-runner" "$2/"\n'
    )
    return folder


def test_changed_sources_are_built_again_whatever_their_times_say(machine, tmp_path):
    root, words = _copy(tmp_path / "root"), ["--out", str(tmp_path / "o"), "--only", "operators"]
    assert _script(*words, root=root).returncode == 0
    source = root / "plugins/cuda/run.cpp"
    times = source.stat()
    source.write_text(source.read_text() + "// other\n")
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = _script(*words, root=root)
    assert again.returncode == 0 and "already" not in again.stdout and "earlier" not in again.stdout
    (root / "plugins/core").touch()
    os.utime(source)
    third = _script(*words, root=root)
    assert "is there already" in third.stdout and "by an earlier call" in third.stdout


_RUNNER = """#!/bin/sh
echo "$*" >> "$TOOLS/runner"
case $* in *bad*) exit 1 ;; esac
[ "$1" = build ] || echo '{}' > "$6"
"""


def test_engines(machine, tmp_path, monkeypatch):
    root, out, tensorrt = _copy(tmp_path / "root"), tmp_path / "o", tmp_path / "trt"
    (tensorrt / "include").mkdir(parents=True)
    (tensorrt / "include/NvInfer.h").write_text("")
    (tmp_path / "e").mkdir()
    (machine / "laudc-runner").write_text(_RUNNER)
    (machine / "laudc-runner").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    words = ["--out", "o", "--only", "launch,engines", "--tensorrt", "trt", "--engines", "e"]
    empty = _script(*words, root=root)
    assert empty.returncode == 2 and "no .laudc files" in empty.stderr
    for name in ("bad", "good"):
        (tmp_path / f"e/{name}.laudc").write_text(name)
    (machine / "code").write_text("4")
    done = _script(*words, root=root)
    assert done.returncode == 3 and "FAILED: bad" in done.stdout
    assert (out / "good.profile.json").exists() and not (out / "bad.profile.json").exists()
    calls = (machine / "runner").read_text().splitlines()
    assert calls[0] == f"build {tensorrt} {machine}/nvcc {tmp_path}" and len(calls) == 4
    (tmp_path / "e/bad.laudc").unlink()
    again = _script(*words, root=root)
    assert again.returncode == 4 and "give the same command again" in again.stdout
    assert "good: by an earlier call" in again.stdout
    assert len((machine / "runner").read_text().splitlines()) == 4
    (tmp_path / "e/good.laudc").write_text("other")  # another engine of the same name
    assert "earlier call" not in _script(*words, root=root).stdout
    assert len((machine / "runner").read_text().splitlines()) == 6


def test_machines_that_lack_something(machine, tmp_path, monkeypatch):
    words = ["--out", str(tmp_path / "o")]
    monkeypatch.setenv("CAPABILITY", "120")
    assert "this GPU is sm_120, which nvcc is too old" in _script(*words).stderr
    (machine / "nvidia-smi").write_text("#!/bin/sh\necho 'Field \"compute_cap\" is not valid.'; exit 2\n")
    old = _script(*words, "--only", "operators")
    assert old.returncode == 2 and "does not tell the compute capability ('Field" in old.stderr
    (machine / "nvidia-smi").unlink()
    assert "nvidia-smi finds no GPU" in _script(*words, "--only", "operators").stderr
    (machine / "python3").write_text("#!/bin/sh\nexit 1\n")
    assert "is not a Python 3.10 or newer" in _script(*words).stderr
    monkeypatch.setenv("CUDACXX", "/nowhere/nvcc")
    if not Path("/usr/local/cuda/bin/nvcc").exists():
        assert "nvcc was not found" in _script(*words).stderr
    assert _script(*words).returncode == 2 and not (tmp_path / "o").exists()


def test_what_the_native_tests_need_of_a_real_gpu_compiles(tmp_path):
    """Nothing else compiles it where there is no GPU."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    tests = ROOT / "plugins/tests"
    for source in (tests / "real_gpu.cpp", tests / "test_cuda_vit.cpp"):
        words = [nvcc, "-std=c++17", "-O0", "-I", ROOT / "plugins", "-c", "-o", tmp_path / "o.o", source]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
