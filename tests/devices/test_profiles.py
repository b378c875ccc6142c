"""Device profiles: the shipped ones, a user's own, and what is wrong with bad ones."""

import json
import math

import pytest
import yaml

from laudc.devices import DTYPES, available_profiles, catalogue, detect_host, fits_host, load_profile
from laudc.devices.fields import SOURCE_KINDS
from laudc.devices.host import Host
from laudc.devices.host_numbers import host_numbers
from laudc.devices.parse import parse_profile
from laudc.devices.profile import BACKENDS, MEASURED, MODELLED
from laudc.errors import UserError
from laudc.predict.families import FAMILIES
from laudc.predict.models import latency_model

NAMES = ["cpu", "h200", "nano", "orin", "rtx3060", "rtx3090", "tx2", "v100"]
HEAD = "id: a, kind: {kind}, description: x, backend: onnxruntime, precision: fp32, batch: 1"
CPU = HEAD.format(kind="cpu")
CUDA = HEAD.format(kind="cuda")


def written(tmp_path, content):
    path = tmp_path / "device.yaml"
    path.write_text(content)
    return path


def test_all_promised_devices_are_there():
    assert available_profiles() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_shipped_profiles_are_whole(name):
    profile = load_profile(name)
    assert profile.id == name
    # The CPU profile ships coefficients, which count as measured on a CPU like the one they were fitted on.
    assert profile.measured == (name == "cpu" and fits_host(profile, detect_host()))
    assert (profile.status == MODELLED) != profile.measured
    assert profile.supports(profile.precision)
    assert set(profile.dtypes) | set(profile.unsupported) == set(DTYPES) - ({"tf32"} if name == "cpu" else set())
    assert 0 < profile.peak_macs_per_s() < 1e15
    for section in ("compute", "memory", "launch"):
        for key, value in vars(getattr(profile, section)).items():
            assert math.isfinite(value)
            # Every number says where it comes from; what does not apply is 0 and left out.
            assert value == 0 or profile.sources[f"{section}.{key}"].split(":")[0] in SOURCE_KINDS
    for dtype in profile.dtypes:
        assert profile.sources[f"dtypes.{dtype}.macs_per_cycle"]
    assert "user: no source stated" not in profile.sources.values()


@pytest.mark.parametrize(
    "name, dtype, tera_operations",
    [
        ("nano", "fp16", 0.472),
        ("tx2", "fp16", 1.33),
        ("v100", "fp32", 15.7),
        ("v100", "fp16", 125),
        ("rtx3060", "fp32", 12.7),
        ("rtx3090", "fp32", 35.6),
        ("rtx3090", "int8", 284),
        ("h200", "fp32", 67),
        ("h200", "tf32", 495),
        ("h200", "fp16", 989),
        ("h200", "int8", 1979),
        ("orin", "fp32", 5.3),
        ("orin", "int8", 85),
    ],
)
def test_peaks_are_those_of_the_data_sheets(name, dtype, tera_operations):
    # A multiply-add is two operations.
    assert 2e-12 * load_profile(name).peak_macs_per_s(dtype) == pytest.approx(tera_operations, rel=0.01)


@pytest.mark.parametrize(
    "name, units, lanes, clock, bandwidth, factor, batch",
    [
        ("v100", 80, 64, 1.5e9, 700e9, 4, 128),
        ("rtx3090", 82, 128, 1.25e9, 936e9, 1, 128),
        ("rtx3060", 28, 128, 1.777e9, 360e9, 4, 128),
        ("tx2", 2, 128, 1.3e9, 59.7e9, 4, 1),
        ("nano", 1, 128, 0.921e9, 25.6e9, 4, 1),
    ],
)
def test_laudnets_own_numbers_are_kept_apart(name, units, lanes, clock, bandwidth, factor, batch):
    laudnet = load_profile(name).laudnet
    assert (laudnet.units, laudnet.lanes, laudnet.l2_factor, laudnet.batch) == (units, lanes, factor, batch)
    assert laudnet.clock_hz == pytest.approx(clock) and laudnet.dram_bytes_s == pytest.approx(bandwidth)
    assert (laudnet.launch_s, laudnet.pipeline_depth, laudnet.coalescing) == (pytest.approx(8e-6), 4, 8)


