"""The advisor: what it keeps, and where it runs."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import laudc
from laudc.errors import UserError
from laudc.predict.blueprint import Blueprint
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
        ({"device": "nan"}, "no device"),
        ({"precision": "int8"}, "does not compute in int8"),
    ],
)
def test_impossible_searches(changes, words) -> None:
    options = {**OPTIONS, **changes}
    with pytest.raises(UserError, match=words):
        laudc.search(options.pop("arch", "uni_resnet50"), **options)


def test_options_that_a_mode_ignores_are_not_varied() -> None:
    options = uniform_options(Blueprint(), rates=(0.5,))
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
    monkeypatch.setitem(sys.modules, "distributed", type(sys)("distributed"))
    sys.modules["distributed"].Client = Client
    assert run_all(_square, [(2,), (3,)], scheduler="tcp://there:8786") == [4, 9]
    assert closed == [True]
