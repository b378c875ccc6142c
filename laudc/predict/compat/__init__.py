"""laudnet-compat: the latency model of LAUDNet's authors, reproduced from its formulas.

Analytic, fp32, deterministic by default. It reproduces the model's faults too, which docs/laudnet-compat.md lists: use
it to compare with published numbers and beside better models, not to decide. Latencies are modelled, not measured.

    model = Model("v100")
    conv(model, cin=64, cout=256, inh=56, inw=56, ks=1).latency_s
    predict_block(model, block, BlockRates(spatial=0.5)).latency_s
"""

from laudc.predict.geometry import BlockGeometry, BlockRates

from .adavit import AdaVitMode, adavit_block, adavit_head, adavit_stem
from .blocks import BlockMode, BlockPrediction, predict_block
from .conv import conv
from .cost import Cost
from .density import ClosedForm, SeededDraws
from .device import CompatDevice, compat_device
from .dynamic_conv import dynamic_conv
from .dynamic_se import dynamic_se
from .maskers import channel_masker, masker_conv1
from .model import Model
from .movement import gather, scatter, scatter_add
from .networks import REGNETY_400MF, REGNETY_800MF, RESNET50, RESNET101, blocks_of, predict_network
from .operators import OPERATORS, Call, predict, predict_many
from .plain import add, avg_pool, fc, se
from .transformer import dynamic_linear, elementwise, layernorm, linear, matmul, reduce, softmax, unfold

__all__ = [
    "OPERATORS",
    "REGNETY_400MF",
    "REGNETY_800MF",
    "RESNET50",
    "RESNET101",
    "AdaVitMode",
    "BlockGeometry",
    "BlockMode",
    "BlockPrediction",
    "BlockRates",
    "Call",
    "ClosedForm",
    "CompatDevice",
    "Cost",
    "Model",
    "SeededDraws",
    "adavit_block",
    "adavit_head",
    "adavit_stem",
    "add",
    "avg_pool",
    "blocks_of",
    "channel_masker",
    "compat_device",
    "conv",
    "dynamic_conv",
    "dynamic_linear",
    "dynamic_se",
    "elementwise",
    "fc",
    "gather",
    "layernorm",
    "linear",
    "masker_conv1",
    "matmul",
    "predict",
    "predict_block",
    "predict_many",
    "predict_network",
    "reduce",
    "scatter",
    "scatter_add",
    "se",
    "softmax",
    "unfold",
]
