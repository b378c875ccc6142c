"""The packed weights of scheduled ops: one flat float32 array per block, laid out as the kernels read it.

`plugins/core/packed_layout.h` computes the same layout from the same record. A matrix of K rows and N columns becomes
ceil(N / panel) panels of (K, panel), padded with zero columns; sections start at multiples of 16 floats. Blocks with a
channel mask store conv1 and conv2 by output channel, (N, K), so that dropped channels are never read.

Channel-masked blocks are packed in the shift form (own derivation): with `c = relu(b)` the constant a dropped channel
carries behind BN and ReLU, `relu(v + b) - c = max(v + min(b, 0), -max(b, 0))` for a kept channel and 0 for a dropped
one. What the constants add to the next convolution does not depend on the mask, only on which taps of a 3×3 window lie
inside the image, and is folded here in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from laudc.ops.scheduled import BlockRecord, ChannelMasker, Conv2Algorithm

Array = np.ndarray

ALIGN = 16
BORDER_CLASSES = 16
TAIL = 64  # slack behind the last section: kernels load whole vectors

# Winograd F(2x2, 3x3): transformed filter = G g G'.
_WINOGRAD_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float64)



@dataclass(frozen=True)
class MaskerWeights:
    """Weights of a channel masker; `hidden_*` are None for the linear one. First half of the rows of `w`: keep."""

    w: Array
    b: Array
    hidden_w: Array | None = None
    hidden_b: Array | None = None


@dataclass(frozen=True)
class BlockWeights:
    """Folded weights of one block, in PyTorch's layouts.

    conv1 (width, cin, 1, 1), conv2 (width, width, 3, 3), conv3 (cout, width, 1, 1), projection (cout, cin, 1, 1) or
    None, spatial masker (2·groups, cin, 1, 1) or None.
    """

    conv1: tuple[Array, Array]
    conv2: tuple[Array, Array]
    conv3: tuple[Array, Array]
    projection: tuple[Array, Array] | None = None
    spatial_masker: tuple[Array, Array] | None = None
    channel_masker: MaskerWeights | None = None


def round_up(value: int, to: int) -> int:
    """The smallest multiple of `to` that is not below `value`."""
    return -(-value // to) * to


def pack_panels(matrix: Array, panel: int) -> Array:
    """(K, N) → flat (ceil(N / panel), K, panel), zero-padded."""
    k, n = matrix.shape
    count = -(-n // panel)
    padded = np.zeros((k, count * panel), np.float32)
    padded[:, :n] = matrix
    return np.ascontiguousarray(padded.reshape(k, count, panel).transpose(1, 0, 2)).ravel()


@dataclass
class Sections:
    """Collects the sections of one initializer."""

    parts: list[Array] = field(default_factory=list)

    def add(self, values: Array) -> None:
        """The next section."""
        flat = np.asarray(values, np.float32).ravel()
        self.parts.append(np.pad(flat, (0, -flat.size % ALIGN)))

    def joined(self) -> Array:
        """All sections and the slack behind them."""
        return np.concatenate([*self.parts, np.zeros(TAIL, np.float32)])


def as_matrix(weight: Array) -> Array:
    """(N, K, 1, 1) or (N, K) → (K, N)."""
    return weight.reshape(weight.shape[0], -1).T


def _conv2_matrices(weight: Array, record: BlockRecord) -> Iterator[Array]:
    """(N, K, 3, 3) → the (K, N) matrices in the form that they are stored in.

    Filters of channel-masked blocks are transformed for Winograd when the kept ones are packed: reading 9 values from
    memory and transforming them is faster than reading 16.
    """
    if record.conv2_algorithm == Conv2Algorithm.WINOGRAD_2X2 and not record.channel_groups:
        points = np.einsum(
            "ai,nkij,bj->abkn", _WINOGRAD_G, weight.astype(np.float64), _WINOGRAD_G, optimize=True
        )
        yield from points.reshape(16, *points.shape[2:])
    else:
        yield weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])  # tap-major rows


def _arrange(matrix: Array, record: BlockRecord) -> Array:
    """A (K, N) matrix of conv1 or conv2 in the form that the block's kernels read."""
    return (
        np.asarray(matrix.T, np.float32).ravel()
        if record.channel_groups
        else pack_panels(matrix, record.panel)
    )


def _inside(border_class: int, tap: int) -> bool:
    """Whether a tap of a 3×3 window lies inside the image, for a window that crosses the given borders."""
    dy, dx = divmod(tap, 3)
    top, bottom, left, right = (bool(border_class & bit) for bit in (1, 2, 4, 8))
    return not ((dy == 0 and top) or (dy == 2 and bottom) or (dx == 0 and left) or (dx == 2 and right))


