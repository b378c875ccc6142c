"""Tables, JSON and the HTML page."""

import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from laudc.errors import UserError
from laudc.profile.compare import Comparison, MachineState, PredictedTime
from laudc.profile.records import BlockProfile, DenseComparison, ProfileResult, Timing
from laudc.report import RULE, Column, profile_html, profile_text, render_table, write_json
from laudc.report.profile_text import prediction_summary


def make_result(dense=True, name="layer1.0", blocks=2):
    timing = Timing.of([100.0, 110.0, 120.0])
    slower = Timing.of([200.0, 220.0, 240.0]) if dense else None
    made = tuple(
        BlockProfile(f"{name}{i or ''}", "sparse", "why <not>", timing, 0.5, None, 0.4, 2.5, slower)
        for i in range(blocks)
    )
    environment = {
        "host": {"cpu": "CPU & Co", "cores": 2, "features": ["avx2"]},
        "system": "Linux", "load_average": [0.5, 0.4, 0.3], "clock": "perf_counter_ns", "laudc": "0.1.0",
        "onnxruntime": "1.32.0", "numpy": "2", "python": "3.11",
    }  # fmt: skip
    return ProfileResult(
        engine={
            "arch": "net",
            "precision": "fp32",
            "input": ["N", 3, 8, 8],
            "backend": "onnxruntime 1.32.0",
            "isa": "avx2",
            "source_onnx_sha256": "ab",
            "checkpoint_sha256": None,
        },
        images={"kind": "files", "count": 3},
        settings={"runs": 3, "warmup": 1, "batch": 1, "threads": 1, "interleaved": dense, "threads_rest": False},
        environment=environment,
        end_to_end=Timing.of([300.0, 310.0, 320.0]),
        blocks=made,
        residual_us=90.0,
        activation=0.4,
        ideal_speedup=2.5,
        dense=DenseComparison(Timing.of([600.0, 620.0, 640.0]), 2.0, 2.01, 0.8) if dense else None,
        notes=("mind <this>",),
    )


class Checker(HTMLParser):
    """Counts tags, and fails on what is not closed or comes from elsewhere."""

    VOID = frozenset({"meta", "rect", "br"})

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        assert not {name for name, _ in attributes} & {"src", "href", "onload", "onclick"}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_tables_are_aligned_and_have_units():
    columns = (Column("name", left=True), Column("time", "µs"))
    text = render_table(columns, [["a", "1.5"], RULE, ["longer", "10.25"]])
    assert text.splitlines() == [
        "name     time",
        "           µs",
        "------  -----",
        "a         1.5",
        "------  -----",
        "longer  10.25",
    ]


def test_wide_letters_keep_the_columns_straight():
    lines = render_table((Column("n", left=True), Column("x")), [["網", "1"], ["ab", "2"]]).splitlines()
    assert lines[2] == "網  1" and lines[3] == "ab  2"


def test_the_text_has_every_row_and_the_conclusion():
    text = profile_text(make_result())
    for wanted in (
        "layer1.0",
        "residual",
        "end to end",
        "Speed-up 2.00×",
        "80% of the ideal",
        "Note: mind <this>",
    ):
        assert wanted in text
    assert "Speed-up" not in profile_text(make_result(dense=False))


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (None, ""),
        (MachineState(1.02, 1.01, 1.0, 500.0), ""),
        (MachineState(0.91, 1.0, 1.0, 500.0), " was, at 91% of the clock that it was calibrated at; as usual"),
        (MachineState(1.0, 1.25, 1.0, 500.0), " was, with shared work taking 1.25 times as long as usual; as usual"),
        (MachineState(1.0, 1.0, 1.0, 500.0, 0.6), "with 60% of the usual last-level cache left by its neighbours"),
        (MachineState(1.0, 1.1, 1.2, 500.0), "What sharing work costs changed meanwhile, by 20%"),
    ],
)
def test_a_machine_that_is_not_as_usual_is_said(state, said):
    time = PredictedTime.of(100.0, 110.0, (0.9, 1.2))
    text = prediction_summary(Comparison("calibrated by measurement", 2, time, time, time, {}, None, state))
    assert said in text and ("machine as it was" in text or "meanwhile" in text) == bool(said)


def test_unknown_figures_are_dashes():
    result = make_result(dense=False)
    assert render_table((Column("x"),), [["-"]]) and " -" in profile_text(result)


def test_the_page_is_well_formed_and_needs_nothing_else():
    checker = Checker()
    page = profile_html(make_result(name='layer"<1>'))
    checker.feed(page)
    assert not checker.open
    assert "script" not in checker.seen and "link" not in checker.seen
    assert "http" not in page and "url(" not in page and "@import" not in page
    assert checker.seen.count("rect") == 4
    assert 'layer"<1>' in "".join(checker.text) and "mind <this>" in "".join(checker.text)
    assert "prefers-color-scheme: dark" in page and "width=device-width" in page


def test_a_predicted_number_stands_beside_what_it_rests_on():
    time = PredictedTime.of(100.0, 110.0, None)
    modelled, calibrated = (
        replace(make_result(), comparison=Comparison(status, 0, time, time, time, {}, None))
        for status in ("modelled, not measured", "calibrated by measurement")
    )
    assert "predicted (modelled, not measured)<b>0.10 ms" in profile_html(modelled)
    assert "predicted<b>0.10 ms" in profile_html(calibrated)
    for result in (modelled, calibrated):
        assert f"({result.comparison.status})" in profile_text(result)


@pytest.mark.parametrize("dense, blocks", [(False, 1), (True, 0)])
def test_pages_of_sparse_results(dense, blocks):
    Checker().feed(profile_html(make_result(dense=dense, blocks=blocks)))


def test_json_has_only_what_json_has(tmp_path):
    target = tmp_path / "a.json"
    data = {
        "nan": float("nan"),
        "inf": float("inf"),
        "array": np.arange(3),
        "scalar": np.float32(0.5),
        "t": (1, True),
    }
    write_json(data, str(target))
    assert json.loads(target.read_text()) == {
        "nan": None, "inf": None, "array": [0, 1, 2], "scalar": 0.5, "t": [1, True],
    }  # fmt: skip


def test_json_to_standard_output(capsys):
    write_json({"a": None}, "-")
    assert json.loads(capsys.readouterr().out) == {"a": None}


def test_json_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match="(?i)cannot write"):
        write_json({}, str(tmp_path / "none" / "a.json"))
