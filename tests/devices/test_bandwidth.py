"""Measured memory bandwidth."""

from laudc.devices import bandwidth, load_profile


def test_a_copy_has_a_speed():
    assert 0.01 < bandwidth.measure_copy_bandwidth(1, size=1 << 20, rounds=1) < 10_000


def test_only_a_bandwidth_left_to_the_host_is_measured(monkeypatch):
    monkeypatch.setattr(bandwidth, "measure_copy_bandwidth", lambda threads: 12.345)
    measured = bandwidth.with_measured_bandwidth(load_profile("cpu"))
    assert measured.memory.dram_gb_s == 12.35 or measured.memory.dram_gb_s == 12.34
    assert measured.sources["memory.dram_gb_s"].startswith("host: copy of")
    assert bandwidth.with_measured_bandwidth(load_profile("v100")) == load_profile("v100")


def test_a_stated_bandwidth_stays(monkeypatch, tmp_path):
    monkeypatch.setattr(bandwidth, "measure_copy_bandwidth", lambda threads: 1 / 0)
    path = tmp_path / "mine.yaml"
    path.write_text(
        "{id: a, kind: cpu, description: x, backend: onnxruntime, precision: fp32, batch: 1, memory: {dram_gb_s: 7}}"
    )
    assert bandwidth.with_measured_bandwidth(load_profile(path)).memory.dram_gb_s == 7
