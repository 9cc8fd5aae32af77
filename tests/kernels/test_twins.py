"""The IR of a few small kernels beside the code that writes it, so that a review sees what a change does to it.

`python tests/kernels/test_twins.py` writes the twins anew.
"""

from pathlib import Path

import pytest

from svertka.engine.launch import kernel_text
from svertka.kernels.combine import WeightedSum
from svertka.kernels.dense import DENSE, Dense, DenseSchedule
from svertka.kernels.epilogue import Epilogue
from svertka.kernels.few import FEW, Few, FewSchedule
from svertka.kernels.separable import SEPARABLE, Separable, SeparableSchedule
from svertka.kernels.target import TARGETS
from svertka.spec import Activation

FOLDER = Path(__file__).parent / "twins"
KERNELS = {
    "dense": (DENSE, Dense(5, 4), DenseSchedule(1, 1), "generic"),
    "dense-block": (
        DENSE,
        Dense(3, 9, Epilogue(bias=True, residual=True, activation=Activation("relu"))),
        DenseSchedule(2, 1, block_inputs=2),
        "avx2",
    ),
    "separable": (
        SEPARABLE,
        Separable(WeightedSum(), 4, Epilogue(bias=True), 3, rows=3, product=Dense(4, 5, Epilogue(residual=True))),
        SeparableSchedule(4, 1, 1, 2, product=DenseSchedule(2, 1), room=256),
        "generic",
    ),
    "few": (FEW, Few(3, 5, 2, 2, Epilogue(bias=True), apart=True), FewSchedule(2, 1), "avx2"),
}


def text(name):
    family, spec, schedule, target = KERNELS[name]
    return kernel_text(family, spec, schedule, TARGETS[target])


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_are_their_twins(name):
    twin = (FOLDER / f"{name}.ll").read_text(encoding="utf-8")
    assert text(name) == twin, "renew the twins with `python tests/kernels/test_twins.py` and look at the difference"
    assert text(name) == twin  # writing has no memory


def test_each_twin_has_its_kernel():
    assert {path.stem for path in FOLDER.iterdir()} == set(KERNELS)


if __name__ == "__main__":
    for name in KERNELS:
        (FOLDER / f"{name}.ll").write_text(text(name), encoding="utf-8")
