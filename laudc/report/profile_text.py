"""A profile as text for a terminal."""

from __future__ import annotations

from typing import Any

from laudc.profile.compare import Comparison, MachineState, PredictedTime
from laudc.profile.records import BlockProfile, ProfileResult, Spread
from laudc.report.tables import MISSING, RULE, Column, number, percent, render_table, times

# What each kind of decision keeps.
KIND_TITLES = {
    "spatial": "patches",
    "channel": "channels",
    "token": "tokens",
    "head": "heads",
    "layer": "sublayers",
}
_NAME_COLUMNS = (Column("block", left=True), Column("runs", left=True))
_COLUMNS = (
    Column("active", "% MACs"),
    Column("median", "µs"),
    Column("p95", "µs"),
)
_DENSE_COLUMNS = (Column("dense", "µs"), Column("speed-up", "×"))
_IDEAL_COLUMNS = (Column("FLOP-ideal", "×"),)
# Clocks and what sharing costs differ by so much from one second to the next.
_AS_USUAL = 0.03
_CACHE_AS_USUAL = 0.15
# Calibrations leave out what was measured while it changed so much.
_CHANGED = 1.16
_PREDICTED_COLUMNS = (Column("predicted", "µs"), Column("error", "%"))


def profile_text(result: ProfileResult) -> str:
    """Headline, table per block and end to end, summary and notes."""
    predicted = result.comparison is not None
    rates = [Column(KIND_TITLES[kind], "% kept") for kind in result.kinds]
    columns = [*_NAME_COLUMNS, *rates, *_COLUMNS, *(_DENSE_COLUMNS if result.dense else ()), *_IDEAL_COLUMNS]
    rows = [_block_row(block, result) for block in result.blocks]
    tail = [_residual_row(result), _total_row(result)]
    if predicted:
        columns += _PREDICTED_COLUMNS
        rows = [[*row, *prediction_cells(block.predicted)] for row, block in zip(rows, result.blocks, strict=True)]
        median = result.comparison.median if result.comparison else None
        tail = [[*tail[0], MISSING, MISSING], [*tail[1], *prediction_cells(median)]]
    table = render_table(columns, [*rows, RULE, *tail])
    lines = [headline(result), circumstances(result), "", table, "", *_layer_lines(result), *summary(result)]
    return "\n".join([*lines, *(f"Note: {note}" for note in result.notes)])


def headline(result: ProfileResult) -> str:
    """What was measured, in one line."""
    engine = result.engine
    size = "x".join(str(side) for side in engine["input"][1:])
    processor = f"{engine['isa']} kernels" if engine["isa"] else result.environment.get("gpu", "")
    return f"{engine['arch']}, {engine['precision']}, input {size}, {engine['backend']}, {processor}"


def circumstances(result: ProfileResult) -> str:
    """How it was measured, in one line."""
    settings, images = result.settings, result.images
    kind = "generated images" if images["kind"] == "generated" else "images"
    return (
        f"{settings['runs']} runs after {settings['warmup']} to warm up, batch {settings['batch']}, "
        f"{_how_it_ran(settings)}, {images['count']} {kind}"
        + (", engine and dense in turn" if settings["interleaved"] else "")
    )


def _how_it_ran(settings: dict[str, Any]) -> str:
    threads = settings["threads"]
    if threads is None:
        return "one CUDA graph" if settings.get("cuda_graph") else "kernel by kernel"
    return f"{threads} thread{'s' if threads != 1 else ''}"


def _layer_lines(result: ProfileResult) -> list[str]:
    """The layers that a compiled engine is made of; the runs of blocks are among them."""
    if not result.layers:
        return []
    columns = (Column("layer", left=True), Column("median", "µs"), Column("p95", "µs"))
    rows = [
        [layer.name, number(layer.timing.median_us), number(layer.timing.p95_us)] for layer in result.layers
    ]
    return [render_table(columns, rows), ""]