@pytest.mark.parametrize("name", ["h200", "orin", "cpu"])
def test_laudnet_has_no_numbers_for_other_devices(name):
    assert load_profile(name).laudnet is None


def test_the_cpu_profile_is_this_machine():
    profile = load_profile("cpu")
    assert (profile.id, profile.backend, profile.precision, profile.batch) == ("cpu", "onnxruntime", "fp32", 1)
    assert [kernel["isa"] for kernel in profile.data["kernels"]] == ["avx512", "avx2", "neon", "portable"]
    assert [kernel.isa for kernel in profile.kernels] == ["avx512", "avx2", "neon", "portable"]
    assert "path" not in profile.to_dict()
    assert profile.sources["compute.units"].startswith("host")


@pytest.mark.parametrize(
    "features, vendor, family, lanes",
    [
        (("avx512f", "avx2", "fma"), "GenuineIntel", 6, 32),
        (("avx512f", "avx2", "fma"), "AuthenticAMD", 25, 16),
        (("avx512f", "avx2", "fma"), "AuthenticAMD", 26, 32),
        (("avx2", "fma"), "AuthenticAMD", 23, 16),
        (("asimd",), "", 0, 8),
        ((), "", 0, 4),
    ],
)
def test_lanes_follow_the_vector_units(features, vendor, family, lanes):
    machine = Host("x86_64", "CPU", features, 16, 32, 12, {"L2": 1 << 20}, vendor=vendor, family=family)
    numbers = host_numbers(machine)
    assert numbers["compute.lanes"][0] == lanes == numbers["dtypes.fp32.macs_per_cycle"][0]
    assert numbers["compute.units"][0] == 12  # no more than the process may use
    assert numbers["memory.l2_kib"][0] == 1024
    assert numbers["memory.l1_kib"][1].startswith("modelled")


def test_a_profile_can_be_a_file(tmp_path):
    path = written(tmp_path, "{id: mine, kind: cpu, description: x, backend: onnxruntime, precision: fp32, batch: 2}")
    profile = load_profile(path)
    assert profile.id == "mine" and profile.compute.units >= 1


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_can_be_read_back(name, tmp_path):
    profile = load_profile(name)
    again = load_profile(written(tmp_path, yaml.safe_dump(profile.to_yaml_dict())))
    assert again.to_yaml_dict() == profile.to_yaml_dict()
    assert (again.compute, again.memory, again.launch) == (profile.compute, profile.memory, profile.launch)


def test_a_number_of_ones_own_overrules_the_host(tmp_path):
    path = written(tmp_path, f"{{{CPU}, compute: {{lanes: {{value: 24, source: 'calibrated: here'}}, clock_ghz: 3}}}}")
    profile = load_profile(path)
    assert profile.compute.lanes == 24 and profile.sources["compute.lanes"] == "calibrated: here"
    assert profile.compute.clock_ghz == 3 and profile.sources["compute.clock_ghz"] == "user: no source stated"


def test_a_calibration_makes_a_device_measured(tmp_path):
    machine = {"cpu": detect_host().cpu, "arch": detect_host().arch}
    calibration = {"anything": [1, 2], "nested": {"a": -1}, "machine": machine}
    profile = load_profile(written(tmp_path, f"{{{CPU}, calibration: {json.dumps(calibration)}}}"))
    assert profile.measured and profile.status == MEASURED
    assert profile.calibration["nested"] == {"a": -1}
    # One of another CPU does not make this one measured.
    machine["cpu"] = "another CPU"
    assert not load_profile(written(tmp_path, f"{{{CPU}, calibration: {json.dumps(calibration)}}}")).measured


def test_the_host_can_be_given(tmp_path):
    numbers = host_numbers(Host("x86_64", "CPU", ("avx2", "fma"), 4, 4, 4, clock_ghz=3.0))
    profile = parse_profile(written(tmp_path, f"{{{CPU}}}"), host=numbers)
    assert profile.peak_macs_per_s() == 4 * 16 * 3e9


def test_an_unknown_name_gets_the_closest():
    with pytest.raises(UserError, match="rtx3060"):
        load_profile("rtx3061")


