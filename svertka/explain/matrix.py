"""An operation as a sparse matrix: matrix @ x is the result without bias, its transpose gives the gradient.

A convolution, a mean and a padding are linear, and this is their matrix. A maximum, a norm and a stochastic pooling's
evaluation are not, but they double with their input; for such the matrix of derivatives at the input does both, too
(Euler's theorem on homogeneous functions).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from svertka import spec
from svertka.errors import SvertkaError
from svertka.explain.steps import Step, Steps, Term

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def matrix(steps: Steps) -> csr_array:
    """SciPy's float64 csr_array [outputs, inputs], rows and columns in row-major order of (channel, *position)."""
    try:
        from scipy.sparse import coo_array
    except ImportError:
        raise SvertkaError("the matrix of an operation needs SciPy: pip install 'svertka[explain]'") from None
    rows, columns, entries = [], [], []
    for number, step in enumerate(steps):
        for term in step.terms:
            if term.source is not None:
                rows.append(number)
                columns.append(int(np.ravel_multi_index((term.channel, *term.source), steps.x.shape)))
                entries.append(derivative(steps.bound.operation, step, term))
    shape = (len(steps), steps.x.size)
    table: Any = coo_array((np.array(entries, dtype=np.float64), (rows, columns)), shape=shape)
    return table.tocsr()


def derivative(operation: spec.Operation[Any], step: Step, term: Term) -> float:
    """How fast the result grows with the value that the term reads."""
    match operation:
        case spec.LpPool():
            if operation.p == math.inf:
                largest = next((t for t in step.terms if abs(t.value) == step.result), None)
                return math.copysign(1.0, term.value) if term is largest and term.value else 0.0
            if step.result == 0 or term.value == 0:
                return 0.0
            with np.errstate(all="ignore"):  # near p = 0 all of it over- and underflows
                slope = float(np.power(abs(term.value) / step.result, operation.p - 1))
            return math.copysign(slope, term.value)
        case spec.StochasticPool():
            total = sum(max(t.value, 0.0) for t in step.terms)
            return (2 * term.value - step.result) / total if total and term.value >= 0 else 0.0
    return float(term.chosen) if term.weight is None else term.weight


def names(steps: Steps) -> list[list[str]]:
    """The matrix with the weights' names, k11 … as on the lecture's slide; "0" where there is none.

    A kernel of several channels has a first number for the output's and the input's: k(1,2)11.
    """
    weight = steps.bound.weight
    many = weight is not None and weight.shape[: weight.ndim - len(steps.bound.operation.windows)] != (1, 1)
    table = [["0"] * steps.x.size for _ in range(len(steps))]
    for row, step in zip(table, steps, strict=True):
        for term in step.terms:
            if term.source is None:
                continue
            column = int(np.ravel_multi_index((term.channel, *term.source), steps.x.shape))
            tap = "".join(str(i + 1) for i in term.tap)
            name = f"k({step.output[0] + 1},{term.channel + 1}){tap}" if many else f"k{tap}"
            row[column] = name if row[column] == "0" else f"{row[column]}+{name}"
    return table
