"""Host detection."""

import pytest

from laudc.devices import detect_host, host, threads_per_call

CPUINFO = """processor\t: 0
model name\t: Imaginary CPU 9000
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu sse4_2 avx avx2 fma avx512f nonsense

processor\t: 1
model name\t: Imaginary CPU 9000
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu

processor\t: 2
physical id\t: 1
core id\t\t: 0
"""


def test_cpuinfo_names_features_and_cores():
    model, features, cores = host.parse_cpuinfo(CPUINFO)
    assert model == "Imaginary CPU 9000"
    assert features == ("sse4_2", "avx", "fma", "avx2", "avx512f")
    assert cores == 2  # two hardware threads of one core, and a second socket


def test_arm_cpuinfo():
    model, features, cores = host.parse_cpuinfo("processor : 0\nFeatures : fp asimd sve\nHardware : Board\n")
    assert (model, features, cores) == ("Board", ("asimd", "sve"), 0)


@pytest.mark.parametrize("text, size", [("48K", 48 << 10), ("2048K", 2 << 20), ("32M", 32 << 20), ("?", 0), ("", 0)])
def test_cache_sizes(text, size):
    assert host._size_bytes(text) == size


def test_caches_come_from_sysfs(tmp_path):
    for number, (kind, level, size) in enumerate([("Data", 1, "48K"), ("Instruction", 1, "32K"), ("Unified", 2, "2M")]):
        folder = tmp_path / "cache" / f"index{number}"
        folder.mkdir(parents=True)
        for name, value in (("type", kind), ("level", level), ("size", size)):
            (folder / name).write_text(f"{value}\n")
    assert host.read_caches(tmp_path) == {"L1d": 48 << 10, "L2": 2 << 20}


def test_this_host_is_described():
    found = detect_host()
    assert found.cores >= 1 and found.usable_threads >= 1
    assert found.cpu in found.describe()
    assert found.to_dict()["features"] == list(found.features)


def test_a_call_uses_all_threads_unless_told():
    assert threads_per_call() == threads_per_call(None) == detect_host().usable_threads
    assert threads_per_call(3) == 3 and threads_per_call(0) == 0  # which the caller refuses


@pytest.mark.parametrize("machine, arch", [("AMD64", "x86_64"), ("arm64", "aarch64"), ("riscv64", "riscv64")])
def test_architecture_has_one_spelling(machine, arch):
    assert host.normal_arch(machine) == arch


def test_maker_and_clock_come_from_cpuinfo(tmp_path):
    text = "vendor_id\t: AuthenticAMD\ncpu family\t: 25\ncpu MHz\t\t: 2596.130\n\ncpu MHz : 1000\n"
    assert host.parse_maker(text) == ("AuthenticAMD", 25)
    assert host.read_clock_ghz(text, tmp_path) == 2.596
    assert host.parse_maker("Features : asimd\n") == ("", 0)
    assert host.read_clock_ghz("", tmp_path) == 0.0


def test_the_frequency_driver_knows_the_clock_better(tmp_path):
    (tmp_path / "cpufreq").mkdir()
    (tmp_path / "cpufreq" / "cpuinfo_max_freq").write_text("3700000\n")
    assert host.read_clock_ghz("cpu MHz : 800.0\n", tmp_path) == 3.7
