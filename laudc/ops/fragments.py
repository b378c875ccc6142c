"""Pieces of function bodies, in the ONNX text format, that more than one op uses."""

from __future__ import annotations


def decision(scores: str, output: str, like: str) -> str:
    """`output` = 1 where keep >= drop, else 0 (NaN drops); `scores` has keep in the first half of axis 1."""
    return f"""
        keep, drop = Split <axis = 1, num_outputs = 2> ({scores})
        kept = GreaterOrEqual (keep, drop)
        {output} = CastLike (kept, {like})"""


def nearest_rows(mask: str, like: str, axis: int, output: str) -> str:
    """`output` = `mask` stretched along `axis` to the size of `like` by nearest (asymmetric, floor)
    interpolation.

    Written out because Resize, given sizes, computes its scale in another precision: ONNX Runtime 1.32 and
    the ONNX reference evaluator each pick other cells than PyTorch for some sizes (32 over 14, 28 over 20).
    The index is floor(i · scale) with a float32 scale whatever the type of the mask.
    """
    p = f"{output}_"
    return f"""
        {p}size = Shape <start = {axis}, end = {axis + 1}> ({like})
        {p}cells = Shape <start = {axis}, end = {axis + 1}> ({mask})
        {p}first = Constant <value_int = 0> ()
        {p}step = Constant <value_int = 1> ()
        {p}stop = Squeeze ({p}size)
        {p}positions = Range ({p}first, {p}stop, {p}step)
        {p}size_f = Cast <to = 1> ({p}size)
        {p}cells_f = Cast <to = 1> ({p}cells)
        {p}positions_f = Cast <to = 1> ({p}positions)
        {p}scale = Div ({p}cells_f, {p}size_f)
        {p}exact = Mul ({p}positions_f, {p}scale)
        {p}floor = Floor ({p}exact)
        {p}index = Cast <to = 7> ({p}floor)
        {output} = Gather <axis = {axis}> ({mask}, {p}index)"""


def scale_groups(values: str, groups: str, output: str) -> str:
    """`output` = `values` (B, C, H, W) times `groups` (B, g, 1, h, w) with h, w = H, W or 1.

    Channel c is multiplied by group c // (C/g).
    """
    p = f"{output}_"
    return f"""
        {p}shape = Shape ({values})
        {p}map = Shape <start = 2, end = 4> ({values})
        {p}batch = Constant <value_ints = [0]> ()
        {p}groups = Shape <start = 1, end = 2> ({groups})
        {p}rest = Constant <value_ints = [-1]> ()
        {p}split = Concat <axis = 0> ({p}batch, {p}groups, {p}rest, {p}map)
        {p}grouped = Reshape ({values}, {p}split)
        {p}scaled = Mul ({p}grouped, {groups})
        {output} = Reshape ({p}scaled, {p}shape)"""
