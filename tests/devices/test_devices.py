"""Host detection and device profiles."""

import pytest

from laudc.devices import available_profiles, detect_host, host, load_profile
from laudc.errors import UserError

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


@pytest.mark.parametrize(
    "text, size", [("48K", 48 << 10), ("2048K", 2 << 20), ("32M", 32 << 20), ("?", 0), ("", 0)]
)
def test_cache_sizes(text, size):
    assert host._size_bytes(text) == size


def test_caches_come_from_sysfs(tmp_path):
    for number, (kind, level, size) in enumerate(
        [("Data", 1, "48K"), ("Instruction", 1, "32K"), ("Unified", 2, "2M")]
    ):
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


@pytest.mark.parametrize("machine, arch", [("AMD64", "x86_64"), ("arm64", "aarch64"), ("riscv64", "riscv64")])
def test_architecture_has_one_spelling(machine, arch):
    assert host.normal_arch(machine) == arch


def test_the_cpu_profile_loads():
    profile = load_profile("cpu")
    assert (profile.id, profile.backend, profile.precision, profile.batch) == (
        "cpu",
        "onnxruntime",
        "fp32",
        1,
    )
    assert [kernel["isa"] for kernel in profile.data["kernels"]] == ["avx512", "avx2", "portable"]
    assert available_profiles() == ["cpu"]
    assert "path" not in profile.to_dict()


def test_a_profile_can_be_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("{id: mine, kind: cpu, description: x, backend: onnxruntime, precision: fp32, batch: 2}")
    assert load_profile(path).id == "mine"


def test_an_unknown_name_gets_the_closest():
    with pytest.raises(UserError, match="rtx3060"):
        load_profile("rtx3061")


@pytest.mark.parametrize("name", ["nano", "tx2", "v100", "rtx3060", "rtx3090", "h200"])
def test_accelerators_are_refused_clearly(name):
    with pytest.raises(UserError, match=r"this version of laudc builds for: cpu") as caught:
        load_profile(name)
    assert "--device cpu" in str(caught.value)


@pytest.mark.parametrize(
    "content, blamed",
    [
        ("[1, 2]", "no mapping"),
        ("{id: a", "not valid YAML"),
        ("{id: 3, kind: cpu}", "'id' is 3"),
        ("{id: a, kind: cpu, description: x, backend: onnxruntime, precision: fp32}", "'batch' is missing"),
        ("{id: a, kind: cpu, description: x, backend: b, precision: fp32, batch: yes}", "'batch' is True"),
        ("{id: a, kind: gpu, description: x, backend: b, precision: fp32, batch: 1}", "'kind' is 'gpu'"),
        ("{id: a, kind: cpu, description: x, backend: b, precision: fp32, batch: 0}", "at least 1"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_bad_profiles_name_their_field(tmp_path, content, blamed):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=blamed):
        load_profile(path)


def test_a_missing_profile_file(tmp_path):
    with pytest.raises(UserError, match="(?i)cannot read the device profile"):
        load_profile(tmp_path / "none.yaml")
