"""What a decision rests on: three ways to ask, by captum, and a check that the answer depends on what was learnt.

occlusion             how the class's log-probability falls where a square is covered (Zeiler & Fergus 2014)
integrated gradients  (x − b) · ∫ ∂score/∂x along the line from a blank picture b to x (Sundararajan et al. 2017)
Grad-CAM              ReLU(Σ mean gradient of the score · map), over the last maps (Selvaraju et al. 2017)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from svertka.errors import GeometryError
from svertka.inspect.extras import need
from svertka.inspect.recording import Layer, layers, private

Map = npt.NDArray[np.float32]
_STEPS = 32
_MOST_AT_ONCE, _NUMBERS_AT_ONCE = 64, 400_000  # pictures that go through together, and numbers in them


@dataclass(frozen=True, eq=False)
class Attribution:
    """What speaks for a class in a picture.

    Args:
        method: "occlusion", "integrated gradients" or "Grad-CAM".
        target: the class.
        map: float32 [height, width]; positive where the picture speaks for the class, negative where against it.
        score: what was attributed: the class's log-probability (occlusion), or its score.
        gap: of integrated gradients: |Σ map − (score − blank picture's score)|, which is 0 but for the finite steps.
        layer: of Grad-CAM: whose maps were weighed.
    """

    method: str
    target: int
    map: Map
    score: float
    gap: float | None = None
    layer: str = ""

    @property
    def peak(self) -> tuple[int, int]:
        """Row and column of the largest value: of several equal ones, the middle one."""
        rows, columns = np.nonzero(self.map >= self.map.max() - 1e-6 * abs(float(self.map.max())))
        middle = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
        return int(rows[middle]), int(columns[middle])


@dataclass(frozen=True)
class Sanity:
    """The map of the trained network beside those of the same network with random weights (Adebayo et al. 2018).

    Args:
        method: as in `Attribution`.
        correlations: rank correlation of the trained network's map with each random network's.
    """

    method: str
    correlations: tuple[float, ...]

    @property
    def correlation(self) -> float:
        """Their mean: near 0 if the map depends on what was learnt, near 1 if it shows the picture only."""
        return float(np.mean(self.correlations))

    @property
    def passed(self) -> bool:
        """Whether the maps have little in common: less than a half."""
        return self.correlation < 0.5


def occlusion(model: nn.Module, picture: Tensor, target: int, side: int | None = None) -> Attribution:
    """How much the class's log-probability falls where a square is covered with the picture's own ground.

    Args:
        model: that gives scores [N, classes].
        picture: [channels, height, width] as the model gets it (normalised).
        target: the class.
        side: of the square; a fifth of the picture's shorter one if None. It moves by a third of that.
    """
    return occlusions(model, picture, [target], side)[0]


def occlusions(
    model: nn.Module, picture: Tensor, targets: Sequence[int], side: int | None = None
) -> tuple[Attribution, ...]:
    """`occlusion` for several classes: the network runs as often as for one."""
    captum = need("captum.attr", "occlusion")
    own = _scorer(model, picture, *targets)
    answers = _Replayed(lambda x: own(x).log_softmax(1))
    height, width = picture.shape[1:]
    side = side or max(1, round(min(height, width) / 5))
    side, step = min(side, height, width), max(1, side // 3)
    blank, told = _blank(picture), []
    for target in targets:
        answers.again()
        with _quiet(), torch.no_grad():
            found = captum.Occlusion(answers).attribute(
                picture[None],
                sliding_window_shapes=(len(picture), side, side),
                strides=(len(picture), step, step),
                baselines=blank,
                target=target,
                perturbations_per_eval=_at_once(picture),
            )
        score = float(answers.given[0][0, target])  # the first that captum asks about is the picture as it is
        told.append(Attribution("occlusion", target, _flat(found[0].mean(0)), score))
    return tuple(told)


def integrated_gradients(model: nn.Module, picture: Tensor, target: int, steps: int = _STEPS) -> Attribution:
    """The score's gradients, summed along the way from a blank picture, all of it this one's ground.

    Args:
        model, picture, target: as in `occlusion`.
        steps: on the way.
    """
    captum = need("captum.attr", "integrated gradients")
    own = _scorer(model, picture, target)
    with _quiet():
        found, gap = captum.IntegratedGradients(own).attribute(
            picture[None],
            _blank(picture),
            target=target,
            n_steps=steps,
            return_convergence_delta=True,
            internal_batch_size=_at_once(picture),
        )
    with torch.no_grad():
        score = float(own(picture[None])[0, target])
    return Attribution("integrated gradients", target, _flat(found[0].sum(0)), score, abs(float(gap)))


def grad_cam(model: nn.Module, picture: Tensor, target: int, layer: str | None = None) -> Attribution:
    """Where the maps of a layer are that raise the score.

    Args:
        model, picture, target: as in `occlusion`.
        layer: a module that gives maps; the last one if None.

    Raises:
        GeometryError: if the network has no such layer.
    """
    captum = need("captum.attr", "Grad-CAM")
    own = _scorer(model, picture, target)
    modules, chosen = dict(own.named_modules()), layer or _last_maps(own, picture)
    if chosen not in modules:
        raise GeometryError(f"the model has no module {chosen!r} whose maps could be weighed: choose another")
    with _quiet():
        found = captum.LayerGradCam(own, modules[chosen]).attribute(
            picture[None], target=target, relu_attributions=True
        )
        large = captum.LayerAttribution.interpolate(found, tuple(picture.shape[1:]), interpolate_mode="bilinear")
    with torch.no_grad():
        score = float(own(picture[None])[0, target])
    return Attribution("Grad-CAM", target, _flat(large[0].mean(0)), score, layer=chosen)


METHODS: dict[str, Callable[[nn.Module, Tensor, int], Attribution]] = {
    "occlusion": occlusion,
    "integrated gradients": integrated_gradients,
    "Grad-CAM": grad_cam,
}


def attributions(method: str, model: nn.Module, picture: Tensor, targets: Sequence[int]) -> tuple[Attribution, ...]:
    """What speaks for each of several classes, by a method of METHODS."""
    if method == "occlusion":
        return occlusions(model, picture, targets)
    return tuple(METHODS[method](model, picture, target) for target in targets)


def sanity(
    model: nn.Module,
    picture: Tensor,
    target: int,
    method: str = "occlusion",
    *,
    draws: int = 3,
    seed: int = 0,
    trained: Attribution | None = None,
) -> Sanity:
    """Whether the map changes when all weights are exchanged for random ones: it must, if it shows what was learnt.

    Args:
        model, picture, target: as in `occlusion`.
        method: a key of METHODS.
        draws: how many random networks.
        seed: decides their weights.
        trained: the trained network's map, if it is there already.
    """
    ask = METHODS[method]
    ours = (trained or ask(model, picture, target)).map
    found = [_rank_correlation(ours, ask(randomised(model, seed + i), picture, target).map) for i in range(draws)]
    return Sanity(method, tuple(found))


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """A copy with random weights: normal ones, of the mean and standard deviation that each parameter has."""
    own, draw = private(model), torch.Generator().manual_seed(seed)
    for module in own.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            values = parameter.detach().cpu()
            spread = values.std() if values.numel() > 1 else torch.zeros(())
            drawn = torch.randn(values.shape, generator=draw, dtype=values.dtype) * spread + values.mean()
            setattr(module, name, nn.Parameter(drawn.to(parameter.device)))
    return own


def _scorer(model: nn.Module, picture: Tensor, *targets: int) -> nn.Module:
    """The model in private; GeometryError if it gives no score for one of the classes."""
    own = private(model)
    with torch.no_grad():
        scores = own(picture[None])
    if not isinstance(scores, Tensor) or scores.ndim != 2:
        raise GeometryError("the model gives no scores [N, classes], so there is no decision to explain")
    if outside := [target for target in targets if not 0 <= target < scores.shape[1]]:
        raise GeometryError(
            f"the model has the classes 0 to {scores.shape[1] - 1}, not {outside[0]}: choose one of them"
        )
    return own


class _Replayed:
    """Answers a second series of the same questions with what it gave to the first.

    captum covers the same squares in the same order whatever the class, and asks for one class at a time.
    """

    def __init__(self, ask: Callable[[Tensor], Tensor]) -> None:
        self.ask, self.given, self.at = ask, list[Tensor](), 0

    def again(self) -> None:
        """The series begins anew."""
        self.at = 0

    def __call__(self, x: Tensor) -> Tensor:
        if self.at == len(self.given):
            self.given.append(self.ask(x))
        self.at += 1
        return self.given[self.at - 1]


def _at_once(picture: Tensor) -> int:
    """How many such pictures go through together: what a network keeps of large ones is bounded, gradients included."""
    return min(max(_NUMBERS_AT_ONCE // picture.numel(), 4), _MOST_AT_ONCE)


def _blank(picture: Tensor) -> Tensor:
    """[1, C, h, w] of the picture's ground, the median of each channel: it hides an object and adds nothing new."""
    return picture.flatten(1).median(dim=1).values[None, :, None, None].expand(1, *picture.shape)


def _last_maps(model: nn.Module, picture: Tensor) -> str:
    """The last module that gives one tensor of maps, and is called once only; if it is a pool, the nonlinearity before.

    Args:
        model: in private.
        picture: as in `occlusion`.
    """
    found, fit = layers(model, tuple(picture.shape)), set[nn.Module]()
    hooks = [
        module.register_forward_hook(lambda own, _, output: fit.add(own) if isinstance(output, Tensor) else None)
        for module in model.modules()
    ]
    with torch.no_grad():
        model(picture[None])
    for hook in hooks:
        hook.remove()
    names = {name for name, module in model.named_modules() if module in fit}
    names -= {layer.name for layer in found if layer.number}
    maps: list[Layer] = [layer for layer in found if layer.has_maps and len(layer.output) == 3 and layer.name in names]
    nonlinear = [layer for layer in maps if layer.role == "nonlinearity"]
    if not maps:
        raise GeometryError(
            "the model has no layer with maps of rows and columns, which Grad-CAM needs: take another method"
        )
    last = maps[-1]
    return (nonlinear[-1] if nonlinear and last.role in ("pool", "same") else last).name


def _flat(values: Tensor) -> Map:
    found: Map = values.detach().float().cpu().numpy()
    return found


def _rank_correlation(a: Map, b: Map) -> float:
    """Spearman's, on what two maps show: 0 if one of them is even."""
    ranks = [_ranks(values.ravel()) for values in (a, b)]
    deviations = [rank - rank.mean() for rank in ranks]
    norm = np.linalg.norm(deviations[0]) * np.linalg.norm(deviations[1])
    return float(deviations[0] @ deviations[1] / norm) if norm > 0 else 0.0


def _ranks(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Equal values have their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: npt.NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return found


@contextmanager
def _quiet() -> Any:
    """captum warns of what it sets and unsets itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
