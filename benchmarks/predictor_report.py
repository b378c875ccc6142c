"""The tables of `predictor_cpu.py report`: laudc's model beside a roofline and LAUDNet's model on the same rows."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from predictor_dense import DENSE
from predictor_networks import Variant

from laudc.calibrate.fit import error_summary
from laudc.calibrate.run import FOREIGN, SLOW, USUAL_BEST
from laudc.devices import load_profile
from laudc.ops.scheduled import BlockRecord, Conv2Algorithm
from laudc.predict.activation import Activation, load_activation
from laudc.predict.counts import count_block
from laudc.predict.frame import Frame
from laudc.predict.models import latency_model
from laudc.predict.network import PlannedBlock, batches, block_counts, places, predict_network
from laudc.schedule.plan import by_rule

Pairs = dict[str, list[tuple[float, float]]]


def report(path: Path, device: str) -> None:
    """Prints everything that the file allows."""
    rows = latest(read(path))
    profile = load_profile(device)
    for threads in sorted({int(count) for row in rows for count in row["times"]}):
        trusted = latency_model(profile, threads=threads)
        assert trusted is not None, "the device has no latency model: laudc calibrate"
        print(f"\n== {threads} thread(s), {trusted.status}")
        of = {step: [row for row in rows if row["step"] == step] for step in ("networks", "traces", "schedule")}
        if of["networks"]:
            quiet = undisturbed(of["networks"], threads)
            print(f"{len(quiet)} of {len(of['networks'])} networks were measured at the machine's usual pace")
            _networks(quiet, trusted.model, profile, threads)
        if of["traces"]:
            quiet = undisturbed(of["traces"], threads)
            known = all(np.isfinite(pace_of(row, threads)) for row in quiet)
            at = "at the machine's usual pace" if known else "at a pace that was not recorded"
            print(f"{len(quiet)} of {len(of['traces'])} traces were measured {at}")
            _traces(quiet, trusted.model, threads)
        if of["schedule"]:
            _schedule(of["schedule"], trusted.model, threads)


def read(path: Path) -> list[dict[str, Any]]:
    """What was measured so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def undisturbed(rows: list[dict[str, Any]], threads: int) -> list[dict[str, Any]]:
    """The rows with so many threads that were measured at the machine's usual pace, as a calibration judges it,
    whatever other processes did; all, where none says at which."""
    paces = [pace_of(row, threads) for row in rows]
    if not np.isfinite(paces).any():
        return [row for row in rows if str(threads) in row["times"]]
    usual = np.quantile([pace for pace in paces if pace < np.inf], USUAL_BEST)
    return [row for row, pace in zip(rows, paces, strict=True) if pace <= SLOW * usual]


def latest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per network and rate; of those measured again the times at the better pace, per number of threads."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        key = json.dumps([row["step"], row["variant"], row["rate"]])
        kept = found.setdefault(key, row)
        for threads in row["times"]:
            if pace_of(row, int(threads)) < pace_of(kept, int(threads)):
                kept["times"][threads] = row["times"][threads]
    return list(found.values())


def disturbed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Variants of the networks or traces of the rows that were not measured at the machine's usual pace throughout."""
    networks = latest(rows)
    threads = {int(count) for row in networks for count in row["times"]}
    quiet = {count: {id(row) for row in undisturbed(networks, count)} for count in threads}
    return [row["variant"] for row in networks if not all(id(row) in quiet[count] for count in threads)]


def pace_of(row: dict[str, Any], threads: int) -> float:
    """The slowest pace around the passes of a network that count, the median around the rounds of a trace, whose times
    are medians as well; infinite where a row has none."""
    times = row["times"].get(str(threads), {})
    if "pace_ns" not in times:
        return float(np.inf)
    if row["step"] == "traces":
        return float(np.median(times["pace_ns"]))
    return float(max(times["pace_ns"][index] for index in counting(times)))


