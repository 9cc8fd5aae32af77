"""The networks of the lecture's revolution, built of blocks convolution → norm → nonlinearity → pooling.

Every factory takes the number of channels and classes and gives a module that turns float [N, channels, height, width],
of any size from 1×1, into scores [N, classes]. At the classic sizes the geometry and the parameter counts are the
published ones. `size=(height, width)` is what the pictures will mostly be: it fits small pictures with a gentler stem
or a smaller dense part, and is no obligation.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from svertka.blocks import Block
from svertka.errors import DataError, GeometryError
from svertka.nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, GlobalAvgPool2d, MaxPool2d
from svertka.window import integer

Size = Sequence[int]


class Residual(nn.Module):
    """relu(branch(x) + shortcut(x)), the shortcut a 1×1 convolution where the shapes differ (He et al. 2016)."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut
        self.activation = nn.ReLU(inplace=True)

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, height, width] → [N, out_channels, *output size]."""
        shortcut = input if self.shortcut is None else self.shortcut(input)
        output: Tensor = self.activation(self.branch(input) + shortcut)
        return output


class MapsOfSize(AdaptiveAvgPool2d):
    """Adaptive average pooling that costs nothing where the maps have the right size, as at a network's own size."""

    def forward(self, input: Tensor) -> Tensor:
        """[N, C, height, width] → [N, C, *output_size]."""
        return input if input.shape[-2:] == self.output_size else super().forward(input)


def linear(channels: int = 3, classes: int = 10, *, size: Size | None = None) -> nn.Module:
    """One dense layer on the pixels: a weight for each pixel and class. Needs `size`, and takes that size only."""
    _check(channels, classes, size)
    if size is None:
        raise GeometryError("the model linear has a weight for each pixel and needs the input size: give size=(28, 28)")
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))


def lenet(
    channels: int = 1,
    classes: int = 10,
    *,
    size: Size | None = None,
    widths: Sequence[int] = (32, 64),
    hidden: int = 512,
    dropout: float = 0.5,
    norm: bool = False,
) -> nn.Module:
    """LeNet in today's dress: two 5×5 convolutions, each with ReLU and 2×2 maximum pooling, and two dense layers.

    After LeCun et al. 1998, with the widths of TensorFlow's MNIST tutorial. Its dense part sees 7×7 maps, as 28×28
    pictures give; smaller ones if `size` says that the pictures are smaller.
    """
    _check(channels, classes, size)
    blocks = [
        _block(inputs, outputs, 5, padding="same", norm=norm, pool=MaxPool2d(2))
        for inputs, outputs in _steps(channels, widths)
    ]
    return _with_dense_part(blocks, 7, size, (hidden,), classes, dropout)


def alexnet(
    channels: int = 3,
    classes: int = 1000,
    *,
    size: Size | None = None,
    widths: Sequence[int] = (96, 256, 384, 384, 256),
    hidden: int = 4096,
    dropout: float = 0.5,
    norm: bool = False,
) -> nn.Module:
    """AlexNet with its two groups in the second, fourth and fifth convolution (Krizhevsky et al. 2012).

    224 → 55 → 27 → 13 → 6, and 60 965 224 parameters. The local response norm is left out, as its followers found
    (Simonyan & Zisserman 2015, section 2.3); `norm` adds batch norm.
    """
    _check(channels, classes, size)
    kernels, groups, pooled = (11, 5, 3, 3, 3), (1, 2, 1, 2, 2), (True, True, False, False, True)
    blocks = [
        _block(
            inputs, outputs, kernel, stride=4 if kernel == 11 else 1, padding=2 if kernel == 11 else "same",
            groups=group, norm=norm, pool=MaxPool2d(3, 2) if pool else None,
        )
        for (inputs, outputs), kernel, group, pool in zip(
            _steps(channels, widths), kernels, groups, pooled, strict=True
        )
    ]  # fmt: skip
    return _with_dense_part(blocks, 6, size, (hidden, hidden), classes, dropout)


def _vgg(
    depths: Sequence[int],
    channels: int,
    classes: int,
    size: Size | None,
    width: int,
    hidden: int,
    dropout: float,
    norm: bool,
) -> nn.Module:
    _check(channels, classes, size)
    blocks, inputs = [], channels
    for stage, depth in enumerate(depths):
        for place in range(depth):
            pool = MaxPool2d(2) if place == depth - 1 else None
            outputs = min(2**stage, 8) * width
            blocks.append(_block(inputs, outputs, 3, padding=1, norm=norm, pool=pool))
            inputs = outputs
    return _with_dense_part(blocks, 7, size, (hidden, hidden), classes, dropout)


