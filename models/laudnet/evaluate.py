"""Accuracy and activation rates of a checkpoint on the held-out digits: `python -m laudnet.evaluate CKPT`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass

import torch

from . import data, flops
from .checkpoint import load_checkpoint
from .errors import CheckpointError
from .resnet import LaudResNet

_BATCH = 60
_COPIES = 3
_FIRST_SEED = 1000  # placements that training never draws


@dataclass(frozen=True)
class Evaluation:
    """Means over the held-out images.

    accuracy: 0..1; channel_rates, position_rates: kept share per stage (1 where nothing is masked), the
    latter of conv3's positions; flops_share: MACs spent / MACs of the same network with everything kept;
    flops_of_static: the same against the static network, which has no maskers; images: how many there were.
    """

    accuracy: float
    channel_rates: tuple[float, ...]
    position_rates: tuple[float, ...]
    flops_share: float
    flops_of_static: float
    images: int


def evaluate(model: LaudResNet) -> Evaluation:
    """Evaluate `model` on every held-out digit, each in several placements. Leaves it in eval mode."""
    model.eval()
    size = model.config.input_size
    correct, images, spent, dense = 0, 0, 0.0, 0
    channel, positions = [], []
    for seed in range(_FIRST_SEED, _FIRST_SEED + _COPIES):
        pictures, labels = data.make_images("held_out", size, seed)
        for start in range(0, len(pictures), _BATCH):
            x = data.to_tensor(pictures[start : start + _BATCH])
            wanted = torch.from_numpy(labels[start : start + _BATCH])
            with torch.no_grad():
                run = model.run(x)
            counted = flops.count(model, run)
            correct += int((run.logits.argmax(1) == wanted).sum())
            images += len(wanted)
            spent += float(counted.total) * len(wanted)
            dense = counted.dense
            channel.append(torch.stack([shares.channel for shares in counted.shares]))
            positions.append(torch.stack([shares.conv3 for shares in counted.shares]))
    return Evaluation(
        accuracy=correct / images,
        channel_rates=_per_stage(model, torch.cat(channel, 1)),
        position_rates=_per_stage(model, torch.cat(positions, 1)),
        flops_share=spent / images / dense,
        flops_of_static=spent / images / flops.static_macs(model.config),
        images=images,
    )


def _per_stage(model: LaudResNet, rates: torch.Tensor) -> tuple[float, ...]:
    """rates (blocks, images) -> one mean per stage."""
    stages = torch.split(rates.mean(1), list(model.config.layers))
    return tuple(round(float(stage.mean()), 4) for stage in stages)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m laudnet.evaluate", description=__doc__)
    parser.add_argument("checkpoint", help="a checkpoint trained on the digits")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    options = parser.parse_args(arguments)
    try:
        model = load_resnet(options.checkpoint)
    except CheckpointError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    result = evaluate(model)
    print(json.dumps(asdict(result), indent=2) if options.json else _text(model.config.dyn_mode, result))
    return 0


def load_resnet(path: str | os.PathLike[str]) -> LaudResNet:
    """The network of a checkpoint, which must be a LAUD-ResNet: the training recipe knows no other family.

    Raises CheckpointError.
    """
    model = load_checkpoint(path).model
    if not isinstance(model, LaudResNet):
        raise CheckpointError(
            os.fspath(path), f"it is a {type(model).__name__}", "give a checkpoint of laudnet.train, a LAUD-ResNet"
        )
    return model


def _text(modes: tuple[str, ...], result: Evaluation) -> str:
    def row(name: str, rates: tuple[float, ...]) -> str:
        return f"{name:<16}" + " ".join(f"{rate:6.1%}" for rate in rates)

    return "\n".join(
        [
            f"accuracy        {result.accuracy:6.1%} of {result.images} held-out images",
            f"modes           {' '.join(f'{mode:>6}' for mode in modes)}",
            row("channels kept", result.channel_rates),
            row("positions kept", result.position_rates),
            f"MACs            {result.flops_share:6.1%} of everything kept, "
            f"{result.flops_of_static:.1%} of the static network",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
