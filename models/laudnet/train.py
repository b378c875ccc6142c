"""Training small LAUD-ResNets on the digits: `python -m laudnet.train --mode channel -o channel.pth`.

The recipe is LAUDNet's (TPAMI 2024), authors' code semantics, on a smaller scale: start from a trained static
network, sample hard masks with Gumbel-softmax at a falling temperature, and minimise cross-entropy,
distillation from the static network and the distance of the MACs from a target. Two things are ours: the last
`settle` epochs decide without noise, as in evaluation, but with gradients (the noise of hard samples does not
vanish with the temperature, so undecided masks would change what they keep when it goes), and all drop biases
start alike.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from . import data, flops
from .checkpoint import save_checkpoint
from .config import CUSTOM_ARCH, STAGES, LaudConfig
from .errors import CheckpointError
from .evaluate import Evaluation, evaluate, load_resnet
from .resnet import LaudResNet

STATIC = "static"
MODES = (STATIC, "channel", "spatial", "layer", "both")


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of one training run.

    target: MACs aimed at, as a share of the static network's; act_weight: weight of that loss; t_first,
    t_last: Gumbel-softmax temperatures, exponential in between; kd_weight, kd_temperature: distillation;
    settle: last epochs without noise, at t_settle; clip: largest gradient norm, which slows the maskers down
    to what the rest of the network can follow. Where a run has few steps, keep t_last and t_settle high:
    masks still have to move.
    """

    epochs: int = 30
    settle: int = 12
    batch: int = 48
    lr: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 5e-5
    clip: float = 1.0
    target: float = 0.5
    act_weight: float = 20.0
    t_first: float = 5.0
    t_last: float = 1.0
    t_settle: float = 2.0
    kd_weight: float = 0.5
    kd_temperature: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.target < 1:
            raise ValueError(f"target: expected a share between 0 and 1, got {self.target}")
        if not 0 <= self.settle <= self.epochs or self.epochs < 1:
            raise ValueError(f"settle: {self.settle} of {self.epochs} epochs is not possible")
        if min(self.batch, self.lr, self.kd_temperature, self.t_first, self.t_last, self.t_settle) <= 0:
            raise ValueError("batch, lr and temperatures must be positive")


def small_config(mode: str, input_size: int = 96, width_mult: float = 0.1875, lr_mult: float = 3.0) -> LaudConfig:
    """The networks we ship: seven bottlenecks, ten classes. 'static' is layer mode that always keeps."""
    return LaudConfig(
        arch=CUSTOM_ARCH,
        layers=(2, 2, 2, 1),
        dyn_mode=("layer" if mode == STATIC else mode,) * STAGES,
        mask_spatial_granularity=(4, 2, 1, 1),
        channel_dyn_granularity=(2,) * STAGES,
        channel_masker_layers=(2,) * STAGES,
        input_size=input_size,
        num_classes=10,
        width_mult=width_mult,
        lr_mult=lr_mult,
    )


# ---------------------------------------------------------------------------------------------- losses


def temperature_at(recipe: Recipe, progress: float) -> float:
    """Gumbel-softmax temperature at `progress` (0..1) of the noisy part of the run."""
    return recipe.t_first * (recipe.t_last / recipe.t_first) ** progress


def flops_loss(counted: flops.Flops, static: int, target: float, progress: float) -> Tensor:
    """Squared distance of the share of `static` MACs from `target`, and of blocks from their bounds.

    progress (0..1) of the run: the bounds of a block start at the target and open to [0, 1] at one third, so
    that blocks first learn to skip at all and then to divide the work among themselves.
    """
    tightness = math.cos(math.pi / 2 * min(max(progress / 0.33, 0.0), 1.0)) ** 2
    upper, lower = 1 - tightness * (1 - target), tightness * target
    outside = F.relu(counted.block_share - upper) ** 2 + F.relu(lower - counted.block_share) ** 2
    return (counted.total / static - target) ** 2 + outside.mean()


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence of softened logits (B, classes), times temperature^2 to keep gradients comparable."""
    log_student = F.log_softmax(student / temperature, 1)
    return temperature**2 * F.kl_div(log_student, F.softmax(teacher / temperature, 1), reduction="batchmean")


# -------------------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class Batch:
    """One step's data. x (B, 3, S, S), labels (B,), progress of the run in 0..1."""

    x: Tensor
    labels: Tensor
    progress: float