def vgg11(
    channels: int = 3,
    classes: int = 1000,
    *,
    size: Size | None = None,
    width: int = 64,
    hidden: int = 4096,
    dropout: float = 0.5,
    norm: bool = False,
) -> nn.Module:
    """VGG with 8 convolutions and 3 dense layers (Simonyan & Zisserman 2015, A): 132 863 336 parameters.

    `width` filters in the first convolution, `hidden` units in the dense layers; `norm` adds batch norm.
    """
    return _vgg((1, 1, 2, 2, 2), channels, classes, size, width, hidden, dropout, norm)


def vgg16(
    channels: int = 3,
    classes: int = 1000,
    *,
    size: Size | None = None,
    width: int = 64,
    hidden: int = 4096,
    dropout: float = 0.5,
    norm: bool = False,
) -> nn.Module:
    """VGG with 13 convolutions and 3 dense layers (Simonyan & Zisserman 2015, D): 138 357 544 parameters.

    `width` filters in the first convolution, `hidden` units in the dense layers; `norm` adds batch norm.
    """
    return _vgg((2, 2, 3, 3, 3), channels, classes, size, width, hidden, dropout, norm)


def _basic(inputs: int, width: int, stride: int) -> tuple[nn.Module, int]:
    """Two 3×3 convolutions and how many channels they give."""
    return nn.Sequential(
        _block(inputs, width, 3, stride=stride, padding=1, norm=True),
        _block(width, width, 3, padding=1, norm=True, relu=False),
    ), width


def _bottleneck(inputs: int, width: int, stride: int) -> tuple[nn.Module, int]:
    """1×1, 3×3 and 1×1 convolutions, the stride in the 3×3 one, and how many channels they give."""
    return nn.Sequential(
        _block(inputs, width, 1, norm=True),
        _block(width, width, 3, stride=stride, padding=1, norm=True),
        _block(width, 4 * width, 1, norm=True, relu=False),
    ), 4 * width


def _resnet(
    branch: Callable[[int, int, int], tuple[nn.Module, int]],
    depths: Sequence[int],
    channels: int,
    classes: int,
    size: Size | None,
    width: int,
    stem: str,
    dropout: float,
    zero_init_residual: bool,
) -> nn.Module:
    _check(channels, classes, size)
    layers: list[nn.Module] = [_stem(channels, width, stem, size)]
    inputs = width
    for stage, depth in enumerate(depths):
        for place in range(depth):
            stride = 2 if stage > 0 and place == 0 else 1
            module, outputs = branch(inputs, width * 2**stage, stride)
            same = inputs == outputs and stride == 1
            layers.append(Residual(module, None if same else _block(inputs, outputs, 1, stride, norm=True, relu=False)))
            inputs = outputs
    model = _with_global_pool(layers, inputs, classes, dropout)
    if zero_init_residual:
        for residual in filter(lambda module: isinstance(module, Residual), model.modules()):
            nn.init.zeros_(residual.branch[-1].norm.weight)  # type: ignore[index, union-attr]
    return model


def _stem(channels: int, width: int, stem: str, size: Size | None) -> Block:
    """The first block of a residual network: for ImageNet's pictures, or for small ones (He et al. 2016, 4.2)."""
    if stem not in ("auto", "7x7", "3x3"):
        raise GeometryError(f"stem={stem!r} is unknown: choose one of auto, 7x7, 3x3")
    if stem == "3x3" or (stem == "auto" and _is_small(size)):
        return _block(channels, width, 3, padding=1, norm=True)
    return _block(channels, width, 7, stride=2, padding=3, norm=True, pool=MaxPool2d(3, 2, 1))


