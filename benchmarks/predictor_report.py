"""The tables of `predictor_cpu.py report`: laudc's model beside a roofline and LAUDNet's model on the same rows."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from predictor_dense import DENSE
from predictor_networks import Variant

from laudc.calibrate.fit import error_summary
from laudc.calibrate.pace import SLOW, Pace, conditions, slowness, usual_pace
from laudc.calibrate.run import FOREIGN
from laudc.devices import load_profile
from laudc.ops.scheduled import BlockRecord, Conv2Algorithm
from laudc.predict.activation import Activation, load_activation
from laudc.predict.cpu.amounts import PANEL
from laudc.predict.frame import Frame
from laudc.predict.models import latency_model
from laudc.predict.network import NetworkPrediction, PlannedBlock, block_counts, predict_network
from laudc.schedule import BlockPlan, Plan
from laudc.schedule.choose import CostChooser
from laudc.schedule.plan import by_rule

Pairs = dict[str, list[tuple[float, float]]]


def report(path: Path, device: str) -> None:
    """Prints everything that the file allows."""
    rows = latest(read(path))
    profile = load_profile(device)
    for threads in sorted({int(count) for row in rows for count in row["times"]}):
        trusted = latency_model(profile, threads=threads)
        assert trusted is not None, "the device has no latency model: laudc calibrate"
        assert trusted.model.threads == threads, f"{threads} threads were not calibrated"
        print(f"\n== {threads} thread(s), {trusted.status}")
        of = {step: [row for row in rows if row["step"] == step] for step in ("networks", "traces", "schedule")}
        usual = usual_of(rows, threads)
        for step, tables in (("networks", _networks), ("traces", _traces)):
            if of[step]:
                quiet = undisturbed(of[step], threads, usual)
                print(f"{len(quiet)} of {len(of[step])} {step} were measured in peace")
                tables(quiet, trusted.model, profile, threads, usual)
        if of["schedule"]:
            _schedule(of["schedule"], trusted.model, threads, usual)


def read(path: Path) -> list[dict[str, Any]]:
    """What was measured so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def paces_of(row: dict[str, Any], threads: int) -> list[list[Pace]]:
    """Before and after every pass or round of the row."""
    times = row["times"].get(str(threads), {})
    return [[Pace.from_dict(one) for one in around] for around in times.get("paces", [])]


def usual_of(rows: list[dict[str, Any]], threads: int) -> Pace:
    """The usual pace over all that was measured."""
    return usual_pace(pace for row in rows for around in paces_of(row, threads) for pace in around)


def undisturbed(rows: list[dict[str, Any]], threads: int, usual: Pace) -> list[dict[str, Any]]:
    """The rows with so many threads that were measured in peace, as a calibration judges it, whatever other processes
    did."""
    return [row for row in rows if slowness_of(row, threads, usual) <= SLOW]


