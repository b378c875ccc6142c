"""The advisor: what it keeps, and where it runs."""

from __future__ import annotations

import asyncio
import sys

import numpy as np
import pytest

import laudc
from laudc.devices import load_profile
from laudc.devices.catalogue import profile_dir
from laudc.errors import UserError
from laudc.predict.architectures import PUBLISHED, published
from laudc.predict.blueprint import MODES, Blueprint
from laudc.predict.regnet_blueprint import RegNetBlueprint
from laudc.predict.vit_blueprint import VitBlueprint
from laudc.search.run import _undominated
from laudc.search.space import Uniform, fits, stage_maps, uniform_options
from laudc.search.workers import run_all

OPTIONS = {"device": "nano", "rates": (0.3, 0.6), "spatial": (1, 4), "channel": (2,), "input_size": 64, "workers": 1}


def test_nothing_kept_is_beaten() -> None:
    result = laudc.search("uni_resnet50", **OPTIONS)
    assert result.status == "modelled, not measured"
    assert {c.mode for c in result.candidates} == {"spatial", "channel", "layer", "both"}
    times = [c.latency_us for c in result.candidates]
    assert times == sorted(times)
    for one in result.candidates:
        for other in result.candidates:
            if one.mode == other.mode and one is not other:
                better = other.latency_us < 0.99 * one.latency_us
                assert not (better and other.rate >= one.rate and other.decisions >= one.decisions)
    assert len(result.candidates[0].to_dict()) == 6


def test_regnets_have_their_own_modes_and_stages() -> None:
    result = laudc.search("lad_regnet_y_800mf", **OPTIONS)
    assert {c.mode for c in result.candidates} == {"spatial", "channel", "both"}
    assert all(len(c.spatial) == 4 for c in result.candidates if c.mode == "spatial")


def test_a_transformer_is_searched_by_policies() -> None:
    pytest.importorskip("onnx")
    modes = ("token", "token+head+layer")
    result = laudc.search("ada_step_t2t_vit_14_lnorm", **{**OPTIONS, "modes": modes, "input_size": 224})
    assert {c.mode for c in result.candidates} == set(modes)
    assert all(c.spatial == c.channel == () for c in result.candidates)
    by_mode = {(c.mode, c.rate): c for c in result.candidates}
    assert by_mode["token+head+layer", 0.3].latency_us < by_mode["token", 0.3].latency_us
    # 14 * 14 patches in 14 blocks; the first one chooses neither heads nor sublayers.
    assert by_mode["token+head+layer", 0.3].decisions == 14 * 14 * 14 + 13 * (6 + 2)


def test_published_architectures_are_those_of_the_models() -> None:
    families = pytest.importorskip("laudnet.families")
    for arch in PUBLISHED:
        _same_sizes(published(arch), families.config_from_dict({"arch": arch}))
    backbones, free = {"lad_mmdet_resnet101", "lad_mmdet_resnet50"}, {"laud_resnet", "laud_vit", "laud_detector"}
    assert set(PUBLISHED) == set(families.known_archs()) - backbones - free


def _same_sizes(described, config) -> None:
    if isinstance(described, VitBlueprint):
        assert (described.dim, described.heads, len(described.hidden)) == (
            config.embed_dim, config.num_heads, config.depth
        )  # fmt: skip
        assert described.hidden[0] == config.mlp_ratio * config.embed_dim
        assert described.t2t == config.tokens_to_token
        return
    assert described.layers == tuple(config.layers)
    if isinstance(described, RegNetBlueprint):
        stages = [config.stage(index) for index in range(len(described.layers))]
        assert described.widths == tuple(stage.width for stage in stages)
        assert [width // described.group_width for width in described.widths] == [stage.groups for stage in stages]


def test_what_is_said_twice_is_tried_once() -> None:
    options = {**OPTIONS, "modes": ("layer",), "rates": (0.5,)}
    once = laudc.search(**options)
    twice = laudc.search(**{**options, "modes": ("layer", "layer"), "rates": (0.5, 0.5)})
    assert once == twice


def test_the_profile_is_read_once_for_all_configurations(monkeypatch, tmp_path) -> None:
    read = []
    monkeypatch.setattr("laudc.search.evaluate.load_profile", lambda name: read.append(name) or load_profile(name))
    path = tmp_path / "mine.yaml"
    path.write_text((profile_dir() / "nano.yaml").read_text())
    before = laudc.search(**{**OPTIONS, "device": path})
    assert before.predicted > 1 and read == [str(path)]
    path.write_text(path.read_text().replace("launch:", "# changed\nlaunch:"))
    assert laudc.search(**{**OPTIONS, "device": path}) == before and len(read) == 2


def test_the_budget_is_a_limit() -> None:
    free = laudc.search("uni_resnet50", **OPTIONS)
    budget = free.candidates[len(free.candidates) // 2].latency_us / 1e3
    tight = laudc.search("uni_resnet50", budget_ms=budget, **OPTIONS)
    assert all(c.latency_us <= budget * 1e3 + 1e-6 for c in tight.candidates)
    assert tight.candidates
    assert not laudc.search("uni_resnet50", budget_ms=1e-6, **OPTIONS).candidates


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arch": "vgg"}, "Unknown architecture"),
        ({"modes": ("all",)}, "Unknown mode"),
        ({"rates": ()}, "nothing to search"),
        ({"rates": (1.5,)}, "impossible"),
        ({"input_size": 8}, "cannot be searched"),
        ({"arch": "lad_regnet_y_400mf", "modes": ("layer",)}, "know spatial, channel, both"),
        ({"arch": "lad_regnet_y_400mf", "width_mult": 0.5}, "no other widths"),
        ({"arch": "ada_step_t2t_vit_14_lnorm", "modes": ("spatial",)}, "know token, head, layer, token[+]head"),
        ({"arch": "ada_step_t2t_vit_14_lnorm", "input_size": 100}, "multiple of 16"),
        ({"batch": -1}, "batch of -1"),
        ({"batch": 0}, "batch of 0"),
        ({"device": "cpu", "threads": -3}, "-3 threads"),
        ({"device": "cpu", "threads": 0}, "0 threads"),
        ({"width_mult": 0.01}, "without channels"),
        ({"budget_ms": float("nan")}, "budget of nan"),
        ({"budget_ms": 0}, "budget of 0"),
        ({"channel": (3,)}, "can have none of these granularities"),
        ({"spatial": (100,)}, "can have none of these granularities"),
        ({"device": "nan"}, "no device"),
        ({"precision": "int8"}, "does not compute in int8"),
    ],
)
def test_impossible_searches(changes, words) -> None:
    options = {**OPTIONS, **changes}
    with pytest.raises(UserError, match=words):
        laudc.search(options.pop("arch", "uni_resnet50"), **options)


