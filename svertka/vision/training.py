"""The training loop: plain torch, and so that a resumed run is exact, all chance a function of (seed, epoch, step)."""

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from svertka.errors import SvertkaError
from svertka.vision.batches import Batches
from svertka.vision.checkpoint import State
from svertka.vision.settings import Settings
from svertka.vision.team import Team


class TrainingError(SvertkaError, ArithmeticError):
    """The loss became NaN or infinite."""


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    criterion: nn.Module,
    batches: Batches,
    settings: Settings,
    state: State,
    after_step: Callable[[float], None],
    team: Team,
) -> None:
    """Train `model` in place on what is left of the epoch at which `state` stands, and count it there.

    `batches` are this process' shares; the loss is the mean over the pictures of a whole batch. `after_step` is called
    with it whenever model, optimizer and state agree: it may save them, and may raise to stop. TrainingError, before
    anything is changed, if the loss is NaN or infinite.
    """
    epoch = state.epoch
    model.train()
    for batch in batches.epoch(epoch, state.step):
        seed_chance(settings, epoch, batch.step, team.rank)
        for group in optimizer.param_groups:
            group["lr"] = step_learning_rate(settings, len(batches), epoch, batch.step)
        images, labels = batch.images.to(settings.device), batch.labels.to(settings.device)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=settings.autocast):
            loss, correct = _loss(model, criterion, images, labels, settings.sync_batch_norm)
        whole = team.whole(loss.item(), _weight(criterion, labels), len(labels), correct)
        if not whole.seen:
            continue
        if not math.isfinite(whole.loss):
            raise TrainingError(
                f"the loss became {whole.loss} at step {batch.step + 1} of epoch {epoch + 1}: the last checkpoint is"
                f" kept, start a new run with --lr below {settings.lr:g} or look for broken pictures"
            )
        optimizer.zero_grad()
        torch.autograd.backward(loss if team.alone else loss * whole.share)
        team.sum_gradients(model.parameters())
        optimizer.step()
        state.step = batch.step + 1
        state.seen += whole.seen
        state.loss_sum += whole.loss * whole.seen
        state.correct += whole.correct
        after_step(whole.loss)


def _loss(
    model: nn.Module, criterion: nn.Module, images: torch.Tensor, labels: torch.Tensor, must_meet: bool
) -> tuple[torch.Tensor, int]:
    """The mean loss over these pictures, 0 if there are none, and how many are told right.

    With layers that meet the other processes' the network is run even without pictures.
    """
    if not len(labels) and not must_meet:
        return torch.zeros((), requires_grad=True), 0
    scores = model(images).float()
    loss = criterion(scores, labels) if len(labels) else scores.sum()
    return loss, int((scores.argmax(1) == labels).sum())


def _weight(criterion: nn.Module, labels: torch.Tensor) -> float:
    """What these pictures weigh in a mean loss."""
    weight = criterion.weight
    return float(weight[labels].sum()) if isinstance(weight, torch.Tensor) else len(labels)


def seed_chance(settings: Settings, epoch: int, step: int, rank: int = 0) -> None:
    """Seed what dropout and stochastic pooling draw in this step, in each process of a team something else."""
    text = f"{settings.seed} {epoch} {step}{f' {rank}' if rank else ''}".encode()
    seed = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    if settings.device == "cpu":
        torch.default_generator.manual_seed(seed)  # a hundredth of the time of torch.manual_seed
    else:
        torch.manual_seed(seed)


def learning_rate(schedule: str, peak: float, step: int, steps: int) -> float:
    """The learning rate of one step of `steps`.

    "onecycle" rises from peak/25 during three tenths of the steps and falls to peak/250 000, both along a cosine, as
    torch.optim.lr_scheduler.OneCycleLR does (Smith & Topin 2018); "cosine" falls from the peak towards 0; "constant" is
    the peak throughout.
    """
    if schedule == "constant":
        return peak
    if schedule == "cosine":
        return _along_cosine(peak, 0.0, step / steps)
    top, last = max(0.3 * steps - 1, 0.0), steps - 1
    if step < top:
        return _along_cosine(peak / 25, peak, step / top)
    return _along_cosine(peak, peak / 250_000, (step - top) / max(last - top, 1))


def step_learning_rate(settings: Settings, steps: int, epoch: int, step: int) -> float:
    """The learning rate of one step of an epoch of `steps`."""
    return learning_rate(settings.schedule, settings.lr, epoch * steps + step, settings.epochs * steps)


def make_optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum 0.9, or AdamW with torch's betas, over all parameters of `model`."""
    parameters, decay = model.parameters(), settings.weight_decay
    fused = settings.device == "cpu"  # a twelfth of LeNet's step
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, settings.lr, momentum=0.9, nesterov=True, weight_decay=decay, fused=fused)
    return torch.optim.AdamW(parameters, settings.lr, weight_decay=decay, fused=fused)


def make_criterion(settings: Settings, labels: torch.Tensor, classes: int) -> nn.Module:
    """Cross-entropy; with class weights, a class of n pictures out of N in C classes counts N / (C n) times."""
    weight = None
    if settings.class_weights:
        counts = torch.bincount(labels, minlength=classes)
        weight = (len(labels) / (classes * counts.clamp(min=1))).float()
    return nn.CrossEntropyLoss(weight, label_smoothing=settings.label_smoothing).to(settings.device)


def _along_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


@contextmanager
def using_threads(number: int) -> Iterator[None]:
    """torch computes with so many threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
