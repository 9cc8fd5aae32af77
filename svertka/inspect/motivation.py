"""The motivation of convolutions, measured: equivariance and invariance, by layer, and accuracy against shift.

A layer f is equivariant to a change T of the picture if f(T x) = T f(x): its maps change as it does. The error is

    ‖f(T x) − T f(x)‖ / √(‖f(T x) − its means‖² + ‖f(x) − its means‖²),     means by channel,

0 if the maps follow exactly and about 1 if they are as different as unrelated ones. The change, the same of f(T x) and
f(x) itself, is 0 if the layer is invariant. Everything is computed in float64, so that an error that rounding could
make, under 2⁻⁴⁰ of the largest value, is told from a real one and counts as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from svertka import functional
from svertka.errors import DataError, GeometryError
from svertka.explain.cost import costs
from svertka.explain.operations import bound, operation_of
from svertka.inspect.recording import Layer, layers, private, record

Array = npt.NDArray[np.float64]
_ROUNDING = 2.0**-40


@dataclass(frozen=True)
class LayerEquivariance:
    """How the maps of one layer follow the picture.

    Args:
        layer: which one.
        stride: places of the picture from one output to the next; None if they differ or there is one output only.
        shift: error by shift, one for each of `Equivariance.shifts`. The picture is shifted round its edges, downwards
            and to the right; a map follows by shift / stride places, between places by linear interpolation.
        inside: the same of those places only that see neither the padding nor the seam that the shift made; None where
            there are none. Theory says 0 for convolutions, nonlinearities and pools at multiples of the stride.
        change: how much the maps themselves change, by shift: what an invariant layer keeps at 0.
        flip: error when left and right are exchanged; None if the layer has no maps.
        rotation: error of a quarter turn; None if the layer has no square maps.
    """

    layer: Layer
    stride: int | None
    shift: tuple[float, ...]
    inside: tuple[float | None, ...]
    change: tuple[float, ...]
    flip: float | None
    rotation: float | None


@dataclass(frozen=True)
class Equivariance:
    """All layers that give maps, and the answer.

    Args:
        shifts: in places of the picture.
        layers: in the order of the calls.
        same_answer: share of pictures that get the same class after each shift; empty if the network gives no scores.
        same_answer_flip, same_answer_rotation: after a flip and a quarter turn.
        count: number of pictures.
    """

    shifts: tuple[int, ...]
    layers: tuple[LayerEquivariance, ...]
    same_answer: tuple[float, ...]
    same_answer_flip: float | None
    same_answer_rotation: float | None
    count: int


@dataclass(frozen=True)
class ShiftAccuracy:
    """Accuracy when pictures are shifted, their edge pixels repeated into the gap.

    Args:
        shifts: in pixels, 0 among them.
        accuracy: mean over the four directions; of shift 0, the accuracy itself.
        count: number of pictures.
    """

    shifts: tuple[int, ...]
    accuracy: tuple[float, ...]
    count: int


@dataclass(frozen=True)
class Sharing:
    """How sparse one layer's connections are, and how often a weight is used.

    Args:
        layer: its name.
        outputs, inputs: numbers in its output and input.
        dense: connections if every output saw every input.
        connections: those there are; what looks at padding is left out.
        weights: numbers that are learnt, without biases.
    """

    layer: str
    outputs: int
    inputs: int
    dense: int
    connections: int
    weights: int

    @property
    def sparsity(self) -> float:
        """The share of possible connections that there are."""
        return self.connections / self.dense

    @property
    def uses(self) -> float:
        """How many connections share a weight, on average."""
        return self.connections / self.weights


def equivariance(model: nn.Module, pictures: Tensor, shifts: Sequence[int] = (1, 2, 3, 4)) -> Equivariance:
    """Measure every layer with maps on some pictures.

    Args:
        model: any that takes one tensor [N, channels, *size].
        pictures: [N, channels, height, width] as the model gets them; a dozen is enough.
        shifts: in places, from 1 to below the size.

    Raises:
        GeometryError: if a picture has not two axes, or a shift is not possible.
    """
    if pictures.ndim != 4:
        raise GeometryError(f"pictures of shape {tuple(pictures.shape)} can't be turned: give [N, channels, h, w]")
    if not shifts or not all(0 < shift < min(pictures.shape[2:]) for shift in shifts):
        raise GeometryError(
            f"the shifts {tuple(shifts)} are not possible: give some from 1 to below the picture's size"
        )
    size = tuple(pictures.shape[1:])
    found = layers(model, size)
    chosen = [layer for layer in found if layer.has_maps and len(layer.output) == 3 and layer.role != "same"]
    last = next((layer for layer in reversed(found) if len(layer.output) == 1), None)
    wanted = [*chosen, *([last] if last else [])]
    own, x = _in_float64(model), pictures.detach().double()

    def run(changed: Tensor) -> dict[Layer, Tensor]:
        with torch.no_grad():
            return record(own, changed, wanted)

    still = run(x)
    moved = [run(x.roll((shift, shift), (2, 3))) for shift in shifts]
    flipped = run(x.flip(3))
    turned = run(x.rot90(1, (2, 3))) if size[1] == size[2] else None
    rows = tuple(
        _measured(
            layer,
            still[layer],
            [m[layer] for m in moved],
            flipped[layer],
            turned[layer] if turned else None,
            shifts,
            size,
        )
        for layer in chosen
    )
    answers = [_agreement(still, m, last) for m in moved] if last else []
    return Equivariance(
        tuple(shifts),
        rows,
        tuple(answers),
        _agreement(still, flipped, last) if last else None,
        _agreement(still, turned, last) if last and turned else None,
        len(x),
    )


def accuracy_by_shift(
    model: nn.Module,
    batches: Iterable[Any],
    shifts: Sequence[int] = (0, 1, 2, 3, 4, 6, 8),
    progress: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> ShiftAccuracy:
    """Accuracy on pictures that were shifted: streamed, each batch once.

    Args:
        model: that gives scores [N, classes].
        batches: of `svertka.vision`, or pairs (pictures [N, C, height, width], labels [N]).
        shifts: in pixels.
        progress: goes round the batches, such as a bar.

    Raises:
        DataError: if there are no pictures.
    """
    own, right, count = private(model), [0.0] * len(shifts), 0
    with torch.no_grad():
        for batch in progress(batches):
            images, labels = (batch.images, batch.labels) if hasattr(batch, "images") else batch
            count += len(labels)
            for i, shift in enumerate(shifts):
                directions = {(dy * shift, dx * shift) for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0))}
                hits = [int((own(shifted(images, *d)).argmax(1) == labels).sum()) for d in sorted(directions)]
                right[i] += sum(hits) / len(hits)
    if not count:
        raise DataError("there are no pictures to measure the accuracy on: give some")
    return ShiftAccuracy(tuple(shifts), tuple(hits / count for hits in right), count)


def shifted(images: Tensor, down: int, right: int) -> Tensor:
    """[N, C, height, width] with the pictures further down and right; edge pixels are repeated into the gap."""
    if not down and not right:
        return images
    pads = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
    padded = functional.pad2d(images, pads, mode="replicate")
    height, width = images.shape[2:]
    top, left = max(-down, 0), max(-right, 0)
    return padded[:, :, top : top + height, left : left + width]


def sharing(model: nn.Module, size: Sequence[int]) -> tuple[Sharing, ...]:
    """Connections and weights of each convolution and dense layer, counted.

    Args:
        model: any.
        size: (channels, *size) of its input.
    """
    modules, found = dict(model.named_modules()), list[Sharing]()
    shapes = _input_shapes(model, size)
    for layer in layers(model, size):
        module, shape = modules.get(layer.name), shapes.get((layer.name, layer.number))
        if module is None or shape is None:
            continue
        inputs, outputs = int(np.prod(shape)), int(np.prod(layer.output))
        if isinstance(module, nn.Linear):
            connections = outputs * module.in_features
            weights = module.in_features * module.out_features
            found.append(Sharing(layer.title, outputs, inputs, inputs * outputs, connections, weights))
        elif layer.role == "convolution" and operation_of(module) is not None:
            cost = costs(bound(module), shape)
            found.append(Sharing(layer.title, outputs, inputs, inputs * outputs, cost.macs_inside, cost.weights))
    return tuple(found)


def _input_shapes(model: nn.Module, size: Sequence[int]) -> dict[tuple[str, int], tuple[int, ...]]:
    """Of each call of a module with weights, without the batch: told by hooks on a copy that computes nothing."""
    own, shapes, numbers = private(model), dict[tuple[str, int], tuple[int, ...]](), dict[str, int]()

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: Any) -> None:
            number = numbers[name] = numbers.get(name, -1) + 1
            shapes[name, number] = tuple(inputs[0].shape[1:])

        return hook

    for name, module in own.named_modules():
        if operation_of(module) is not None or isinstance(module, nn.Linear):
            module.register_forward_pre_hook(keep(name))
    like = next((p for p in own.parameters() if p.is_floating_point()), torch.zeros(()))
    with torch.no_grad():
        own(torch.zeros(1, *size, dtype=like.dtype, device=like.device))
    return shapes


def _in_float64(model: nn.Module) -> nn.Module:
    own = private(model)
    for module in own.modules():  # the weights are shared: each copy gets numbers of its own
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
    return own.double()


def _measured(
    layer: Layer,
    still: Tensor,
    moved: Sequence[Tensor],
    flipped: Tensor,
    turned: Tensor | None,
    shifts: Sequence[int],
    size: tuple[int, ...],
) -> LayerEquivariance:
    axes = layer.field or ()
    strides = {axis.stride for axis in axes}
    stride = strides.pop() if len(strides) == 1 else None
    steps = [Fraction(n, m) for n, m in zip(size[1:], layer.output[1:], strict=True)]
    wanted = [_followed(still, shift, stride, steps) for shift in shifts]
    inside = [_unspoiled(layer, shift, size) if shift % (stride or 1) == 0 else None for shift in shifts]
    square = turned is not None and still.shape[2] == still.shape[3]
    return LayerEquivariance(
        layer,
        stride,
        tuple(_distance(m, w) for m, w in zip(moved, wanted, strict=True)),
        tuple(
            None if mask is None or not mask.any() else _distance(m[..., mask], w[..., mask])
            for m, w, mask in zip(moved, wanted, inside, strict=True)
        ),
        tuple(_distance(m, still) for m in moved),
        _distance(flipped, still.flip(3)),
        _distance(turned, still.rot90(1, (2, 3))) if square and turned is not None else None,
    )


def _followed(maps: Tensor, shift: int, stride: int | None, steps: Sequence[Fraction]) -> Tensor:
    """The maps shifted round by shift / stride places on both axes, between places by linear interpolation."""
    for dim, step in zip((2, 3), steps, strict=True):
        whole, rest = divmod(Fraction(shift) / (stride or step), 1)
        near = maps.roll(int(whole), dim)
        maps = near if not rest else torch.lerp(near, maps.roll(int(whole) + 1, dim), float(rest))
    return maps


def _unspoiled(layer: Layer, shift: int, size: tuple[int, ...]) -> Tensor | None:
    """bool [height, width]: the places that see neither padding nor seam, and did not before the shift."""
    if layer.field is None or any(axis.stride is None for axis in layer.field):
        return None
    lines = []
    for axis, n, m in zip(layer.field, size[1:], layer.output[1:], strict=True):
        first = torch.tensor([axis.seen_by(i)[0] for i in range(m)])
        lines.append((first >= shift) & (first + axis.size <= n))
    return lines[0][:, None] & lines[1][None]


def _distance(a: Tensor, b: Tensor) -> float:
    """The error between maps [N, C, …] as the module's docstring has it."""
    a, b = a.flatten(2), b.flatten(2)
    largest = max(float(a.abs().max()), float(b.abs().max()))
    apart = (a - b).abs()
    if float(apart.max()) <= _ROUNDING * largest:
        return 0.0
    spread = ((a - a.mean(2, keepdim=True)) ** 2).sum() + ((b - b.mean(2, keepdim=True)) ** 2).sum()
    return float(apart.norm() / spread.sqrt().clamp(min=1e-300))


def _agreement(still: dict[Layer, Tensor], changed: dict[Layer, Tensor], last: Layer | None) -> float:
    assert last is not None
    return float((still[last].argmax(1) == changed[last].argmax(1)).double().mean())