def counting(times: dict[str, Any]) -> np.ndarray:
    """The two passes at the best pace, those last that other processes disturbed: which count is decided by a fixed
    piece of work timed around each and by the load of others, not by what they measured."""
    paces = np.asarray(times["pace_ns"])
    busy = np.asarray(times.get("foreign", np.zeros(len(paces)))) > FOREIGN
    return np.lexsort((paces, busy))[:2]


def _network(row: dict[str, Any]) -> tuple[Variant, list[PlannedBlock], Activation]:
    variant = Variant(**row["variant"])
    blocks = [PlannedBlock(name, by_rule(record)) for name, record in variant.blueprint.blocks()]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(row["masks"])
        file.flush()
        activation = load_activation(file.name, [(b.name, b.record) for b in blocks], None)
    return variant, blocks, activation


def _line(label: str, pairs: list[tuple[float, float]]) -> None:
    predicted, measured = (np.asarray(values) for values in zip(*pairs, strict=True))
    errors = error_summary(predicted, measured)
    rmspe = float(np.sqrt(np.mean((predicted / measured - 1) ** 2)))
    ranks = [values.argsort().argsort() for values in (predicted, measured)]
    spearman = float(np.corrcoef(*ranks)[0, 1]) if len(pairs) > 2 else float("nan")
    print(
        f"{label:<40} n {errors['count']:>5}  MAPE {errors['mape']:6.1%}  RMSPE {rmspe:6.1%}  "
        f"bias {errors['bias']:+6.1%}  ±5 % {errors['within_5']:6.1%}  ±10 % {errors['within_10']:6.1%}  "
        f"Spearman {spearman:.3f}"
    )


def _networks(rows: list[dict[str, Any]], model: Any, profile: Any, threads: int) -> None:
    whole: Pairs = {}
    blocks_of: Pairs = {}
    inside: dict[str, list[bool]] = defaultdict(list)
    repeat = []
    by_mode: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        times = row["times"][str(threads)]
        variant, blocks, activation = _network(row)
        predicted = predict_network(model, Frame.of_blueprint(variant.blueprint), blocks, activation, status="")
        chosen = counting(times)
        first, again = np.asarray(times["total_ns"])[chosen]
        total = (first + again) / 2e3
        block_ns = np.mean(np.asarray(times["block_ns"])[chosen], axis=0)
        repeat.append(abs(again / first - 1))
        whole.setdefault("laudc", []).append((predicted.latency.mean_us, total))
        by_mode[variant.mode].append((predicted.latency.mean_us, total))
        inside["networks"].append(holds(predicted.latency, total))
        for block, ns in zip(predicted.blocks, block_ns, strict=True):
            blocks_of.setdefault("laudc", []).append((block.latency.mean_us, ns / 1e3))
            inside["blocks"].append(holds(block.latency, ns / 1e3))
        for name, values in _baselines(blocks, activation, profile):
            whole.setdefault(f"{name} (blocks only)", []).append((sum(values), total))
            blocks_of.setdefault(name, []).extend(zip(values, block_ns / 1e3, strict=True))
    print(f"repeatability of networks: median {np.median(repeat):.1%}, 90 % within {np.percentile(repeat, 90):.1%}")
    for name, pairs in whole.items():
        _line(f"networks, {name}", pairs)
    for mode, pairs in by_mode.items():
        _line(f"  {mode}", pairs)
    for name, pairs in blocks_of.items():
        _line(f"blocks, {name}", pairs)
        _line(f"  of more than 30 µs, {name}", [pair for pair in pairs if pair[1] > 30])
    for name, hits in inside.items():
        print(f"90 % intervals of {name} hold {np.mean(hits):.1%}")


def holds(latency: Any, measured_us: float) -> bool:
    """Whether a prediction's interval does."""
    return latency.low_us is not None and latency.low_us <= measured_us <= latency.high_us