def test_options_that_a_mode_ignores_are_not_varied() -> None:
    options = uniform_options(Blueprint(), MODES, rates=(0.5,))
    assert sum(o.mode == "layer" for o in options) == 1
    assert all(o.channel == 1 for o in options if o.mode == "spatial")
    assert stage_maps(Blueprint()) == [56, 28, 14, 7]
    assert not fits(Uniform("spatial", 8, 1, 0.5), 7)
    assert fits(Uniform("layer", 8, 1, 0.5), 7)


def test_undominated_rows() -> None:
    values = np.asarray([[1, 5], [2, 4], [2, 5], [1, 5], [3, 1]])
    assert _undominated(values).tolist() == [True, True, False, False, True]


def _square(value: int) -> int:
    return value * value


def test_processes_keep_the_order() -> None:
    shares: list[float] = []
    assert run_all(_square, [(i,) for i in range(9)], workers=2, progress=shares.append) == [i * i for i in range(9)]
    assert shares[-1] == 1.0
    assert run_all(_square, [(3,)], workers=4) == [9]


def test_dask_is_optional(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match="Dask is not installed"):
        run_all(_square, [(1,)], scheduler="tcp://127.0.0.1:1")


def test_a_dask_scheduler_gets_the_tasks(monkeypatch) -> None:
    class Future:
        def __init__(self, value):
            self.value = value

        def result(self):
            return self.value

    class Client:
        def __init__(self, address, timeout):
            assert address == "tcp://there:8786"

        def submit(self, function, *task, pure):
            return Future(function(*task))

        def close(self):
            closed.append(True)

    closed: list[bool] = []
    greeted = _fake_dask(monkeypatch, Client)
    assert run_all(_square, [(2,), (3,)], scheduler="tcp://there:8786") == [4, 9]
    assert closed == [True] and greeted == ["tcp://there:8786", "closed"]


def _fake_dask(monkeypatch, client, silence_s: float = 0) -> list[str]:
    """A stand-in for Dask whose scheduler answers after `silence_s`; says who was greeted."""
    greeted: list[str] = []

    class Connection:
        async def close(self):
            greeted.append("closed")

    async def connect(address, timeout, **options):
        await asyncio.sleep(silence_s)
        greeted.append(address)
        return Connection()

    class Security:
        def get_connection_args(self, role):
            return {}

    for name, what in (("", client), (".comm", connect), (".security", Security)):
        module = type(sys)(f"distributed{name}")
        setattr(module, what.__name__, what)
        monkeypatch.setitem(sys.modules, f"distributed{name}", module)
    return greeted


def test_a_scheduler_that_takes_the_connection_and_says_nothing(monkeypatch) -> None:
    class Client:
        def __init__(self, *_, **__):
            raise AssertionError("a client would wait for ever")

    monkeypatch.setattr("laudc.search.workers._GREETING_S", 0.05)
    _fake_dask(monkeypatch, Client, silence_s=5)
    with pytest.raises(UserError, match="no Dask scheduler at 'tcp://there:8786'. Nothing that it understands"):
        run_all(_square, [(2,)], scheduler="tcp://there:8786")


@pytest.mark.parametrize("workers", [0, -2])
def test_no_workers_are_refused(workers) -> None:
    with pytest.raises(UserError, match="at least one"):
        run_all(_square, [(2,)], workers=workers)