def resnet18(
    channels: int = 3,
    classes: int = 1000,
    *,
    size: Size | None = None,
    width: int = 64,
    stem: str = "auto",
    dropout: float = 0.0,
    zero_init_residual: bool = False,
) -> nn.Module:
    """Residual network of 8 pairs of 3×3 convolutions (He et al. 2016, table 1): 11 689 512 parameters.

    Args:
        channels, classes, size: as in every factory.
        width: filters in the first stage; each of the three others doubles it.
        stem: "7x7" with stride 2 and pooling, "3x3" without either, or "auto": "3x3" if `size` is at most 64.
        dropout: before the dense layer.
        zero_init_residual: start every residual at 0 (Goyal et al. 2017, section 5.1).
    """
    return _resnet(_basic, (2, 2, 2, 2), channels, classes, size, width, stem, dropout, zero_init_residual)


def resnet50(
    channels: int = 3,
    classes: int = 1000,
    *,
    size: Size | None = None,
    width: int = 64,
    stem: str = "auto",
    dropout: float = 0.0,
    zero_init_residual: bool = False,
) -> nn.Module:
    """Residual network of 16 bottlenecks (He et al. 2016, table 1): 25 557 032 parameters.

    The stride of a bottleneck is in its 3×3 convolution, as in torchvision. Arguments as in `resnet18`.
    """
    return _resnet(_bottleneck, (3, 4, 6, 3), channels, classes, size, width, stem, dropout, zero_init_residual)


def mobilenet(
    channels: int = 3,
    classes: int = 1000,
    *,
    size: Size | None = None,
    width: float = 1.0,
    dropout: float = 0.0,
) -> nn.Module:
    """MobileNet v1 of 13 depthwise separable convolutions (Howard et al. 2017, table 1): 4 231 976 parameters.

    `width` is the paper's multiplier of all channels. If `size` is at most 64 the first convolution has
    stride 1, not 2.
    """
    _check(channels, classes, size)
    if not width > 0:
        raise GeometryError(f"width={width} multiplies the channels of mobilenet: give a number above 0")
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    inputs = _scaled(32, width)
    layers: list[nn.Module] = [_block(channels, inputs, 3, 1 if _is_small(size) else 2, padding=1, norm=True)]
    for outputs, stride in plan:
        layers.append(_block(inputs, inputs, 3, stride, padding=1, groups=inputs, norm=True))
        layers.append(_block(inputs, _scaled(outputs, width), 1, norm=True))
        inputs = _scaled(outputs, width)
    return _with_global_pool(layers, inputs, classes, dropout)


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def _is_small(size: Size | None) -> bool:
    return size is not None and max(size) <= 64


def _check(channels: int, classes: int, size: Size | None) -> None:
    integer(channels, "channels", 1)
    integer(classes, "classes", 1)
    if size is not None:
        if len(size) != 2:
            raise GeometryError(f"size={tuple(size)} is no picture's size: give (height, width)")
        for name, n in zip(("height", "width"), size, strict=True):
            integer(n, f"{name} in size", 1)


def _steps(first: int, widths: Sequence[int]) -> Iterable[tuple[int, int]]:
    """(channels in, channels out) of one convolution after the other."""
    return zip((first, *widths), widths, strict=False)


def _block(
    inputs: int,
    outputs: int,
    kernel_size: int,
    stride: int = 1,
    *,
    padding: int | str = 0,
    groups: int = 1,
    norm: bool = False,
    relu: bool = True,
    pool: MaxPool2d | None = None,
) -> Block:
    """A block with He's weights; its convolution has a bias unless a batch norm follows."""
    conv = Conv2d(inputs, outputs, kernel_size, stride, padding, groups=groups, bias=not norm)
    _draw(conv)
    return Block(conv, BatchNorm2d(outputs) if norm else None, nn.ReLU(inplace=True) if relu else None, pool)


def _draw(layer: Conv2d | nn.Linear) -> None:
    """Weights that keep the variance through ReLU (He et al. 2015): without them deep plain networks don't train."""
    if not layer.weight.is_meta:  # no numbers to draw, and torch would load its compiler to say so
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _with_dense_part(
    blocks: Sequence[Block],
    grid: int,
    size: Size | None,
    hidden: Sequence[int],
    classes: int,
    dropout: float,
) -> nn.Module:
    """Blocks, maps averaged to `grid` × `grid` (less where pictures of `size` give less), dense layers."""
    height = width = grid
    if size is not None:
        for block in blocks:
            size = block.output_size(size)
        height, width = (min(grid, n) for n in size)
    layers: list[nn.Module] = []
    for inputs, outputs in _steps(blocks[-1].conv.out_channels * height * width, hidden):
        dense = nn.Linear(inputs, outputs)
        _draw(dense)
        layers += [dense, nn.ReLU(inplace=True), nn.Dropout(dropout)]
    layers.append(nn.Linear(hidden[-1], classes))
    return _network(blocks, MapsOfSize((height, width)), layers)


