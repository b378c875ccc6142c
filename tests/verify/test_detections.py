"""Objects compared as a set."""

from __future__ import annotations

import numpy as np

from laudc.verify.detections import FoundLayout, compare_found, layout_of

LAYOUT = FoundLayout(4, (), (100, 200))


def row(*objects: tuple[float, float, float, float, float, int]) -> np.ndarray:
    """Objects (x1, y1, x2, y2, score, label) as a joined row of outputs."""
    values = np.zeros((4, 6))
    for place, one in enumerate(objects):
        values[place] = one
    return np.concatenate([values[:, :4].ravel(), values[:, 4], values[:, 5]])


A = (10.0, 10.0, 50.0, 50.0, 0.9, 1)
B = (60.0, 10.0, 90.0, 50.0, 0.6, 1)
C = (60.0, 10.0, 90.0, 50.0, 0.5, 2)


def compared(ours: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, int]:
    a, b, summary = compare_found(ours[None], theirs[None], LAYOUT, 1e-3)
    return a, b, summary.share, summary.changed


def test_order_does_not_matter() -> None:
    ours, theirs, share, changed = compared(row(C, A, B), row(A, B, C))
    assert (share, changed) == (0, 0)
    np.testing.assert_array_equal(ours, theirs)
    assert np.count_nonzero(ours) == 15


def test_what_only_one_side_has_is_counted() -> None:
    *_, share, changed = compared(row(A, B), row(A, C))
    assert changed == 2 and abs(share - (0.6 + 0.5) / (0.9 + 0.6 + 0.5)) < 1e-9
    *_, share, changed = compared(row(), row(A))
    assert (share, changed) == (1, 1)
    *_, share, changed = compared(row(A), row())
    assert (share, changed) == (1, 1)
    *_, share, changed = compared(row(), row())
    assert (share, changed) == (0, 0)


def test_what_differs_too_much_is_counted_and_left_out() -> None:
    moved = (12.0, 10.0, 50.0, 50.0, 0.9, 1)
    ours, theirs, share, changed = compared(row(moved, B), row(A, B))
    assert changed == 1 and abs(share - 0.9 / 1.5) < 1e-9
    np.testing.assert_array_equal(ours, theirs)
    nearly = (10.1, 10.0, 50.0, 50.0, 0.9, 1)
    ours, theirs, share, changed = compared(row(nearly), row(A))
    assert changed == 0 and abs(float(np.abs(ours - theirs).max()) - 0.1 / 200) < 1e-9


def test_layouts() -> None:
    shapes = [(1, 5, 4), (1, 5), (1, 5), (1, 5, 6, 7)]
    assert layout_of(["boxes", "scores", "labels", "masks"], shapes, (8, 9)) == FoundLayout(5, (6, 7), (8, 9))
    assert layout_of(["boxes", "scores", "labels"], shapes[:3], (8, 9)) == FoundLayout(5, (), (8, 9))
    assert layout_of(["logits"], [(1, 10)], (8, 9)) is None
