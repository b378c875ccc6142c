"""What a transformer block makes the CPU do: the columns mirror `plugins/cpu/vit_run.cpp` and what it calls.

See `laudc.predict.cpu.terms` for what a term is. The kernels go through the images of a call one after the other.
"""

from __future__ import annotations

import numpy as np

from laudc.ops.scheduled_vit import VitRecord
from laudc.ops.transformer import DroppedHead, MlpWidth
from laudc.predict.cpu.amounts import TOKENS, Amounts, Machine
from laudc.predict.interface import Place
from laudc.predict.traffic import vit_weights
from laudc.predict.vit_counts import VitCounts

Array = np.ndarray

VIT_TERMS = (
    "block",  # one per block and image
    "sublayers",  # sublayers that run
    "section",  # parallel sections
    "linear_macs",  # of projections and MLP
    "rows_read",  # floats of activations read, per panel
    "weights_near",  # floats of weights read from the last-level cache
    "weights_far",  # floats of weights read from memory
    "waited",  # of these, what few rows leave no time to fetch meanwhile
    "waited_slow",  # and what they do not where memory is slow
    "gapped",  # floats of weights read with gaps where heads are left out: nothing is fetched ahead
    "passed",  # floats of tokens that normalisations, policies and sums go through
    "attention_macs",  # of scores and mix
    "scores",  # scores that go through the softmax
    "heads",  # heads begun, each with its keys packed
    "gelu",  # hidden values that go through it
)
# Kinds of work that this family does not tell apart: they always come together, or too seldom to be fitted.
_MERGED = {
    "panel_reads": None,
    "tiles": None,
    "waited_near": "waited",
    "waited_far": "waited",
}
_LANES = 16
_QUERIES_PER_CHUNK = 36
_MIN_FLOATS_TO_SHARE = 32 * 1024


def vit_block_terms(record: VitRecord, counts: VitCounts, machine: Machine, place: Place) -> Array:
    """(images, terms) of one block, every image by itself; arguments as of `laudc.predict.cpu.terms.block_terms`."""
    work = Amounts(VIT_TERMS, len(counts), machine, place, _MERGED)
    work.add("block", 1.0)
    work.add("sublayers", counts.attends + counts.transforms)
    everything = float(record.tokens * record.dim)
    if record.token_policy:
        work.add("passed", _shared(work, np.full(len(counts), everything)))
    normalised = np.maximum(counts.attends, record.token_policy) * everything
    work.add("passed", _shared(work, normalised))
    work.add("passed", record.dim * (record.heads * record.head_policy + 2 * record.layer_policy))
    weights = vit_weights(record, counts)
    _attention(work, record, counts, weights)
    _mlp(work, record, counts, weights)
    return work.values


def _shared(work: Amounts, floats: Array) -> Array:
    """What the busiest thread does of work that is shared out by rows where there is enough."""
    return np.asarray(np.where(floats < _MIN_FLOATS_TO_SHARE, floats, floats / work.threads))


def _linear(
    work: Amounts, record: VitRecord, rows: Array, depth: Array | float, columns: Array | float, weights: Array
) -> None:
    share = work.gemm("linear", rows, depth, columns, sharing=TOKENS, panel=record.panel)
    work.weights(weights, rows, share.weights)


def _computed(record: VitRecord, rows: Array) -> Array:
    """Of `rows` tokens those whose results anybody reads."""
    return np.minimum(rows, 1.0) if record.first_only else rows


def _attention(work: Amounts, record: VitRecord, counts: VitCounts, weights: dict[str, Array]) -> None:
    rows = counts.tokens * counts.attends
    queries = _computed(record, rows)
    kept = counts.heads * record.head_dim
    passing = record.dim if record.dropped_heads == DroppedHead.VALUES else kept
    _linear(work, record, queries, record.dim, kept, weights["query"])
    _linear(work, record, rows, record.dim, kept, weights["key"])
    _linear(work, record, rows, record.dim, passing, weights["value"])
    work.add("passed", ((queries + rows) * kept + rows * passing) / work.threads)
    _heads(work, record, counts, rows, queries)
    _linear(work, record, queries, passing, record.dim, weights["proj"])
    some = counts.heads < record.heads
    work.add("gapped", weights["proj"] * (some & (record.dropped_heads != DroppedHead.VALUES)))
    work.add("passed", queries * record.dim / work.threads)


def _heads(work: Amounts, record: VitRecord, counts: VitCounts, rows: Array, queries: Array) -> None:
    """Heads are shared out among the threads; where they do not come out even, each head is split by its queries, and
    its keys are packed once for every part."""
    threads, heads = work.threads, counts.heads
    even = (heads % threads == 0) | (threads == 1)
    parts = np.where(even, 1.0, np.minimum(threads, np.ceil(queries / _QUERIES_PER_CHUNK)))
    tasks = np.ceil(heads * np.maximum(parts, 1) / threads)
    mine = tasks / np.maximum(parts, 1)  # heads' worth of queries
    padded = np.ceil(rows / _LANES) * _LANES
    values = np.ceil(record.head_dim / _LANES) * _LANES
    work.add("attention_macs", queries * (padded * record.head_dim + rows * values) * mine)
    work.add("scores", queries * rows * mine)
    work.add("heads", tasks * (rows > 0))
    work.add("section", (rows > 0) * float(threads > 1))


def _mlp(work: Amounts, record: VitRecord, counts: VitCounts, weights: dict[str, Array]) -> None:
    tokens = counts.tokens if record.tokens_in_mlp else np.full(len(counts), float(record.tokens))
    rows = _computed(record, tokens * counts.transforms)
    kept = counts.heads * record.head_dim
    inputs = kept if record.head_width == MlpWidth.INPUTS else record.dim
    share = counts.heads / record.heads if record.head_width == MlpWidth.OUTPUTS else 1.0
    hidden = record.hidden * share
    work.add("passed", _shared(work, rows * record.dim))
    _linear(work, record, rows, inputs, hidden, weights["fc1"])
    work.add("gelu", rows * hidden / work.threads)
    _linear(work, record, rows, hidden, record.dim, weights["fc2"])
    some = counts.heads < record.heads
    work.add("gapped", weights["fc1"] * (some & (record.head_width == MlpWidth.INPUTS)))
    work.add("gapped", weights["fc2"] * (some & (record.head_width == MlpWidth.OUTPUTS)))
    work.add("passed", rows * record.dim / work.threads)
