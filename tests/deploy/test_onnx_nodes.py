"""The onnx package's own tests of nodes: imported as networks; what they do in integers, by `svertka.functional`."""

import importlib
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from svertka import functional as F
from svertka.deploy.reading import import_onnx
from svertka.errors import DataError

GROUPS = ("conv", "convtranspose", "maxpool", "averagepool", "lppool", "pad", "globalaveragepool", "globalmaxpool")
INTEGERS = {
    "test_maxpool_2d_uint8": lambda x: F.max_pool2d(x, 5, 1, 2),
    "test_edge_pad": lambda x, _: F.pad2d(x, (1, 1, 1, 1), "replicate"),
    "test_reflect_pad": lambda x, _: F.pad2d(x, (1, 1, 1, 1), "reflect"),
    "test_wrap_pad": lambda x, _: F.pad2d(x, (1, 1, 1, 1), "circular"),
    "test_maxpool_with_argmax_2d_precomputed_pads": lambda x: F.max_pool2d(x, 5, 1, 2, return_indices=True),
}
SKIPPED = {
    "test_convtranspose_output_shape": "chooses its padding by the output's shape",
    "test_convtranspose_kernel_shape": "chooses its padding by the output's shape",
    "test_convtranspose_autopad_same": "chooses its padding by the output's shape",
    "test_maxpool_with_argmax_2d_precomputed_strides": "has a second result that is used",  # counted in columns
}


def cases():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case import node

        for name in GROUPS:
            importlib.import_module(f"onnx.backend.test.case.node.{name}")
        return {case.name: case for case in node._NodeTestCases if case.model is not None}


CASES = cases()


def saved(case, tmp_path):
    """The case as a network of its first input; the others become tensors of the file."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    for value, array in list(zip(model.graph.input, case.data_sets[0][0], strict=True))[1:]:
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), value.name))
    (tmp_path / "case.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "case.onnx"


def computed(name, inputs, tmp_path):
    if name in INTEGERS:
        result = INTEGERS[name](*map(torch.from_numpy, inputs))
        return result if isinstance(result, tuple) else (result,)
    with torch.no_grad():
        return (import_onnx(saved(CASES[name], tmp_path)).network(torch.from_numpy(inputs[0])),)


@pytest.mark.parametrize("name", [name for name in CASES if name not in SKIPPED])
def test_node(name, tmp_path):
    inputs, expected = CASES[name].data_sets[0]
    found = computed(name, inputs, tmp_path)
    for mine, its in zip(found, expected, strict=True):
        assert mine.shape == its.shape
        np.testing.assert_allclose(mine.numpy(), its, rtol=CASES[name].rtol, atol=1e-6)


@pytest.mark.parametrize("name", SKIPPED)
def test_what_is_skipped_is_refused_for_its_reason(name, tmp_path):
    with pytest.raises(DataError, match=SKIPPED[name]):
        import_onnx(saved(CASES[name], tmp_path))


def test_the_suite_is_as_large_as_it_was():
    assert len(CASES) >= 74