def summary(result: ProfileResult) -> list[str]:
    """The result in sentences, one line each."""
    total = result.end_to_end
    lines = [f"End to end: {_ms(total.median_us)} median, {_ms(total.p95_us)} p95, CV {total.cv:.1%}."]
    if result.activation is not None and result.ideal_speedup is not None:
        lines.append(
            f"The masks leave {result.activation:.0%} of the dense MACs: "
            f"FLOP-ideal {result.ideal_speedup:.2f}×."
        )
    if result.found:
        lines.append("Found per image: " + ", ".join(_spread(name, one) for name, one in result.found.items()) + ".")
    if result.dense is not None:
        dense = result.dense
        share = f", {dense.share_of_ideal:.0%} of the ideal" if dense.share_of_ideal is not None else ""
        lines.append(
            f"Dense onnxruntime: {_ms(dense.timing.median_us)} median. Speed-up {dense.speedup:.2f}×"
            f"{share} (median of paired ratios {dense.paired_speedup:.2f}×)."
        )
    if result.comparison is not None:
        lines.append(prediction_summary(result.comparison))
    return lines


def prediction_summary(comparison: Comparison) -> str:
    """How the latency model did, in one line."""
    median, p95 = comparison.median, comparison.p95
    text = f"Predicted: {_ms(median.predicted_us)} median ({median.error:+.1%}"
    if median.inside is not None:
        text += f", measured {'inside' if median.inside else 'outside'} its 90 % interval"
    text += f"), {_ms(p95.predicted_us)} p95 ({p95.error:+.1%})"
    if comparison.block_error is not None:
        text += f"; blocks off by {comparison.block_error:.1%} on average"
    if comparison.spearman is not None:
        text += f", rank correlation {comparison.spearman:.3f}"
    return f"{text} ({comparison.status}).{_state(comparison.state)}"


def _state(state: MachineState | None) -> str:
    """What the prediction was told of the machine, where that was not as usual, and whether it stayed so."""
    if state is None:
        return ""
    parts = []
    if abs(state.clock - 1) >= _AS_USUAL:
        parts.append(f"at {state.clock:.0%} of the clock that it was calibrated at")
    if abs(state.shared - 1) >= _AS_USUAL:
        parts.append(f"with shared work taking {state.shared:.2f} times as long as usual")
    if state.cache <= 1 - _CACHE_AS_USUAL:
        parts.append(f"with {state.cache:.0%} of the usual last-level cache left by its neighbours")
    usually = f"; as usual it would be {_ms(state.usual_median_us)}"
    text = f" That is for the machine as it was, {', '.join(parts)}{usually}." if parts else ""
    if state.change >= _CHANGED:
        text += f" What sharing work costs changed meanwhile, by {state.change - 1:.0%}: measure again."
    return text


def _spread(name: str, spread: Spread) -> str:
    return f"{spread.mean:.0f} {name} (median {spread.p50:.0f}, 95 % {spread.p95:.0f}, most {spread.most})"


def prediction_cells(time: PredictedTime | None) -> list[str]:
    """Predicted time and signed error; an error outside the model's interval is marked."""
    if time is None:
        return [MISSING, MISSING]
    mark = "!" if time.inside is False else ""
    return [number(time.predicted_us), f"{time.error * 100:+.0f}{mark}"]


def _ms(microseconds: float) -> str:
    return f"{microseconds / 1000:.2f} ms"


def _block_row(block: BlockProfile, result: ProfileResult) -> list[str]:
    timing = block.timing
    row = [
        block.name,
        block.execution,
        *(percent(block.rate(kind)) for kind in result.kinds),
        percent(block.activation),
        number(timing.median_us if timing else None),
        number(timing.p95_us if timing else None),
    ]
    if result.dense is not None:
        row += [number(block.dense.median_us if block.dense else None), times(block.speedup)]
    return [*row, times(block.ideal_speedup)]


def _residual_row(result: ProfileResult) -> list[str]:
    tail = [MISSING] * (3 if result.dense else 1)
    before = [MISSING] * (2 + len(result.kinds))
    return ["residual", *before, number(result.residual_us), MISSING, *tail]


def _total_row(result: ProfileResult) -> list[str]:
    total, dense = result.end_to_end, result.dense
    row = ["end to end", MISSING, *[MISSING] * len(result.kinds), percent(result.activation)]
    row += [number(total.median_us), number(total.p95_us)]
    if dense is not None:
        row += [number(dense.timing.median_us), times(dense.speedup)]
    return [*row, times(result.ideal_speedup)]
