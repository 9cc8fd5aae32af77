# ruff: noqa: B018, E402
"""The code of the slides, in cells, run in order in one namespace; `../build.py` puts them between the texts."""

# %% 0
import numpy as np
import torch
from PIL import Image

import svertka
from svertka import nn

torch.manual_seed(0)
torch.set_num_threads(1)
np.set_printoptions(formatter={"float": "{:3.3g}".format})


def conv(kernel, **arguments):
    """A convolution layer with this kernel, one channel in and one out."""
    weight = torch.tensor(kernel, dtype=torch.float64)
    kind = {1: nn.Conv1d, 2: nn.Conv2d}[weight.ndim]
    layer = kind(1, 1, weight.shape, bias=False, dtype=torch.float64, **arguments)
    layer.load_state_dict({"weight": weight[None, None]})
    return layer


def picture(maps, scale=16, columns=5):
    """Matrices in rows as a picture: the least number of each is black, the largest white."""
    maps = [torch.as_tensor(m).double() for m in maps]
    height, width = (max(m.shape[axis] for m in maps) + 1 for axis in (0, 1))
    sheet = torch.zeros(-(-len(maps) // columns) * height, min(len(maps), columns) * width, 2)
    for place, m in enumerate(maps):
        row, column = place // columns * height, place % columns * width
        grey = (m - m.min()) / (m.max() - m.min()).clamp(min=1e-9) * 255
        opaque = torch.full_like(grey, 255)
        sheet[row : row + len(m), column : column + len(m[0])] = torch.stack([grey, opaque], 2)
    pixels = sheet[:-1, :-1].round().byte()
    return Image.fromarray(pixels.repeat_interleave(scale, 0).repeat_interleave(scale, 1).numpy())


# %% 1
from svertka.vision.datasets import load

digits = load("digits")
print(digits.train.pixels[3, 0].numpy())
picture([digits.train.pixels[3, 0]], scale=24)

# %% 1
from pathlib import Path

from svertka.explain.parsing import parse

try:
    parse("source/slide-1.txt")
except svertka.DataError as error:
    print(error)

# %% 1
rows = [line.split()[:32] for line in Path("source/slide-1.txt").read_text().splitlines()]
picture([np.array(rows, dtype=int)], scale=8)

# %% 2
from svertka.models import create

x, y = digits.train.pixels.double() / 255, digits.train.labels
model = create("linear", channels=1, classes=10, size=(8, 8)).double()
optimizer = torch.optim.Adam(model.parameters(), lr=0.05, weight_decay=0.003)
for _ in range(100):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
correct = model(digits.test.pixels.double() / 255).argmax(1) == digits.test.labels
print("more than 90 % correct:", correct.double().mean().item() > 0.9)
print("weights:", list(model[1].weight.shape))

# %% 2
three = create("linear", channels=1, classes=3, size=(8, 8))
print("3 classes:", list(three[1].weight.shape))
picture(model[1].weight.detach().view(10, 8, 8))

# %% 3
pixels = 256 * 256 * 3
dense = torch.nn.Linear(pixels, pixels, bias=False, device="meta")
convolution = nn.Conv2d(3, 3, 3, padding="same", bias=False)
print(f"{pixels:_} numbers in a picture")
print(f"{dense.weight.numel():_} weights of the dense layer")
print(f"{convolution.weight.numel()} weights of the convolution")

# %% 4
from svertka.explain.likeness import compare, slides_x

likeness = compare(slides_x(), slides_x(deformed=True), places=[(1, 1), (3, 3), (1, 5)])
print(f"{likeness.differing} of {likeness.cells} cells differ")
print(f"ones: {likeness.ones}, shared: {likeness.shared}")
for found in likeness.found:
    print("filter from", found.place, "best responses:", np.array(found.best))
picture([slides_x(), slides_x(deformed=True), *(found.patch for found in likeness.found)])

# %% 5
signal = [1, 2, 3, 4, 5, 5, 4, 3, 2, 1]
e = svertka.explain(conv([-1, 0, 1]), signal)
print(e.output)
e

# %% 5
print(svertka.explain(conv([-1, 0, 1]), signal, flip=True).output)
print(np.convolve(signal, [-1, 0, 1], mode="valid"))

# %% 6
for mode in ("zeros", "replicate", "symmetric", "circular", "reflect"):
    padded = nn.Pad1d(2, mode)(torch.tensor([[1, 2, 3, 4, 5]]))[0]
    layer = conv([-1, 0, 2, 0, -1], padding="same", padding_mode=mode)
    print(f"{mode:10}", padded.numpy(), "->", svertka.explain(layer, [1, 2, 3, 4, 5]).output[0])

# %% 6
layer = conv([-1, 0, 2, 0, -1], padding="same", padding_mode="symmetric")
svertka.explain(layer, [1, 2, 3, 4, 5])

# %% 7
matrix = [[1, 2, 3], [3, 4, 5], [1, 0, 2]]
e = svertka.explain(conv([[0, 1], [1, -1]]), matrix)
e.print(at=(0, 1, 0))
print(e.output)

# %% 8
numbers = [[3, 3, 2, 1, 0], [0, 0, 1, 3, 1], [3, 1, 2, 2, 3], [2, 0, 0, 2, 2], [2, 0, 0, 0, 1]]
kernel = [[0, 1, 2], [2, 2, 0], [0, 1, 2]]
e = svertka.explain(conv(kernel), numbers)
print(e.output)
e.animate("pictures/08.svg")
e

# %% 8
e = svertka.explain(conv(kernel, stride=2, padding=1), numbers)
print(e.output)
e.animate("pictures/08-2.svg")
e

# %% 9
layer = nn.Conv2d(in_channels=3, out_channels=6, kernel_size=5)
print("kernels:", list(layer.weight.shape))
print("3 channels:", list(layer(torch.zeros(3, 32, 32)).shape))
try:
    layer(torch.zeros(4, 32, 32))
except svertka.GeometryError as error:
    print("4 channels:", error)

# %% 10
cat = np.array(Image.open("source/cat.png"), dtype=float)
gx = svertka.explain(conv([[1, 0, -1]]), cat).output[0]
gy = svertka.explain(conv([[1], [0], [-1]]), cat).output[0]
picture([cat[1:-1, 1:-1], gx[1:-1], gy[:, 1:-1]], scale=2)

# %% 10
from svertka.explain import gallery

filtered = gallery.apply(cat, ["gaussian-blur", "sharpen", "edges", "corners"])
picture([response[0].clamp(0, 255) for response in filtered.values()], scale=2, columns=2)

# %% 11
lenet = create("lenet", channels=1, classes=10)
for size in [(28, 28), (64, 64), (33, 150)]:
    x = torch.zeros(1, 1, *size)
    print(size, "maps:", list(lenet.features(x).shape[1:]), " scores:", list(lenet(x).shape[1:]))

# %% 12
for padding in ("valid", "same"):
    print(padding, svertka.explain(conv([[0, 1], [1, -1]], padding=padding), matrix).output[0], sep="\n")

# %% 12
e = svertka.explain(conv([[0, 1], [1, -1]], padding="same"), matrix)
e.print(at=(0, 1, 2))
Path("pictures/12-2.svg").write_text(e.svg(5), encoding="utf-8")
e

# %% 13
numbers5 = [[1, 2, 3, 1, 0], [3, 4, 5, 2, 1], [1, 0, 2, 3, 4], [0, 1, 3, 1, 2], [1, 2, 4, 2, 3]]
cross = [[0, 1, 0], [1, 0, -1], [0, -1, 0]]
print(svertka.explain(conv(cross, stride=2), numbers5).output[0])
print(svertka.explain(conv(cross, stride=(2, 1)), numbers5).output[0])

# %% 14
layer = nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2)
print("weight:", list(layer.weight.shape), " bias:", list(layer.bias.shape))
print("10×12 ->", layer.operation.output_size((10, 12)))
height = (10 + 2 * 1 - 1 * (3 - 1) - 1) // 2 + 1
width = (12 + 2 * 2 - 2 * (5 - 1) - 1) // 1 + 1
print("by the formula:", (height, width))

# %% 14
svertka.explain(conv(kernel, dilation=2), torch.zeros(7, 9)).receptive_field()

# %% 15
e = svertka.explain(conv([[0, 1], [1, -1]]), matrix)
for row in e.matrix_names():
    print(" ".join(f"{name:>3}" for name in row))
print(e.matrix() @ np.ravel(matrix), e.output.ravel())

# %% 15
x = torch.tensor(matrix, dtype=torch.float64)[None, None].requires_grad_()
conv([[0, 1], [1, -1]])(x).backward(torch.tensor([[[[1, 2], [3, 4]]]]))
print(e.matrix().T @ [1.0, 2, 3, 4])
print(x.grad.numpy().ravel())

# %% 16
full = torch.nn.Linear(5, 5, bias=False)
local = nn.LocallyConnected1d(1, 1, 3, input_size=5, padding=1, bias=False)
shared = nn.Conv1d(1, 1, 3, padding=1, bias=False)
print("weights:", full.weight.numel(), local.weight.numel(), shared.weight.numel())
svertka.explain(shared, [1, 2, 3, 4, 5]).connections()

# %% 17
pool = nn.AvgPool2d(3, stride=1)
e = svertka.explain(pool, numbers)
print(e.output[0].round(1))
print(svertka.explain(nn.MaxPool2d(3, stride=1), numbers).output[0])
e

# %% 18
x = torch.tensor([[[[1.0, 3], [-2, 2]]]])
print("weighted  ", nn.WeightedAvgPool2d(2, weight=[[1, 2], [1, 0]])(x).item())
print("L1        ", nn.LPPool2d(1, 2)(x).item())
print("torch's L1", torch.nn.LPPool2d(1, 2)(x).item())
print("L2        ", round(nn.LPPool2d(2, 2)(x).item(), 3))
print("stochastic", round(nn.StochasticPool2d(2).eval()(x).item(), 3))

# %% 18
draw = nn.StochasticPool2d(2, generator=torch.Generator().manual_seed(0))
drawn = draw(x.expand(1, 60_000, 2, 2)).flatten()
for value in (1, 2, 3):
    print(value, f"{(drawn == value).double().mean().item():.2f}")

# %% 18
words = torch.tensor([[[3.0, 1, 5, 4, 2]]])
print("3-max:", nn.KMaxPool1d(3)(words).numpy()[0, 0])
print("dynamic, 2 segments:", nn.DynamicPool1d(2)(words).numpy()[0, 0])


# %% 19
def gradient(layer, values):
    x = torch.tensor(values, dtype=torch.float64)[None, None].requires_grad_()
    layer(x).sum().backward()
    return x.grad[0, 0].numpy().round(2).tolist()


print("max       ", gradient(nn.MaxPool2d(2), [[1, 3], [3, 2]]))
print("average   ", gradient(nn.AvgPool2d(2), [[1, 3], [3, 2]]))
print("L2        ", gradient(nn.LPPool2d(2, 2), [[3, 0], [0, -4]]))
print("stochastic", gradient(nn.StochasticPool2d(2), [[1, 3], [-3, 2]]))

# %% 20
x = torch.arange(35.0).view(1, 5, 7)
print(nn.AdaptiveMaxPool2d((2, 3))(x)[0].numpy())
for size in [(5, 7), (40, 23), (1, 2)]:
    print(size, "->", list(nn.AdaptiveAvgPool2d((2, 3))(torch.zeros(1, *size)).shape[1:]))
print("stride 2: (8, 6) ->", list(nn.MaxPool2d(2, stride=2)(torch.zeros(1, 8, 6)).shape[1:]))

# %% 21
from svertka.models import Block

block = Block(nn.Conv2d(3, 6, 5), activation=torch.nn.ReLU(), pool=nn.MaxPool2d(2))
x = torch.randn(1, 3, 32, 32)
print(list(block(x).shape), torch.equal(block(x), block.pool(block.conv(x).relu())))

# %% 22
x = torch.randn(1, 1, 12, 12)
ring = nn.Conv2d(1, 1, 3, padding="same", padding_mode="circular")


def follows_shift(f, step):
    """Whether a shift of the input by `step` shifts the output by as much."""
    return torch.allclose(f(x.roll(step, -1)), f(x).roll(step, -1), atol=1e-6)


pooled = torch.nn.Sequential(ring, nn.MaxPool2d(2), torch.nn.Upsample(scale_factor=2))
print("convolution: shift by 1", follows_shift(ring, 1))
print("with 2×2 pooling: shift by 1", follows_shift(pooled, 1), " by 2", follows_shift(pooled, 2))
whole = torch.nn.Sequential(ring, nn.GlobalMaxPool2d())
print("with global pooling, the output stays:", torch.allclose(whole(x.roll(3, -1)), whole(x)))

# %% 23
from rich.console import Console

from svertka.explain.cost import costs

layer = nn.Conv2d(in_channels=3, out_channels=6, kernel_size=5)
Console().print(costs(layer, (3, 32, 32)).table())

# %% 24
torch.manual_seed(0)
net = create("lenet", 1, 10, size=(8, 8), widths=(8, 16), hidden=64, dropout=0).double()
optimizer = torch.optim.Adam(net.parameters(), lr=0.005, weight_decay=0.01)
x, y = digits.train.pixels.double() / 255, digits.train.labels
for step in range(150):
    batch = torch.arange(step * 64, step * 64 + 64) % len(x)
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
    optimizer.step()
correct = net(digits.test.pixels.double() / 255).argmax(1) == digits.test.labels
print("more than 90 % correct:", correct.double().mean().item() > 0.9)
picture(net.features[0].conv.weight.detach()[:, 0], columns=4)

# %% 24
three = digits.test.pixels[digits.test.labels == 3][:1].double() / 255
maps = net.features[0].activation(net.features[0].conv(three)).detach()[0]
picture([three[0, 0], *maps], scale=12)

# %% 24
blur = nn.WeightedAvgPool2d(
    3, stride=1, padding=1, padding_mode="replicate", weight=[[1, 2, 1], [2, 4, 2], [1, 2, 1]]
).double()
dream = torch.zeros(10, 1, 8, 8, dtype=torch.float64).requires_grad_()
optimizer = torch.optim.Adam([dream], lr=0.2)
for _ in range(60):
    optimizer.zero_grad()
    score = net(blur(dream).sigmoid()).log_softmax(1).diagonal().sum()
    (0.02 * dream.square().sum() - score).backward()
    optimizer.step()
picture(blur(dream).sigmoid().detach()[:, 0])

# %% 24
covered = three.repeat(64, 1, 1, 1)
for place in range(64):
    covered[place].view(-1)[place] = 0
importance = (net(three) - net(covered))[:, 3].view(8, 8).detach()
picture([three[0, 0], importance], scale=16)

# %% 25
pixelwise, linear = nn.Conv2d(5, 3, 1), torch.nn.Linear(5, 3)
linear.load_state_dict({"weight": pixelwise.weight[:, :, 0, 0], "bias": pixelwise.bias})
x = torch.randn(2, 5, 4, 6)
print(list(pixelwise(x).shape))
print(torch.allclose(pixelwise(x), linear(x.movedim(1, -1)).movedim(-1, 1), atol=1e-6))

# %% 26
x = torch.randn(1, 3, 32, 32)
dense, whole = torch.nn.Linear(3072, 10), nn.Conv2d(3, 10, 32)
whole.load_state_dict({"weight": dense.weight.view(10, 3, 32, 32), "bias": dense.bias})
print(list(x.flatten(1).shape), "->", list(dense(x.flatten(1)).shape))
print(list(whole(x).shape), torch.allclose(whole(x).flatten(1), dense(x.flatten(1)), atol=1e-5))

# %% 27
from svertka.explain import summary

with torch.device("meta"):
    for name in ("alexnet", "vgg16", "resnet18", "resnet50", "mobilenet"):
        s = summary(create(name, channels=3, classes=1000), (3, 224, 224))
        print(f"{name:9} parameters {s.parameters / 1e6:5.1f} M   multiply-adds {s.macs / 1e9:5.2f} G")

# %% 28
layer = nn.Conv2d(4, 6, 3, groups=2, padding=1, bias=False)
print(list(layer.weight.shape), layer.weight.numel(), "instead of", 4 * 6 * 3 * 3)
connections = svertka.explain(layer, torch.zeros(4, 3, 3)).connections()
Path("pictures/28.svg").write_text(connections.svg(compare=False), encoding="utf-8")
connections

# %% 29
regular = nn.Conv2d(3, 16, 3, padding="same", bias=False)
separable = nn.SeparableConv2d(3, 16, 3, padding="same", bias=False)
for layer in (regular, separable):
    s = summary(layer, (3, 128, 128))
    print(f"{type(layer).__name__:15} {s.parameters} weights, {s.macs:_} multiply-adds")
