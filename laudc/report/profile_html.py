"""A profile as one HTML file: no scripts, no fonts, no network; light and dark; readable on a phone."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from laudc.devices.profile import MEASURED
from laudc.profile.records import BlockProfile, ProfileResult
from laudc.report.profile_text import KIND_TITLES, circumstances, headline, prediction_cells, prediction_summary
from laudc.report.tables import number, percent, times

_STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1b1f24; --soft: #5b6570; --line: #d7dce1;
  --own: #1f6feb; --dense: #b6bec7; --card: #f5f7f9; }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --text: #e6e9ec; --soft: #9aa4ae;
  --line: #333a41; --own: #6aa6ff; --dense: #565f69; --card: #1d2226; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: .5rem 0 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); font-size: .9rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .7rem;
  margin: 1rem 0; }
.card { background: var(--card); border-radius: .5rem; padding: .7rem .9rem; }
.card b { display: block; font-size: 1.5rem; line-height: 1.3; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; white-space: nowrap; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, td.word, th.word { text-align: left; }
th small { display: block; font-weight: normal; color: var(--soft); }
tr.total td { font-weight: 600; }
svg { display: block; width: 100%; } svg text { fill: var(--text); font: 12px system-ui, sans-serif; }
.own { fill: var(--own); } .dense { fill: var(--dense); } svg .value { fill: var(--soft); font-size: 11px; }
.key span { display: inline-block; width: .8rem; height: .8rem; border-radius: .15rem;
  margin: 0 .3rem 0 .8rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
"""

_ROW_PX = 34
_NAME_PERCENT = 24
_BARS_PERCENT = 60


def profile_html(result: ProfileResult) -> str:
    """The whole page. Everything that comes from files is escaped."""
    body = [
        f"<h1>{escape(headline(result))}</h1>",
        f'<p class="soft">{escape(circumstances(result))}</p>',
        _cards(result),
        *([f"<p>{escape(prediction_summary(result.comparison))}</p>"] if result.comparison else []),
        *(f"<p><strong>Note:</strong> {escape(note)}</p>" for note in result.notes),
        "<h2>Time per block</h2>",
        _legend(result),
        _chart(result),
        "<h2>All numbers</h2>",
        _table(result),
        "<h2>Circumstances</h2>",
        _environment(result),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>laudc profile: {escape(str(result.engine['arch']))}</title><style>{_STYLE}</style></head>\n"
        "<body>" + "\n".join(body) + "</body></html>\n"
    )


def _cards(result: ProfileResult) -> str:
    cards = [("latency, median", f"{result.end_to_end.median_us / 1000:.2f} ms")]
    if result.dense is not None:
        cards.append(("dense onnxruntime", f"{result.dense.timing.median_us / 1000:.2f} ms"))
        cards.append(("speed-up", f"{result.dense.speedup:.2f}×"))
    if result.ideal_speedup is not None:
        cards.append(("FLOP-ideal", f"{result.ideal_speedup:.2f}×"))
    if result.dense is not None and result.dense.share_of_ideal is not None:
        cards.append(("share of ideal", f"{result.dense.share_of_ideal:.0%}"))
    if result.comparison is not None:
        status = result.comparison.status
        title = "predicted" if status == MEASURED else f"predicted ({status})"
        cards.append((title, f"{result.comparison.median.predicted_us / 1000:.2f} ms"))
    if result.activation is not None:
        cards.append(("MACs left by masks", f"{result.activation:.0%}"))
    inside = "".join(
        f'<div class="card">{escape(title)}<b>{escape(value)}</b></div>' for title, value in cards
    )
    return f'<div class="cards">{inside}</div>'


def _legend(result: ProfileResult) -> str:
    dense = '<span style="background:var(--dense)"></span>dense onnxruntime' if result.dense else ""
    return f'<p class="soft key"><span style="background:var(--own)"></span>this engine{dense}</p>'


def _chart(result: ProfileResult) -> str:
    """Horizontal bars, widths in percent so that text keeps its size on a narrow screen."""
    longest = max((_longest_us(block) for block in result.blocks), default=0.0) or 1.0
    rows = [_bars(index, block, longest) for index, block in enumerate(result.blocks)]
    height = _ROW_PX * len(rows)
    return f'<svg role="img" aria-label="time per block" height="{height}">{"".join(rows)}</svg>'


def _longest_us(block: BlockProfile) -> float:
    return max((timing.median_us for timing in (block.timing, block.dense) if timing), default=0.0)