Objective = Callable[[Batch], Tensor]
Report = Callable[[int, float], None]


def train_static(config: LaudConfig, recipe: Recipe, report: Report) -> LaudResNet:
    """Train the static network of `config`, whose maskers are then set to keep everything."""
    torch.manual_seed(recipe.seed)
    model = LaudResNet(config)

    def objective(batch: Batch) -> Tensor:
        return F.cross_entropy(model.forward_dense(batch.x), batch.labels)

    _optimise(model, recipe, objective, report)
    _keep_everything(model)
    return model.eval()


def train_dynamic(config: LaudConfig, recipe: Recipe, teacher: LaudResNet, report: Report) -> LaudResNet:
    """Train the dynamic network of `config` from the weights, and guided by the logits, of `teacher`."""
    torch.manual_seed(recipe.seed)
    model = LaudResNet(config)
    _warm_start(model, teacher)
    teacher.eval()
    static = flops.static_macs(config)

    def objective(batch: Batch) -> Tensor:
        _set_masks(model, recipe, batch.progress)
        run = model.run(batch.x)
        with torch.no_grad():
            wanted = teacher.forward_dense(batch.x)
        return (
            F.cross_entropy(run.logits, batch.labels)
            + recipe.kd_weight * distillation_loss(run.logits, wanted, recipe.kd_temperature)
            + recipe.act_weight * flops_loss(flops.count(model, run), static, recipe.target, batch.progress)
        )

    _optimise(model, recipe, objective, report)
    return model.eval()