def _baselines(blocks: list[PlannedBlock], activation: Activation, profile: Any) -> Iterator[tuple[str, list[float]]]:
    """Block times in µs of the roofline and of LAUDNet's model, with the mean rates of the masks."""
    from laudc.predict.compat.blocks import BlockMode, predict_block
    from laudc.predict.compat.model import Model
    from laudc.predict.geometry import BlockGeometry, BlockRates
    from laudc.predict.roofline import roofline_block_s

    compat = Model(profile)
    roofline, theirs = [], []
    for block in blocks:
        spatial, channel = activation.of_block(block.name)
        layer = spatial is not None and block.record.mask_h == block.record.mask_w == 1
        kept = float(spatial.mean()) if spatial is not None else 1.0
        rates = BlockRates(
            spatial=1.0 if layer else kept,
            channel=float(channel.mean()) if channel is not None else 1.0,
            layer=kept if layer else 1.0,
        )
        geometry = BlockGeometry.of_record(block.record)
        roofline.append(roofline_block_s(profile, geometry, rates) * 1e6)
        theirs.append(predict_block(compat, geometry, BlockMode.of_record(block.record), rates).latency_s * 1e6)
    yield "roofline", roofline
    yield "laudnet-compat", theirs


def _traces(rows: list[dict[str, Any]], model: Any, threads: int) -> None:
    means, tails, images = [], [], []
    hits = []
    for row in rows:
        measured = np.asarray(row["times"][str(threads)]["image_ns"]) / 1e3
        variant, blocks, activation = _network(row)
        predicted = predict_network(model, Frame.of_blueprint(variant.blueprint), blocks, activation, status="")
        means.append((predicted.latency.mean_us, float(measured.mean())))
        tails.append((predicted.latency.p95_us, float(np.percentile(measured, 95))))
        images += list(zip(predicted.samples_us, measured, strict=True))
        interval, ratio = model.network_interval, measured / predicted.samples_us
        hits += ((ratio >= interval.low) & (ratio <= interval.high)).tolist()
    _line("traces, mean over images", means)
    _line("traces, p95 over images", tails)
    _line("traces, single images", images)
    print(f"90 % intervals of single images hold {np.mean(hits):.1%}")


def _schedule(rows: list[dict[str, Any]], model: Any, threads: int) -> None:
    """What the model chooses for every block - conv2 direct or by Winograd, or the block dense - against the best."""
    losses = []
    best = dict.fromkeys((*Conv2Algorithm.__members__, DENSE), 0)
    for row in rows:
        if str(threads) not in row["times"]:
            continue
        times = row["times"][str(threads)]
        variant, blocks, activation = _network(row)
        beside = Frame.of_blueprint(variant.blueprint).weights
        counts = block_counts(blocks, activation)
        stands = places(blocks, counts, model.last_cache, beside)
        for index, (block, place) in enumerate(zip(blocks, stands, strict=True)):
            names = [Conv2Algorithm.DIRECT.name]
            if block.record.stride == 1:
                names.append(Conv2Algorithm.WINOGRAD_2X2.name)
            cost = {name: _cost(model, block, activation, place, name) for name in names}
            cost[DENSE] = model.dense_ns(block.record, 1, place.far)
            names.append(DENSE)
            measured = {name: times[name][index] for name in names}
            losses.append(measured[min(cost, key=cost.__getitem__)] / min(measured.values()) - 1)
            best[min(measured, key=measured.__getitem__)] += 1
    lost = np.asarray(losses)
    print(
        f"schedule: {len(lost)} blocks, fastest as measured: {', '.join(f'{name} {n}' for name, n in best.items())}; "
        f"choice within 3 % of the fastest: {np.mean(lost <= 0.03):.1%}; "
        f"mean loss {lost.mean():.2%}, largest {lost.max():.0%}"
    )


def _cost(model: Any, block: PlannedBlock, activation: Activation, place: Any, algorithm: str) -> float:
    record: BlockRecord = replace(block.record, conv2_algorithm=Conv2Algorithm[algorithm])
    counts = count_block(record, *activation.of_block(block.name), activation.images)
    return float(model.batch_ns(record, counts, place, batches(activation.images, 1)).mean())