def _bars(index: int, block: BlockProfile, longest_us: float) -> str:
    top = index * _ROW_PX
    parts = [f'<text x="0" y="{top + 20}">{escape(block.name)}</text>']
    for timing, kind, y in ((block.timing, "own", top + 4), (block.dense, "dense", top + 17)):
        if timing is None:
            continue
        width = _BARS_PERCENT * timing.median_us / longest_us
        end = _NAME_PERCENT + width + 1
        parts.append(
            f'<rect class="{kind}" x="{_NAME_PERCENT}%" y="{y}" width="{width:.2f}%" height="11" rx="2"/>'
            f'<text class="value" x="{end:.2f}%" y="{y + 10}">{timing.median_us:.0f} µs</text>'
        )
    return "".join(parts)


def _table(result: ProfileResult) -> str:
    heads = [("block", "", True), ("runs", "", True)]
    heads += [(KIND_TITLES[kind], "% kept", False) for kind in result.kinds]
    heads += [("active", "% MACs", False), ("median", "µs", False), ("p95", "µs", False), ("CV", "%", False)]
    heads += [("predicted", "µs", False), ("error", "%", False)]
    heads += [("dense", "µs", False), ("speed-up", "×", False), ("FLOP-ideal", "×", False), ("why", "", True)]
    head = "".join(
        f"<th{' class=word' if word else ''}>{title}<small>{unit}</small></th>" for title, unit, word in heads
    )
    rows = "".join(_table_row(block, result.kinds) for block in result.blocks)
    return f'<div class="scroll"><table><tr>{head}</tr>{rows}{_total_rows(result)}</table></div>'


def _table_row(block: BlockProfile, kinds: tuple[str, ...]) -> str:
    timing, dense = block.timing, block.dense
    numbers = [
        number(timing.median_us if timing else None),
        number(timing.p95_us if timing else None),
        percent(timing.cv if timing else None),
        *prediction_cells(block.predicted),
        number(dense.median_us if dense else None),
        times(block.speedup),
        times(block.ideal_speedup),
    ]
    cells = [f"<td>{escape(block.name)}</td>", f'<td class="word">{escape(block.execution)}</td>']
    cells += [*(_heat(block.rate(kind)) for kind in kinds), _heat(block.activation)]
    cells += [f"<td>{value}</td>" for value in numbers]
    return f'<tr>{"".join(cells)}<td class="word soft">{escape(block.reason)}</td></tr>'


def _heat(share: float | None) -> str:
    """A cell the stronger coloured the more is computed."""
    if share is None:
        return "<td>-</td>"
    strength = round(55 * min(1.0, max(0.0, share)))
    colour = f"color-mix(in srgb, var(--own) {strength}%, transparent)"
    return f'<td style="background:{colour}">{percent(share)}</td>'


def _total_rows(result: ProfileResult) -> str:
    total, dense = result.end_to_end, result.dense
    residual = ["-"] * (1 + len(result.kinds)) + [number(result.residual_us)] + ["-"] * 7
    whole = [
        *["-"] * len(result.kinds),
        percent(result.activation),
        number(total.median_us),
        number(total.p95_us),
        percent(total.cv),
        *prediction_cells(result.comparison.median if result.comparison else None),
    ]
    whole += [number(dense.timing.median_us if dense else None), times(dense.speedup if dense else None)]
    whole.append(times(result.ideal_speedup))
    return _footer("residual", residual, "stem, head and runtime") + _footer("end to end", whole, "", "total")


def _footer(name: str, cells: list[str], why: str, style: str = "") -> str:
    inside = "".join(f"<td>{value}</td>" for value in cells)
    return f'<tr class="{style}"><td>{name}</td><td></td>{inside}<td class="word soft">{why}</td></tr>'


def _processor(environment: Mapping[str, Any]) -> dict[str, str]:
    """What did the work: a GPU, as the on-device runner tells it, or the host's CPU."""
    if "gpu" in environment:
        return {"GPU": f"{environment['gpu']}, sm {environment['sm']}, driver for CUDA {environment['driver']}"}
    host = environment["host"]
    return {"CPU": f"{host['cpu']}, {host['cores']} cores, {' '.join(host['features'])}"}


def _environment(result: ProfileResult) -> str:
    environment = result.environment
    load = environment.get("load_average")
    facts = {
        **_processor(environment),
        "system": environment.get("system", "unknown"),
        "versions": ", ".join(
            f"{name} {environment[name]}"
            for name in ("laudc", "onnxruntime", "tensorrt", "cuda", "numpy", "python")
            if name in environment
        ),
        "load average": ", ".join(f"{value:.1f}" for value in load) if load else "unknown",
        "clock": environment["clock"],
        "repeatability": f"CV {result.end_to_end.cv:.1%} over {result.end_to_end.runs} runs",
        "ONNX sha256": result.engine["source_onnx_sha256"],
        "checkpoint sha256": result.engine["checkpoint_sha256"] or "not recorded",
    }
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    return f"<dl>{items}</dl>"
