"""Convolutions by the dense family."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from svertka import spec
from svertka.engine.launch import Launch, address, constant_line
from svertka.engine.layout import channels_last, empty, offset_table, place_table, with_channels_last
from svertka.kernels.dense import DENSE, Dense, DenseSchedule, blocks_of
from svertka.kernels.epilogue import Epilogue
from svertka.kernels.schedule import choose_dense
from svertka.kernels.target import host


def prepare_convolution(operation: spec.Convolution, x: Tensor, weight: Tensor, bias: Tensor | None) -> Any:
    """A runner for a convolution of x, or why there is none."""
    channels, groups = x.shape[1], operation.groups
    if channels != weight.shape[1] * groups or weight.shape[0] % groups:
        return "its sizes don't fit"  # torch's operation says it better
    if x[0].numel() >= 2**31 or weight.shape[0] * math.prod(operation.output_size(x.shape[2:])) >= 2**31:
        return "an image has more numbers than a table can count"
    return _Convolution(operation, x, weight, bias)


class _Convolution:
    """One convolution on inputs of one shape."""

    def __init__(self, operation: spec.Convolution, x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        target, groups = host(), operation.groups
        self.outputs = weight.shape[0]
        size, out_size = tuple(x.shape[2:]), operation.output_size(x.shape[2:])
        self.shape = (x.shape[0], self.outputs, *out_size)
        self.last = channels_last(x) or channels_last(weight)
        pixels, taps = math.prod(out_size), math.prod(window.size for window in operation.windows)
        kernel = Dense(weight.shape[1], self.outputs // groups, Epilogue(bias=bias is not None))
        self.schedule = schedule = choose_dense(kernel, target, taps, pixels, x.shape[0])
        self.offsets = offset_table(operation.windows, size, x.shape[1], schedule.pixels)
        self.places = place_table(pixels, self.outputs, schedule.pixels)
        blocks = blocks_of(kernel, schedule, target)
        pixel_tasks = math.ceil(pixels / (schedule.pixels * schedule.tiles))
        output_tasks = math.ceil(blocks / schedule.blocks)
        self.launch = Launch(
            DENSE,
            kernel,
            schedule,
            x.shape[0] * groups * pixel_tasks * output_tasks,
            pixels=pixels,
            stored_pixels=self.offsets.shape[1],
            x_image=x[0].numel(),
            y_image=self.outputs * pixels,
            taps=taps,
            groups=groups,
            pixel_tasks=pixel_tasks,
            output_tasks=output_tasks,
        )
        self.detail = f"dense, {schedule.pixels} pixels × {schedule.vectors} vectors"
        self.pack = _packing(groups, blocks, schedule.vectors * target.lanes)
        self.zeros = constant_line(weight.shape[1])

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x = with_channels_last(x)
        y = empty(self.shape, True)
        packed = packed_weight(weight, bias, self.pack)
        self.launch(
            address(x), address(self.zeros), address(packed[0]), address(y), address(self.offsets),
            address(self.places), address(packed[1]), 0, 0,
        )  # fmt: skip
        return y if self.last or y.is_contiguous() else y.contiguous()


def _packing(groups: int, blocks: int, width: int) -> Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]:
    """Weights as [groups, blocks, taps, inputs, width], and the bias as [groups, blocks, width]."""

    def pack(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        outputs, inputs = weight.shape[0] // groups, weight.shape[1]
        padded = torch.zeros(groups, blocks * width, inputs, weight[0, 0].numel())
        padded[:, :outputs] = weight.reshape(groups, outputs, inputs, -1)
        packed = padded.view(groups, blocks, width, inputs, -1).permute(0, 1, 4, 3, 2).contiguous()
        if bias is None:
            return packed, None
        line = torch.zeros(groups, blocks * width)
        line[:, :outputs] = bias.view(groups, outputs)
        return packed, line

    pack.key = (groups, blocks, width)  # type: ignore[attr-defined]
    return pack


_packed: dict[tuple[int, Any], tuple[Any, Any]] = {}


def packed_weight(weight: Tensor, bias: Tensor | None, pack: Any) -> tuple[Tensor, Tensor | None]:
    """The weights as the kernel reads them; kept while they stay the same.

    torch counts the changes of a tensor, which is how we know; those through `.data` it doesn't count.
    """
    state = _state(weight, bias)
    if state is None:
        return pack(weight, bias)
    key = (id(weight), id(bias), pack.key)
    found = _packed.get(key)
    if found is not None and found[0] == state:
        return found[1]
    if found is None:
        weakref.finalize(weight, _packed.pop, key, None)
    # The storage is held, so that no other weight can come to lie at its address unnoticed.
    value = pack(weight.detach(), None if bias is None else bias.detach())
    _packed[key] = (state, value)
    return value


def _state(weight: Tensor, bias: Tensor | None) -> Any:
    if weight.is_inference() or (bias is not None and bias.is_inference()):
        return None
    return weight._version, weight.data_ptr(), bias is not None and (bias._version, bias.data_ptr())
