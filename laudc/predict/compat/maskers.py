"""Maskers: the spatial one together with the block's first convolution, and the channel masker."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from .conv import conv
from .cost import FREE
from .dynamic_conv import dynamic_conv
from .plain import avg_pool, fc

if TYPE_CHECKING:
    from .cost import Cost
    from .model import Model

_DEFAULT_REDUCTION = 16


@lru_cache(maxsize=65536)
def masker_conv1(
    model: Model,
    *,
    cin: int,
    cout: int,
    h: int,
    w: int,
    ks: int = 1,
    granul_size: int,
    density: float,
    nxt_layer_ks: int = 1,
    test_nofuse: bool = True,
    c_density: float = 1.0,
    n_c_dy_group: int = 1,
    channel_masker: bool = True,
    channel_masker_hid_size: int = 32,
    spatial_masker: bool = False,
    no_fuse: bool = False,
) -> Cost:
    """The maskers of a block and its first 1×1 convolution, fused or not, whichever is faster.

    Fused, the convolution is dense and the maskers ride along as further output channels. Apart, the maskers run first
    and the convolution computes what they kept. `test_nofuse` False rules the second out, `no_fuse` the first. `ks`
    and `nxt_layer_ks` (the halo for the next layer) have no effect in the authors' model.
    """
    groups = cin // n_c_dy_group
    extra = (channel_masker_hid_size if channel_masker else 0) + (1 if spatial_masker else 0)
    fused = conv(model, cin=cin, cout=cout + extra, inh=h, inw=w, ks=1, oc_density=1.0 if channel_masker else c_density)
    head = FREE
    if channel_masker:
        head = avg_pool(model, c=channel_masker_hid_size, h=h, w=w, oh=1, ow=1)
        head = head + fc(model, cin=channel_masker_hid_size, cout=groups)
    fused = fused + head
    if not (test_nofuse or no_fuse):
        return fused
    apart = conv(model, cin=cin, cout=2, inh=h, inw=w, ks=1)
    apart = apart + dynamic_conv(
        model,
        cin=cin,
        cout=cout,
        inh=h,
        inw=w,
        ks=1,
        granul_size=granul_size,
        density=density,
        with_indexing=True,
        oc_density=c_density,
        c_n_groups=groups,
        spatial_masker=spatial_masker,
    )
    if channel_masker:
        apart = apart + conv(model, cin=cin, cout=channel_masker_hid_size, inh=h, inw=w, ks=1) + head
    return apart if no_fuse or apart.latency_s < fused.latency_s else fused


@lru_cache(maxsize=65536)
def channel_masker(
    model: Model,
    *,
    cin: int,
    h: int,
    w: int,
    n_c_dy_group: int,
    n_fc_layers: int,
    reduction_size: int | None = None,
) -> Cost:
    """A channel masker: pooling and one or two fully connected layers that decide cin // n_c_dy_group groups.

    With one group there is nothing to decide and nothing to pay. `reduction_size` is by how much the hidden layer is
    smaller than the output, 16 unless given.
    """
    groups = cin // n_c_dy_group
    if groups == 1:
        return FREE
    pooled = avg_pool(model, c=cin, h=h, w=w, oh=1, ow=1)
    if n_fc_layers == 1:
        return pooled + fc(model, cin=cin, cout=groups)
    hidden = groups // min(reduction_size or _DEFAULT_REDUCTION, groups)
    return pooled + fc(model, cin=cin, cout=hidden) + fc(model, cin=hidden, cout=groups)