def latest(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per network and rate; of those measured again the times at the better pace, per number of threads."""
    usual = {int(count): usual_of(rows, int(count)) for row in rows for count in row["times"] }
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        key = json.dumps([row["step"], row["variant"], row["rate"]])
        kept = found.setdefault(key, row)
        for threads in row["times"]:
            pace = usual[int(threads)]
            if _worst_of(row, int(threads), pace) < _worst_of(kept, int(threads), pace):
                kept["times"][threads] = row["times"][threads]
    return list(found.values())


def disturbed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Variants of the networks or traces of the rows that were not measured in peace and under usual conditions
    throughout."""
    networks = latest(rows)
    usual = {count: usual_of(networks, count) for count in {int(count) for row in networks for count in row["times"]}}

    def fine(row: dict[str, Any], count: int) -> bool:
        return slowness_of(row, count, usual[count]) <= SLOW and as_usual(row, count, usual[count])

    return [row["variant"] for row in networks if not all(fine(row, count) for count in usual)]


def slowness_of(row: dict[str, Any], threads: int, usual: Pace) -> float:
    """How slow the machine was at worst around the passes of a network that count, and in the median around the rounds
    of a trace, whose times are medians as well; infinite where a row does not tell."""
    paces = paces_of(row, threads)
    if not paces:
        return float(np.inf)
    worst = [slowness(around, usual) for around in paces]
    if row["step"] == "traces":
        return float(np.median(worst))
    return max(worst[index] for index in counting(row, threads, usual))


def as_usual(row: dict[str, Any], threads: int, usual: Pace) -> bool:
    """Whether sharing work cost what it usually does, around the passes of a network that count, or in the median over
    the rounds of anything else."""
    paces = paces_of(row, threads)
    if row["step"] == "networks" and paces:
        paces = [paces[index] for index in counting(row, threads, usual)]
    shared = [pace.shared for around in paces for pace in around]
    return bool(shared) and float(np.median(shared)) <= SLOW * usual.shared


def counting(row: dict[str, Any], threads: int, usual: Pace) -> np.ndarray:
    """The two passes nearest to usual conditions, those last that other processes disturbed: which count is decided by
    fixed pieces of work timed around each and by the load of others, not by what they measured."""
    worst = [_pace(around, usual) for around in paces_of(row, threads)]
    busy = np.asarray(row["times"][str(threads)]["foreign"]) > FOREIGN
    return np.lexsort((worst, busy))[:2]


def _pace(around: list[Pace], usual: Pace) -> float:
    """How far from usual everything was that is known, what sharing costs and memory included."""
    memory = (pace.memory_ns / usual.memory_ns for pace in around)
    return max(slowness(around, usual), *memory, *(pace.shared / usual.shared for pace in around))


def _worst_of(row: dict[str, Any], threads: int, usual: Pace) -> float:
    """The same in the median over the passes or rounds of a row; infinite where it has none."""
    return float(np.median([_pace(around, usual) for around in paces_of(row, threads)] or [np.inf]))


def told(model: Any, paces: list[list[Pace]]) -> Any:
    """The model for the conditions that these paces tell, on average."""
    return model.at(conditions([pace for around in paces for pace in around], model.threads))


def _network(row: dict[str, Any]) -> tuple[Variant, list[PlannedBlock], Activation]:
    variant = Variant(**row["variant"])
    blocks = [PlannedBlock(name, by_rule(record)) for name, record in variant.blueprint.blocks()]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(row["masks"])
        file.flush()
        activation = load_activation(file.name, [(b.name, b.record) for b in blocks], None)
    return variant, blocks, activation


def _predict(
    model: Any, variant: Variant, blocks: list[PlannedBlock], activation: Activation
) -> NetworkPrediction:
    return predict_network(model, Frame.of_blueprint(variant.blueprint), blocks, activation, status="")


def _line(label: str, pairs: list[tuple[float, float]]) -> None:
    if not pairs:
        return
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


def _networks(rows: list[dict[str, Any]], model: Any, profile: Any, threads: int, usual: Pace) -> None:
    whole: Pairs = {}
    blocks_of: Pairs = {}
    inside: dict[str, list[bool]] = defaultdict(list)
    repeat = []
    parts: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        times = row["times"][str(threads)]
        network = variant, blocks, activation = _network(row)
        chosen = counting(row, threads, usual)
        around = [paces_of(row, threads)[index] for index in chosen]
        predicted = _predict(told(model, around), *network)
        first, again = np.asarray(times["total_ns"])[chosen]
        total = (first + again) / 2e3
        block_ns = np.mean(np.asarray(times["block_ns"])[chosen], axis=0)
        ratio = np.divide(*(_predict(told(model, [one]), *network).latency.mean_us for one in around))
        repeat.append(abs(again / first * ratio - 1))
        whole.setdefault("laudc", []).append((predicted.latency.mean_us, total))
        untold = _predict(model, *network).latency.mean_us
        whole.setdefault("laudc, not told the conditions", []).append((untold, total))
        for part in ("as usual" if as_usual(row, threads, usual) else "cores apart", variant.mode):
            parts[part].append((predicted.latency.mean_us, total))
        inside["networks"].append(holds(predicted.latency, total))
        for block, ns in zip(predicted.blocks, block_ns, strict=True):
            blocks_of.setdefault("laudc", []).append((block.latency.mean_us, ns / 1e3))
            inside["blocks"].append(holds(block.latency, ns / 1e3))
        for name, values in _baselines(blocks, activation, profile):
            whole.setdefault(f"{name} (blocks only)", []).append((sum(values), total))
            blocks_of.setdefault(name, []).extend(zip(values, block_ns / 1e3, strict=True))
    print(
        f"repeatability of networks, what conditions explain taken out: median {np.median(repeat):.1%}, "
        f"90 % within {np.percentile(repeat, 90):.1%}"
    )
    for name, pairs in whole.items():
        _line(f"networks, {name}", pairs)
    for part, pairs in parts.items():
        _line(f"  {part}", pairs)
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


def _traces(rows: list[dict[str, Any]], model: Any, profile: Any, threads: int, usual: Pace) -> None:
    means, tails, images, untold = [], [], [], []
    at_rest = []
    hits = []
    for row in rows:
        network = _network(row)
        paces = paces_of(row, threads)
        calm = [number for number, one in enumerate(paces) if slowness(one, usual) <= SLOW]
        around = [paces[number] for number in calm]
        rounds = np.asarray(row["times"][str(threads)]["rounds_ns"])[calm] / 1e3
        of_rounds = np.stack([_predict(told(model, [one]), *network).samples_us for one in around])
        on_average = told(model, around)
        predicted = _predict(on_average, *network)
        # Rounds are seconds apart: each is held against what is predicted for the conditions that it was made under.
        measured = predicted.samples_us * np.median(rounds / of_rounds, axis=0)
        usually = _predict(model, *network)
        means.append((predicted.latency.mean_us, float(measured.mean())))
        if as_usual(row, threads, usual):
            at_rest.append(means[-1])
        untold.append((usually.latency.mean_us, float(np.median(rounds, axis=0).mean())))
        tails.append((predicted.latency.p95_us, float(np.percentile(measured, 95))))
        images += list(zip(predicted.samples_us, measured, strict=True))
        interval = on_average.network_interval(predicted.latency.mean_us)
        ratio = measured / predicted.samples_us
        hits += ((ratio >= interval.low) & (ratio <= interval.high)).tolist()
    _line("traces, mean over images", means)
    _line("  as usual", at_rest)
    _line("traces, mean, not told the conditions", untold)
    _line("traces, p95 over images", tails)
    _line("traces, single images", images)
    print(f"90 % intervals of single images hold {np.mean(hits):.1%}")


def _schedule(rows: list[dict[str, Any]], model: Any, threads: int, usual: Pace) -> None:
    """The scheduler knows the usual conditions: rows that were measured under these, and all of them."""
    measured = [row for row in rows if str(threads) in row["times"]]
    near = [row for row in measured if as_usual(row, threads, usual)]
    for label, some in (("as usual", near), ("under any conditions", measured)):
        if some:
            _schedule_line(label, some, model, threads)


def _schedule_line(label: str, rows: list[dict[str, Any]], model: Any, threads: int) -> None:
    """What the scheduler chooses for every block of a network - conv2 direct or by Winograd, or the block dense -
    against the fastest of these as measured. It counts what borders cost, so that a block which alone would be faster
    dense may well be left sparse; that is held against it all the same."""
    losses = []
    best = dict.fromkeys((*Conv2Algorithm.__members__, DENSE), 0)
    for row in rows:
        variant, blocks, activation = _network(row)
        counts = block_counts(blocks, activation)
        times = row["times"][str(threads)]
        for index, (block, choice) in enumerate(zip(blocks, _chosen(model, variant, activation), strict=True)):
            measured = {name: times[name][index] for name in _ways(block)}
            if not counts[index].conv2.any():
                # Without a pixel to compute both ways of ours are the same code: there is no choice to get wrong.
                ours = measured.keys() - {DENSE}
                measured.update(dict.fromkeys(ours, min(measured[name] for name in ours)))
            losses.append(measured[choice] / min(measured.values()) - 1)
            best[min(measured, key=measured.__getitem__)] += 1
    lost = np.asarray(losses)
    print(
        f"schedule, {label}: {len(lost)} blocks, fastest as measured: "
        f"{', '.join(f'{name} {n}' for name, n in best.items())}; "
        f"choice within 3 % of the fastest: {np.mean(lost <= 0.03):.1%}; "
        f"mean loss {lost.mean():.2%}, largest {lost.max():.0%}"
    )


def _ways(block: PlannedBlock) -> list[str]:
    """In which a block can be computed."""
    assert isinstance(block.record, BlockRecord)
    stride_one = [Conv2Algorithm.WINOGRAD_2X2.name] if block.record.stride == 1 else []
    return [Conv2Algorithm.DIRECT.name, *stride_one, DENSE]


def _chosen(model: Any, variant: Variant, activation: Activation) -> list[str]:
    """What `laudc build-engine` would do with each block."""
    records = dict(variant.blueprint.blocks())
    plan = Plan("auto", PANEL, tuple(BlockPlan(name, "sparse", "", record) for name, record in records.items()))
    chooser = CostChooser(model, Frame.of_blueprint(variant.blueprint), activation)
    return [
        DENSE if block.execution == "dense" else Conv2Algorithm(block.record.conv2_algorithm).name
        for block in chooser.choose(plan, records).blocks
    ]