def _optimise(model: LaudResNet, recipe: Recipe, objective: Objective, report: Report) -> None:
    optimiser = torch.optim.SGD(
        _parameter_groups(model, recipe),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    steps = recipe.epochs * _steps_per_epoch(recipe)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for epoch in range(recipe.epochs):
        model.train()
        total, count = 0.0, 0
        for batch in _batches(model.config.input_size, recipe, epoch):
            loss = objective(batch)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
            optimiser.step()
            schedule.step()
            total, count = total + float(loss.detach()), count + 1
        report(epoch, total / count)


def _parameter_groups(model: LaudResNet, recipe: Recipe) -> list[dict[str, object]]:
    maskers = [parameter for name, parameter in model.named_parameters() if ".masker_" in name]
    others = [parameter for name, parameter in model.named_parameters() if ".masker_" not in name]
    return [
        {"params": others},
        {"params": maskers, "lr": recipe.lr * model.config.lr_mult},
    ]


def _set_masks(model: LaudResNet, recipe: Recipe, progress: float) -> None:
    """Temperature and noise of every masker at `progress` (0..1) of the run; BN is frozen with the noise.

    A channel that no sample of a batch keeps has no variance, and BN's gradient grows with 1 / deviation: the
    few dead channels of a settled mask would drown everything else. Running statistics have no such poles.
    """
    noisy = 1 - recipe.settle / recipe.epochs
    settled = progress >= noisy
    model.temperature = recipe.t_settle if settled else temperature_at(recipe, progress / noisy)
    for masker in model.maskers():
        masker.noise = 0.0 if settled else 1.0
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train(not settled)


def _steps_per_epoch(recipe: Recipe) -> int:
    return len(data.source_digits("train")[1]) // recipe.batch


def _batches(size: int, recipe: Recipe, epoch: int) -> Iterator[Batch]:
    """One epoch: every training digit in a new placement, in random order, without an incomplete batch."""
    images, labels = data.make_images("train", size, recipe.seed * 1_000_003 + epoch)
    order = torch.randperm(len(labels))
    per_epoch = len(labels) // recipe.batch
    for step in range(per_epoch):
        chosen = order[step * recipe.batch : (step + 1) * recipe.batch].numpy()
        progress = (epoch + step / per_epoch) / recipe.epochs
        yield Batch(data.to_tensor(images[chosen]), torch.from_numpy(labels[chosen]), progress)


def _warm_start(model: LaudResNet, teacher: LaudResNet) -> None:
    weights = {key: value for key, value in teacher.state_dict().items() if ".masker_" not in key}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if unexpected or any(".masker_" not in key for key in missing):
        raise ValueError("the static network has another depth than the dynamic one")


def _keep_everything(model: LaudResNet) -> None:
    """Makes untrained maskers keep always: zero weights leave their biases, which favour keeping."""
    for masker in model.maskers():
        for parameter in masker.parameters():
            if parameter.dim() > 1:
                torch.nn.init.zeros_(parameter)


# ---------------------------------------------------------------------------------------- command line


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m laudnet.train", description=__doc__)
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True, help="checkpoint; its card goes beside it")
    parser.add_argument("--teacher", type=Path, help="static checkpoint to start from (default: train one first)")
    parser.add_argument("--epochs", type=int, default=Recipe.epochs)
    parser.add_argument("--settle", type=int, default=Recipe.settle, help="last epochs without noise in the masks")
    parser.add_argument("--batch", type=int, default=Recipe.batch)
    parser.add_argument("--lr", type=float, default=Recipe.lr)
    parser.add_argument("--masker-lr", type=float, default=3.0, help="factor on --lr for the maskers")
    parser.add_argument("--target", type=float, default=Recipe.target, help="MACs, as a share of the static ones")
    parser.add_argument("--size", type=int, default=96, help="side of the images in pixels")
    parser.add_argument("--width", type=float, default=0.1875, help="width multiplier")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    torch.set_num_threads(options.threads)
    started = time.monotonic()
    try:
        model, recipe = _train(options)
    except (CheckpointError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    seconds = time.monotonic() - started
    # What ships is evaluated: the file, with its weights rounded to half precision, not the model in memory.
    save_checkpoint(options.output, model, weight_dtype=torch.float16)
    result = evaluate(load_resnet(options.output))
    card = _card(options, recipe, result, seconds, arguments)
    save_checkpoint(options.output, model, card, weight_dtype=torch.float16)
    options.output.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(asdict(result)))
    return 0


def _train(options: argparse.Namespace) -> tuple[LaudResNet, Recipe]:
    config = small_config(options.mode, options.size, options.width, options.masker_lr)
    recipe = Recipe(options.epochs, options.settle, options.batch, options.lr, target=options.target, seed=options.seed)
    if options.mode == STATIC:
        return train_static(config, recipe, _print_epoch), recipe
    if options.teacher is not None:
        teacher = load_resnet(options.teacher)
    else:
        teacher = train_static(small_config(STATIC, options.size, options.width), recipe, _print_epoch)
    return train_dynamic(config, recipe, teacher, _print_epoch), recipe


def _print_epoch(epoch: int, loss: float) -> None:
    print(f"epoch {epoch + 1}: loss {loss:.4f}", file=sys.stderr, flush=True)


def _card(
    options: argparse.Namespace,
    recipe: Recipe,
    result: Evaluation,
    seconds: float,
    arguments: list[str] | None,
) -> dict[str, object]:
    command = ["python", "-m", "laudnet.train", *(sys.argv[1:] if arguments is None else arguments)]
    return {
        "mode": options.mode,
        "command": " ".join(command),
        "seconds": round(seconds, 1),
        "torch": torch.__version__,
        "recipe": asdict(recipe),
        "held_out": asdict(result),
    }


if __name__ == "__main__":
    sys.exit(main())
