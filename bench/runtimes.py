"""The peers that read ONNX: ONNX Runtime, OpenVINO, MNN."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from layer_rows import Arrays, Row
from peers import NOT_HERE, Call, CannotError, Peer, Ways

DEFAULT = -1
WINOGRAD_LEVEL = 3  # MNN's number of its hint WINOGRAD_MEMORY_LEVEL


class Runtime(Peer):
    """A peer that gets the layer as an ONNX graph."""

    layouts: tuple[str, ...] = ("",)

    def ways(self, row: Row, arrays: Arrays) -> Ways:
        from onnx_graphs import ways

        for name, build in ways(row).items():
            model: list[bytes] = []
            for layout in self.layouts:
                for setting in self.settings(row):

                    def prepare(build: Any = build, model: Any = model, layout: str = layout, s: int = setting) -> Call:
                        if not model:
                            model.append(build(row, arrays))
                        return self.load(model[0], arrays["x"], layout, s)

                    special = "" if setting == DEFAULT else f"setting {setting}"
                    yield ", ".join(part for part in (name, layout, special) if part), prepare

    def settings(self, row: Row) -> tuple[int, ...]:
        """What else can be chosen."""
        del row
        return (DEFAULT,)

    def load(self, model: bytes, x: np.ndarray, layout: str, setting: int) -> Call:
        """The call of a model on x [N, C, *size]."""
        raise NotImplementedError


class OnnxRuntime(Runtime):
    """CPU provider, all optimizations, input and output bound."""

    distribution = "onnxruntime"

    def load(self, model: bytes, x: np.ndarray, layout: str, setting: int) -> Call:
        import onnxruntime

        del layout, setting
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        shape = session.run(None, {"x": x})[0].shape
        binding, y = session.io_binding(), value(np.empty(shape, dtype=np.float32))
        binding.bind_ortvalue_input("x", value(x))
        binding.bind_ortvalue_output("y", y)
        return Call(lambda: session.run_with_iobinding(binding), lambda _: y.numpy())


class OpenVino(Runtime):
    """CPU device, latency hint, float32; the input as it is and with channels last."""

    distribution = "openvino"
    layouts = ("channels first", "channels last")

    def __init__(self, threads: int, scratch: Path) -> None:
        import openvino

        super().__init__(threads, scratch)
        self.openvino, self.core = openvino, openvino.Core()

    def load(self, model: bytes, x: np.ndarray, layout: str, setting: int) -> Call:
        del setting
        last = layout == "channels last"
        if last and x.ndim < 3:
            raise CannotError(NOT_HERE)
        graph = self.core.read_model(model)
        graph.reshape({"x": list(x.shape)})
        if last:
            graph = self._channels_last(graph, x.ndim)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": self.threads,
        }
        compiled = self.core.compile_model(graph, "CPU", settings)
        if compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() != "f32":
            raise CannotError("it doesn't compute in float32")
        request = compiled.create_infer_request()
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if last else x
        request.set_input_tensor(self.openvino.Tensor(x))  # a copy that the request keeps

        def run() -> None:
            request.start_async()
            request.wait()

        def result(_: Any) -> np.ndarray:
            y = request.get_output_tensor().data
            return np.moveaxis(y, -1, 1) if last else y

        return Call(run, result)

    def _channels_last(self, graph: Any, ndim: int) -> Any:
        """The graph with input and output in channels last; the device moves what it must by itself."""
        first = {3: "NCW", 4: "NCHW", 5: "NCDHW"}[ndim]
        last = first[0] + first[2:] + "C"
        layout, steps = self.openvino.Layout, self.openvino.preprocess.PrePostProcessor(graph)
        for side in (steps.input(), steps.output()):
            side.model().set_layout(layout(first))
            side.tensor().set_layout(layout(last))
        return steps.build()


class Mnn(Runtime):
    """CPU backend, float32; the input as it is and in MNN's own format, channels in packets.

    By itself it takes Winograd tiles so large that results are off by some 10⁻³; with fewer of them to choose from
    (setting 1) or none (0) they are not. Of what is right the fastest is timed, as with all peers.
    """

    distribution = "MNN"
    layouts = ("channels first", "channel packets")

    def settings(self, row: Row) -> tuple[int, ...]:
        tiles = row.kind in ("conv", "block") and row.kernel > 1 and row.groups < row.inputs
        return (DEFAULT, 1, 0) if tiles or row.inputs == 1 else (DEFAULT,)

    def load(self, model: bytes, x: np.ndarray, layout: str, setting: int) -> Call:
        import _tools
        import MNN
        from MNN import expr

        source, converted = self.scratch / "layer.onnx", self.scratch / "layer.mnn"
        source.write_bytes(model)
        converted.unlink(missing_ok=True)
        _tools.mnnconvert(
            ["mnnconvert", "-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(converted), "--bizCode", "bench"]
        )
        if not converted.exists():
            raise CannotError("MNN can't convert it")
        packets = layout == "channel packets"
        if packets:
            _without_conversions(expr, converted, x)
        settings = ({"backend": "CPU", "numThread": self.threads, "precision": "high", "power": "high"},)
        manager = MNN.nn.create_runtime_manager(settings)
        if setting != DEFAULT:
            manager.set_hint(WINOGRAD_LEVEL, setting)
        module = MNN.nn.load_module_from_file(str(converted), ["x"], ["y"], runtime_manager=manager)
        given = expr.const(x, list(x.shape), expr.NCHW, expr.float)
        given = expr.convert(given, expr.NC4HW4) if packets else given
        given.read()  # converts it now

        def result(y: Any) -> np.ndarray:
            shape = y[0].shape[: x.ndim]  # a line comes back as a plane of width 1
            y = expr.convert(y[0], expr.NCHW) if y[0].data_format == expr.NC4HW4 else y[0]
            return np.array(y.read(), dtype=np.float32).reshape(shape)

        return Call(lambda: module.forward([given]), result)


def _without_conversions(expr: Any, path: Path, x: np.ndarray) -> None:
    """Rewrites a model so that it takes and gives MNN's own format."""
    variables = expr.load_as_dict(str(path))
    y, conversions = variables["y"], []
    for variable in variables.values():
        if variable.op_type == "ConvertTensor" and variable.inputs[0].name == "x":
            conversions.append(variable)
    if y.op_type != "ConvertTensor" or not conversions:
        raise CannotError(NOT_HERE)
    y.name, y = "channels first", y.inputs[0]
    packets = expr.placeholder(list(x.shape), expr.NC4HW4)
    packets.name, y.name = "x", "y"
    for conversion in conversions:
        conversion.replace(packets)
    expr.save([y], str(path))


RUNTIMES: dict[str, Callable[[int, Path], Peer]] = {"onnxruntime": OnnxRuntime, "openvino": OpenVino, "mnn": Mnn}
