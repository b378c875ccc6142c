"""What a LAUDNet model is: a validated, immutable record that names every constructor option.

`DynamicConfig` holds what all convolutional families share (masks and maskers per stage); a family adds its own options
and says what its stages look like.

Option names and meanings follow LAUDNet (TPAMI 2024) and the authors' code semantics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

STAGES = 4
EXPANSION = 4
DYN_MODES = ("channel", "spatial", "layer", "both")
_MOST_LAYERS = 512  # far above any real network; keeps a hostile file from asking for an endless one
_MOST_CHANNELS = 1 << 16
_LARGEST_IMAGE = 1 << 14  # pixels of a side
CHANNEL_MASKERS = ("MLP", "conv_linear")

#: Blocks per stage of the published LAUD-ResNets.
ARCH_LAYERS: dict[str, tuple[int, ...]] = {
    "uni_resnet50": (3, 4, 6, 3),
    "uni_resnet101": (3, 4, 23, 3),
}
#: The one architecture name whose depth is free (our own small trained networks).
CUSTOM_ARCH = "laud_resnet"

_PER_STAGE_INT = (
    "mask_spatial_granularity",
    "spatial_mask_channel_group",
    "channel_dyn_granularity",
    "channel_masker_layers",
    "reduction_ratio",
)
_Config = TypeVar("_Config", bound="DynamicConfig")


@dataclass(frozen=True)
class StageGeometry:
    """Static shape facts of one stage.

    width: channels between the first and the last convolution; out_channels: of the block output; groups: of
    the 3x3 convolution; stride, dilation: of the stage's blocks (the first block has `stride` and
    `first_dilation`, the rest 1 and `dilation`); output_size: side of the square output map in pixels;
    mask_size: side of the spatial mask, 0 where the stage has none; channel_groups: decisions of the channel
    masker, 0 where the stage has none.
    """

    width: int
    out_channels: int
    groups: int
    stride: int
    first_dilation: int
    dilation: int
    output_size: int
    mask_size: int
    channel_groups: int


@dataclass(frozen=True)
class DynamicConfig:
    """Options that every convolutional family has; per-stage options have one entry for each of the four stages.

    arch: name of the architecture; layers: blocks per stage.
    dyn_mode: 'channel', 'spatial', 'layer' or 'both', as far as the family has them (`MODES`).
    mask_spatial_granularity: S, output pixels per mask cell and side (ignored in layer mode: one cell).
    spatial_mask_channel_group: spatial masks per block, each for a contiguous share of the output channels.
    channel_dyn_granularity: G, channels per decision of the channel masker.
    channel_masker: 'MLP' or 'conv_linear'; channel_masker_layers: depth of the MLP, 1 or 2.
    reduction_ratio: divides the hidden width of the channel masker.
    input_size: side of the square input in pixels; fixes mask sizes (channel-only models take any size).
    lr_mult: learning-rate factor of the maskers in training.

    Raises ValueError, naming the field, for anything the network could not be built or run with; a value of
    the wrong type too, since these values come from files and a caller wants one exception for a wrong file.
    """

    arch: str
    layers: tuple[int, ...]
    dyn_mode: tuple[str, ...] = ("both",) * STAGES
    mask_spatial_granularity: tuple[int, ...] = (1,) * STAGES
    spatial_mask_channel_group: tuple[int, ...] = (1,) * STAGES
    channel_dyn_granularity: tuple[int, ...] = (1,) * STAGES
    channel_masker: tuple[str, ...] = ("MLP",) * STAGES
    channel_masker_layers: tuple[int, ...] = (1,) * STAGES
    reduction_ratio: tuple[int, ...] = (16,) * STAGES
    input_size: int = 224
    num_classes: int = 1000
    lr_mult: float = 1.0

    #: Modes that the family has.
    MODES: ClassVar[tuple[str, ...]] = DYN_MODES
    #: Blocks per stage of each architecture whose depth is fixed.
    DEPTHS: ClassVar[Mapping[str, tuple[int, ...]]] = {}
    #: Names of architectures whose depth is free.
    FREE_DEPTH: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            # Lists are natural in JSON and in calls; the record itself stays hashable.
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        self._check_types()
        self._check_depth()
        for stage in range(STAGES):
            self._check_stage(stage)

    @classmethod
    def for_arch(cls: type[_Config], arch: str, **options: Any) -> _Config:
        """Configuration of a named architecture; `layers` follows from the name unless its depth is free."""
        if arch in cls.DEPTHS:
            options.setdefault("layers", cls.DEPTHS[arch])
        if arch in cls.FREE_DEPTH and "layers" not in options:
            raise ValueError(f"layers: arch {arch!r} needs its number of blocks per stage, e.g. [1, 2, 2, 1]")
        return cls(arch=arch, **options)

    @classmethod
    def from_dict(cls: type[_Config], data: Mapping[str, Any]) -> _Config:
        """Inverse of `to_dict`; ValueError for unknown names. A named arch may leave `layers` out."""
        if not isinstance(data, Mapping):
            raise ValueError(f"configuration: expected a mapping, got {type(data).__name__}")
        known = [field.name for field in fields(cls)]
        unknown = sorted(str(key) for key in data if key not in known)
        if unknown:
            raise ValueError(f"configuration: unknown field {', '.join(unknown)}; known are {', '.join(known)}")
        options = dict(data)
        return cls.for_arch(options.pop("arch", getattr(cls, "arch", None)), **options)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types only: tuples become lists."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images that the network is meant for, in pixels."""
        return self.input_size, self.input_size

    @property
    def stem_channels(self) -> int:
        """Channels of the first block's input."""
        raise NotImplementedError

    @property
    def has_spatial_masks(self) -> bool:
        """True where any stage has a mask over positions, which ties the model to `input_size`."""
        return any(mode != "channel" for mode in self.dyn_mode)

    def stage(self, index: int) -> StageGeometry:
        """Geometry of stage `index` (0..3)."""
        raise NotImplementedError

    def stage_in_channels(self, index: int) -> int:
        """Channels of the input of stage `index`."""
        return self.stage(index - 1).out_channels if index else self.stem_channels

    def _strides(self) -> list[int]:
        """By what each stage divides the side of its map; the first stage's map is a quarter of the image."""
        return [1, 2, 2, 2]

    def _output_size(self, index: int) -> int:
        size = self.input_size // 4
        for stride in self._strides()[1 : index + 1]:
            size //= stride
        return size

    def _mask_size(self, index: int) -> int:
        one_cell = {"channel": 0, "layer": 1}
        return one_cell.get(self.dyn_mode[index], self._output_size(index) // self.mask_spatial_granularity[index])

    def _channel_groups(self, index: int, width: int) -> int:
        masked = self.dyn_mode[index] in ("channel", "both")
        return width // self.channel_dyn_granularity[index] if masked else 0

    def _check_types(self) -> None:
        for name in ("input_size", "num_classes"):
            _positive_int(name, getattr(self, name))
        _positive_number("lr_mult", self.lr_mult)
        for name in ("layers", "dyn_mode", "channel_masker", *_PER_STAGE_INT):
            _entries(name, getattr(self, name), STAGES)
        for name in ("layers", *_PER_STAGE_INT):
            for value in getattr(self, name):
                _positive_int(name, value)
        if self.input_size > _LARGEST_IMAGE:
            raise ValueError(f"input_size: at most {_LARGEST_IMAGE} pixels, got {self.input_size}")
        if max(self.layers) > _MOST_LAYERS:
            raise ValueError(f"layers: at most {_MOST_LAYERS} blocks per stage, got {list(self.layers)}")
        self._check_modes()
        _choices("channel_masker", self.channel_masker, CHANNEL_MASKERS)
        _choices("channel_masker_layers", self.channel_masker_layers, (1, 2))

    def _check_modes(self) -> None:
        for mode in self.dyn_mode:
            if mode in DYN_MODES and mode not in self.MODES:
                raise ValueError(f"dyn_mode: {self.arch} has no {mode!r} mode; it has {', '.join(self.MODES)}")
        _choices("dyn_mode", self.dyn_mode, self.MODES)

    def _check_depth(self) -> None:
        if self.arch in self.FREE_DEPTH:
            return
        expected = self.DEPTHS.get(self.arch) if isinstance(self.arch, str) else None
        if expected is None:
            known = ", ".join([*self.DEPTHS, *self.FREE_DEPTH])
            raise ValueError(f"arch: {self.arch!r} is not known; known are {known}")
        if self.layers != expected:
            free = f"; use arch {self.FREE_DEPTH[0]!r} for other depths" if self.FREE_DEPTH else ""
            raise ValueError(
                f"layers: {self.arch} has {list(expected)} blocks per stage, got {list(self.layers)}{free}"
            )

    def _check_stage(self, index: int) -> None:
        stage = self.stage(index)
        where = f"stage {index + 1}"
        if self.dyn_mode[index] in ("channel", "both"):
            self._check_channel_masker(index, stage, where)
        if self.dyn_mode[index] != "channel":
            self._check_spatial_masker(index, stage, where)

    def _check_channel_masker(self, index: int, stage: StageGeometry, where: str) -> None:
        granularity = self.channel_dyn_granularity[index]
        if granularity > stage.width:
            raise ValueError(f"channel_dyn_granularity: {granularity} exceeds the {stage.width} channels of {where}")
        if stage.width % stage.channel_groups:
            raise ValueError(
                f"channel_dyn_granularity: {granularity} gives {stage.channel_groups} groups in {where}, "
                f"which do not divide its {stage.width} channels"
            )
        in_channels = self.stage_in_channels(index)
        if self.channel_masker[index] == "conv_linear" and in_channels // self.reduction_ratio[index] < 1:
            raise ValueError(
                f"reduction_ratio: {self.reduction_ratio[index]} leaves no hidden channel of the "
                f"{in_channels} inputs in {where}"
            )

    def _check_spatial_masker(self, index: int, stage: StageGeometry, where: str) -> None:
        actual = _halve(_halve(self.input_size))
        for stride in self._strides()[1 : index + 1]:
            actual = _halve(actual) if stride == 2 else actual
        if actual != stage.output_size:
            raise ValueError(
                f"input_size: {self.input_size} gives {where} maps of {actual} pixels where its masks "
                f"expect {stage.output_size}; use a multiple of 32"
            )
        if stage.mask_size < 1:
            raise ValueError(
                f"mask_spatial_granularity: {self.mask_spatial_granularity[index]} exceeds the "
                f"{stage.output_size}-pixel maps of {where}"
            )
        share = self.spatial_mask_channel_group[index]
        if stage.out_channels % share:
            raise ValueError(
                f"spatial_mask_channel_group: {share} does not divide the {stage.out_channels} output "
                f"channels of {where}"
            )


@dataclass(frozen=True)
class LaudConfig(DynamicConfig):
    """Constructor arguments of a LAUD-ResNet.

    arch: 'uni_resnet50', 'uni_resnet101', or 'laud_resnet' (any `layers`).
    width_mult, groups, replace_stride_with_dilation, zero_init_residual: as in torchvision's ResNet.
    """

    arch: str = "uni_resnet50"
    layers: tuple[int, ...] = ARCH_LAYERS["uni_resnet50"]
    width_mult: float = 1.0
    groups: int = 1
    replace_stride_with_dilation: tuple[bool, ...] = (False, False, False)
    zero_init_residual: bool = False

    DEPTHS: ClassVar[Mapping[str, tuple[int, ...]]] = ARCH_LAYERS
    FREE_DEPTH: ClassVar[tuple[str, ...]] = (CUSTOM_ARCH,)

    @property
    def stem_channels(self) -> int:
        """Channels after the stem."""
        return int(64 * self.width_mult)

    def stage(self, index: int) -> StageGeometry:
        """Geometry of stage `index` (0..3)."""
        planes = int(64 * 2**index * self.width_mult)
        width = planes * self.groups
        strides, dilations = self._strides_and_dilations()
        return StageGeometry(
            width=width,
            out_channels=planes * EXPANSION,
            groups=self.groups,
            stride=strides[index],
            first_dilation=dilations[index - 1] if index else 1,
            dilation=dilations[index],
            output_size=self._output_size(index),
            mask_size=self._mask_size(index),
            channel_groups=self._channel_groups(index, width),
        )

    def _strides(self) -> list[int]:
        return self._strides_and_dilations()[0]

    def _strides_and_dilations(self) -> tuple[list[int], list[int]]:
        strides, dilations = [1], [1]
        for dilate in self.replace_stride_with_dilation:
            strides.append(1 if dilate else 2)
            dilations.append(dilations[-1] * 2 if dilate else dilations[-1])
        return strides, dilations

    def _check_types(self) -> None:
        super()._check_types()
        _positive_int("groups", self.groups)
        _positive_number("width_mult", self.width_mult)
        if not isinstance(self.zero_init_residual, bool):
            raise ValueError(f"zero_init_residual: expected true or false, got {self.zero_init_residual!r}")
        _entries("replace_stride_with_dilation", self.replace_stride_with_dilation, STAGES - 1)
        if not all(isinstance(value, bool) for value in self.replace_stride_with_dilation):
            raise ValueError(
                "replace_stride_with_dilation: expected three of true or false, "
                f"got {self.replace_stride_with_dilation!r}"
            )

    def _check_stage(self, index: int) -> None:
        if self.stage(index).width < 1:
            raise ValueError(f"width_mult: {self.width_mult} leaves stage {index + 1} without channels")
        for name, channels in (("width_mult", self.stage(index).out_channels), ("groups", self.stage(index).width)):
            if channels > _MOST_CHANNELS:
                raise ValueError(
                    f"{name}: {getattr(self, name)} gives stage {index + 1} {channels} channels, and {_MOST_CHANNELS} "
                    "are the most"
                )
        super()._check_stage(index)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value


def _halve(size: int) -> int:
    """Output side of the network's stride-2 layers (all padded to ceil(size / 2))."""
    return (size + 1) // 2


def _positive_int(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise ValueError(f"{name}: expected a positive integer, got {value!r}")


def _positive_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e6:
        raise ValueError(f"{name}: expected a positive number, got {value!r}")


def _entries(name: str, value: object, count: int) -> None:
    if not isinstance(value, tuple) or len(value) != count:
        raise ValueError(f"{name}: expected {count} entries, got {value!r}")


def _choices(name: str, values: Sequence[object], allowed: Sequence[object]) -> None:
    for value in values:
        if isinstance(value, bool) or value not in allowed:
            raise ValueError(f"{name}: {value!r} is not one of {', '.join(map(str, allowed))}")