def _with_global_pool(layers: Sequence[nn.Module], features: int, classes: int, dropout: float) -> nn.Module:
    """Layers, the mean of each map, one dense layer."""
    dense = [*([nn.Dropout(dropout)] if dropout else []), nn.Linear(features, classes)]
    return _network(layers, GlobalAvgPool2d(), dense)


def _network(features: Sequence[nn.Module], pool: nn.Module, dense: Sequence[nn.Module]) -> nn.Module:
    parts = {
        "features": nn.Sequential(*features),
        "pool": pool,
        "flatten": nn.Flatten(),
        "dense": nn.Sequential(*dense),
    }
    return nn.Sequential(OrderedDict(parts))


MODELS: dict[str, Callable[..., nn.Module]] = {
    factory.__name__: factory for factory in (linear, lenet, alexnet, vgg11, vgg16, resnet18, resnet50, mobilenet)
}


def create(name: str, channels: int, classes: int, **arguments: Any) -> nn.Module:
    """A new model by its name in MODELS, or by a factory in a file of the user's own: "path/to/file.py:factory".

    The factory is called as factory(channels=…, classes=…, **arguments); `size` is left out if it takes none. The file
    is run, with its folder first on the import path.

    Raises:
        DataError: naming the known models, the known arguments, or what is wrong with the file.
    """
    factory = _factory_in_file(name) if ".py:" in name else _imported if name == "onnx" else MODELS.get(name)
    if factory is None:
        raise DataError(f"model {name!r} is unknown: choose one of {', '.join(MODELS)} or path/to/file.py:factory")
    model = factory(channels=channels, classes=classes, **_accepted(name, factory, arguments))
    if not isinstance(model, nn.Module):
        raise DataError(f"{name} gave an object of type {type(model).__name__}: it must return a torch.nn.Module")
    return model


def _imported(channels: int, classes: int, size: Size, steps: Sequence[Any], output: str) -> nn.Module:
    """What `svertka import` made of an ONNX file."""
    from svertka.deploy.graph import build

    return build(channels, classes, size=size, steps=steps, output=output)


def _accepted(name: str, factory: Callable[..., Any], arguments: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(factory).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return arguments
    unknown = [key for key in arguments if key not in parameters and key != "size"]
    if unknown:
        known = [key for key in parameters if key not in ("channels", "classes")]
        raise DataError(f"{name} takes no argument {unknown[0]}: it knows {', '.join(known) or 'none'}")
    return {key: value for key, value in arguments.items() if key in parameters}


def _factory_in_file(name: str) -> Callable[..., Any]:
    file, _, attribute = name.rpartition(":")
    path = Path(file).resolve()
    if not path.is_file():
        raise DataError(f"there is no file {file} to take {attribute} from: give path/to/file.py:factory")
    known_as = f"_svertka_file_{path.stem}"  # a name that hides no module, whatever the file is called
    found = importlib.util.spec_from_file_location(known_as, path)
    assert found is not None and found.loader is not None, "a .py file always has a loader"
    module = importlib.util.module_from_spec(found)
    sys.path.insert(0, str(path.parent))
    sys.modules[known_as] = module  # where dataclasses, and torch.compile, look for what a class or function stands in
    try:
        found.loader.exec_module(module)
    except Exception as error:
        del sys.modules[known_as]
        line = error.lineno if isinstance(error, SyntaxError) else traceback.extract_tb(error.__traceback__)[-1].lineno
        raise DataError(f"{file} could not be run: {type(error).__name__} in line {line}: {error}") from error
    finally:
        sys.path.remove(str(path.parent))
    factory = getattr(module, attribute, None)
    if not callable(factory):
        functions = ((key, value) for key, value in vars(module).items() if inspect.isfunction(value))
        public = [key for key, value in functions if value.__module__ == known_as and not key.startswith("_")]
        raise DataError(f"{file} has no factory {attribute!r}: it has {', '.join(public) or 'no functions'}")
    return factory  # type: ignore[no-any-return]