@pytest.mark.parametrize(
    "content, blamed",
    [
        ("[1, 2]", "no mapping"),
        ("{id: a", "not valid YAML"),
        ("[" * 10_000, "not valid YAML"),
        (f"{{{CPU}, compute: {{clock_ghz: 1{'0' * 400}}}}}", r"'compute\.clock_ghz' is 10000"),
        ("{id: 3, kind: cpu}", "'id' is 3"),
        ("{id: a, kind: cpu, description: x, backend: onnxruntime, precision: fp32}", "'batch' is missing"),
        ("{id: a, kind: cpu, description: x, backend: onnxruntime, precision: fp32, batch: yes}", "'batch' is True"),
        ("{id: a, kind: gpu, description: x, backend: onnxruntime, precision: fp32, batch: 1}", "'kind' is 'gpu'"),
        ("{id: a, kind: cpu, description: x, backend: onnxruntime, precision: fp32, batch: 0}", "at least 1"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        (f"{{{CPU}, compute: 3}}", "'compute' is 3, wanted a mapping"),
        (f"{{{CPU}, compute: {{clock_ghz: -1}}}}", r"'compute\.clock_ghz' is -1, wanted a number above 0"),
        (f"{{{CPU}, compute: {{clock_ghz: fast}}}}", r"'compute\.clock_ghz' is 'fast', wanted a number"),
        (f"{{{CPU}, compute: {{clock_ghz: 1e9}}}}", r"write a decimal point and a signed exponent"),
        (f"{{{CPU}, compute: {{clock_ghz: .nan}}}}", r"'compute\.clock_ghz' is nan"),
        (f"{{{CPU}, memory: {{l3_kib: -1}}}}", r"'memory\.l3_kib' is -1, wanted a number, 0 or larger"),
        (f"{{{CPU}, compute: {{clock_gzh: 1}}}}", r"'compute\.clock_gzh' is unknown; did you mean 'clock_ghz'"),
        (f"{{{CPU}, compute: {{clock_ghz: {{value: 1}}}}}}", r"'compute\.clock_ghz\.source' is missing"),
        (f"{{{CPU}, compute: {{clock_ghz: {{source: host}}}}}}", r"'compute\.clock_ghz\.value' is missing"),
        (f"{{{CPU}, compute: {{clock_ghz: {{value: 1, source: hearsay}}}}}}", "begins with one of: datasheet"),
        (f"{{{CPU}, compute: {{clock_ghz: {{value: 1, source: host, by: me}}}}}}", r"clock_ghz\.by' is unknown"),
        (f"{{{CPU}, speed: 1}}", "'speed' is unknown"),
        (f"{{{CPU}, dtypes: {{fp8: {{}}}}}}", r"'dtypes\.fp8' is unknown; known here: fp32, tf32"),
        (f"{{{CPU}, calibration: 7}}", "'calibration' is 7"),
        (f"{{{CPU}, kernels: [1]}}", "'kernels' is"),
        (f"{{{CPU}, kernels: [{{isa: avx2, features: [1]}}]}}", r"'kernels\[0\]\.features' is"),
        (f"{{{CPU}, toolchain: {{cuda: 10.2}}}}", r"'toolchain\.cuda' is 10\.2, wanted text"),
        (f"{{{CPU}, laudnet_compat: {{units: 1}}}}", r"'laudnet_compat\.lanes' is missing"),
        (f"{{{CUDA}}}", r"'compute\.units' is missing"),
        (f"{{{CUDA}, compute: {{units: host}}}}", "only a profile of kind 'cpu'"),
        (f"{{{CUDA}, compute: {{unit: 2}}}}", r"'compute\.units' is missing \(is 'compute\.unit' meant to be it\?\)"),
        (f"{{{CPU}, compute: {{units: 0.5}}}}", r"'compute\.units' is 0\.5, wanted a number, 1 or larger"),
        (f"{{{CPU}, compute: {{clock_ghz: 1.0e+300}}}}", "a number that a device can have"),
        (f"{{{CPU}, compute: {{clock_ghz: 1.0e-300}}}}", "a number that a device can have"),
        (f"{{{CPU}, memory: {{l3_kib: 0x{'f' * 9000}}}}}", "a number of thousands of digits"),
        (f"{{{CPU.replace('batch: 1', 'batch: 100000000')}}}", "'batch' is 100000000, wanted at most"),
        (f"{{{CPU.replace('id: a', 'id: ../a')}}}", "'id' is '../a', wanted a name"),
        (CPU.replace("id: a", 'id: "a\\nb"').join("{}"), "wanted a name"),
        (f"{{{CPU.replace('onnxruntime', 'torch')}}}", "'backend' is 'torch', wanted one of: onnxruntime"),
        (f"{{{CPU}, identity: {{compute_capability: new}}}}", "wanted text such as '8.6'"),
        (f"{{{CPU.replace('fp32', 'fp16')}}}", "'precision' is 'fp16', wanted one of the device's dtypes: fp32"),
    ],
)
def test_bad_profiles_name_their_field(tmp_path, content, blamed):
    with pytest.raises(UserError, match=blamed):
        load_profile(written(tmp_path, content))


def test_a_wrong_value_is_not_shown_at_full_length(tmp_path):
    with pytest.raises(UserError) as failure:
        load_profile(written(tmp_path, f"{{{CPU.replace('id: a', 'id: [' + 'a, ' * 5000 + ']')}}}"))
    assert "'id' is ['a'" in str(failure.value) and len(str(failure.value)) < 600


def test_runtimes_are_those_that_there_are():
    from laudc import backends

    assert BACKENDS == backends.NAMES


def test_a_data_type_that_a_device_lacks():
    with pytest.raises(UserError, match="'cpu' does not compute in bf16. No kernels of ours.*one of fp32"):
        load_profile("cpu").rate("bf16")


def test_a_missing_profile_file(tmp_path):
    with pytest.raises(UserError, match="(?i)cannot read the device profile"):
        load_profile(tmp_path / "none.yaml")


def test_the_shipped_calibration_is_a_guess_on_another_cpu(monkeypatch):
    from dataclasses import replace

    other = replace(detect_host(), cpu="another CPU")
    monkeypatch.setattr("laudc.devices.host.detect_host", lambda: other)
    assert load_profile("cpu").status == MODELLED


def test_of_shipped_calibrations_that_of_this_cpu_counts(monkeypatch, tmp_path):
    from dataclasses import replace

    monkeypatch.setenv("LAUDC_DEVICES", str(tmp_path / "own"))
    shipped = yaml.safe_load((catalogue.profile_dir() / "cpu.yaml").read_text())
    monkeypatch.setattr(catalogue, "profile_dir", lambda: tmp_path)
    host = replace(detect_host(), cpu="Some CPU (R) 9X", family=99)
    monkeypatch.setattr(catalogue, "detect_host", lambda: host)

    def write(path, cpu, family):
        path.parent.mkdir(exist_ok=True)
        shipped["calibration"]["machine"].update(cpu=cpu, family=family, arch=host.arch)
        path.write_text(yaml.safe_dump(shipped))

    write(tmp_path / "cpu.yaml", "another CPU", 1)
    assert load_profile("cpu").path == str(tmp_path / "cpu.yaml")
    path = tmp_path / "cpu" / "some-cpu-r-9x-family-99.yaml"
    assert catalogue.shipped_calibration_path("cpu", host) == path
    write(path, host.cpu, host.family)
    assert load_profile("cpu").path == str(path)
    write(tmp_path / "own" / "cpu.yaml", host.cpu, host.family)
    assert load_profile("cpu").path == str(tmp_path / "own" / "cpu.yaml")
    # A file whose name says what it is not.
    write(path, host.cpu, 98)
    (tmp_path / "own" / "cpu.yaml").unlink()
    assert load_profile("cpu").path == str(tmp_path / "cpu.yaml")


@pytest.mark.parametrize("path", sorted((catalogue.profile_dir() / "cpu").glob("*.yaml")), ids=lambda path: path.stem)
def test_calibrations_of_other_cpus_differ_in_nothing_else(path):
    first = yaml.safe_load((catalogue.profile_dir() / "cpu.yaml").read_text())
    other = yaml.safe_load(path.read_text())
    machine = other.pop("calibration")["machine"]
    assert first.pop("calibration")["machine"] != machine
    assert first == other
    host = Host(machine["arch"], machine["cpu"], (), 1, 1, 1, family=machine["family"])
    assert catalogue.shipped_calibration_path("cpu", host) == path


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("threads", [1, 2])
def test_the_shipped_cpu_profile_predicts_every_family(family, threads, monkeypatch, tmp_path):
    monkeypatch.setenv("LAUDC_DEVICES", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert latency_model(load_profile("cpu"), threads=threads, family=family) is not None