def border_table(weight: Array, constants: Array) -> Array:
    """(classes, N): what constant input channels contribute to a zero-padded 3×3 convolution, per border class."""
    per_tap = np.einsum("nkt,k->tn", weight.reshape(*weight.shape[:2], 9).astype(np.float64), constants)
    rows = [
        sum((per_tap[tap] for tap in range(9) if _inside(border, tap)), np.zeros(weight.shape[0]))
        for border in range(BORDER_CLASSES)
    ]
    return np.stack(rows)


@dataclass(frozen=True)
class _Biases:
    conv1: Array
    conv1_lo: Array
    conv2: Array  # (classes, width)
    conv2_lo: Array
    conv3: Array


def _plain_biases(weights: BlockWeights) -> _Biases:
    zeros = np.zeros_like(weights.conv1[1])
    return _Biases(weights.conv1[1], zeros, weights.conv2[1][None], zeros, weights.conv3[1])


def _shifted_biases(weights: BlockWeights) -> _Biases:
    (_, b1), (w2, b2), (w3, b3) = (
        (w.astype(np.float64), b.astype(np.float64)) for w, b in (weights.conv1, weights.conv2, weights.conv3)
    )
    c1, c2 = np.maximum(b1, 0), np.maximum(b2, 0)
    table = border_table(w2, c1) + np.minimum(b2, 0)
    return _Biases(np.minimum(b1, 0), -c1, table, -c2, b3 + w3.reshape(w3.shape[0], -1) @ c2)


def keep_minus_drop(values: Array) -> Array:
    """Folds the two halves of a masker's outputs into one decision value; (2n, ...) → (n, ...)."""
    half = values.shape[0] // 2
    exact = values.astype(np.float64)
    return exact[:half] - exact[half:]


def pack_block(record: BlockRecord, weights: BlockWeights) -> Array:
    """The packed initializer of one block.

    Raises:
        ValueError: the weights do not have the shapes of the record.
    """
    _check_shapes(record, weights)
    biases = _shifted_biases(weights) if record.channel_groups else _plain_biases(weights)
    out = Sections()
    out.add(_arrange(as_matrix(weights.conv1[0]), record))
    out.add(biases.conv1)
    out.add(biases.conv1_lo)
    matrices = _conv2_matrices(weights.conv2[0], record)
    out.add(np.concatenate([_arrange(matrix, record) for matrix in matrices]))
    out.add(np.pad(biases.conv2, ((0, 0), (0, -record.width % ALIGN))))
    out.add(biases.conv2_lo)
    groups = np.split(weights.conv3[0], record.conv3_parts)
    out.add(np.concatenate([pack_panels(as_matrix(group), record.panel) for group in groups]))
    out.add(biases.conv3)
    if weights.projection is not None:
        out.add(pack_panels(as_matrix(weights.projection[0]), record.panel))
        out.add(weights.projection[1])
    add_maskers(out, record, weights.spatial_masker, weights.channel_masker)
    return out.joined()


def add_maskers(
    out: Sections, record: BlockRecord, spatial: tuple[Array, Array] | None, channel: MaskerWeights | None
) -> None:
    """The sections of a block's maskers, which come last in every layout."""
    if spatial is not None:
        out.add(keep_minus_drop(spatial[0].reshape(2 * record.mask_groups, -1)))
        out.add(keep_minus_drop(spatial[1]))
    if channel is not None:
        _add_channel_masker(out, record, channel)


def _add_channel_masker(out: Sections, record: BlockRecord, masker: MaskerWeights) -> None:
    if masker.hidden_w is not None and masker.hidden_b is not None:
        matrix = as_matrix(masker.hidden_w)
        in_panels = record.channel_masker == ChannelMasker.CONV
        out.add(pack_panels(matrix, record.panel) if in_panels else matrix.T)
        out.add(masker.hidden_b)
    out.add(keep_minus_drop(masker.w))
    out.add(keep_minus_drop(masker.b))


def _check_shapes(record: BlockRecord, weights: BlockWeights) -> None:
    wanted = {
        "conv1": (weights.conv1[0], (record.width, record.cin, 1, 1)),
        "conv2": (weights.conv2[0], (record.width, record.width, 3, 3)),
        "conv3": (weights.conv3[0], (record.cout, record.width, 1, 1)),
    }
    if weights.projection is not None:
        wanted["projection"] = (weights.projection[0], (record.cout, record.cin, 1, 1))
    for name, (array, shape) in wanted.items():
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, the record says {shape}")
    if (weights.projection is not None) != bool(record.projection):
        raise ValueError("projection weights and record disagree")


def pack_stem(weight: Array, bias: Array, panel: int) -> Array:
    """Packed weights of a stem: (cout, 3, k, k) → panels with K = (row, column, channel), then the bias."""
    matrix = weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0])
    out = Sections()
    out.add(pack_panels(matrix, panel))
    out.add(bias)
    return out.joined()
