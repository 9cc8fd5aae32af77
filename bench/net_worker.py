"""A process that runs networks for one peer; it answers as `worker` does, with networks in place of rows.

{"load": number, "batch": n, "reference": file, "train": bool}
                   →  {"error": …, "first": …, "megabytes": …, "step": …} or {"reason": …}
{"time": seconds}  →  {"median": …, "fastest": …}, seconds of a call
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import io
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from checking import fault_of_losses, losses_and_tolerances
from net_rows import NETS, Net, inputs, made
from peers import Call, CannotError, durations
from runtimes import DEFAULT, Mnn, OnnxRuntime, OpenVino
from worker import _end_with_parent, _memory, _own, _short, _trim

TOLERANCE = 1e-3  # of the largest difference, relative to the root mean square of the result of inference
STEPS = 3  # of training, whose losses are compared, and again as many in which memory is watched
Step = Callable[[], Any]


class TorchNet:
    """torch, each operation after the other.

    The network is of torch's own layers, here and for all that compile it: Svertka's would run on its kernels.
    """

    distribution = "torch"
    last = False
    can_train = True

    def __init__(self, threads: int, scratch: Path) -> None:
        import torch

        self.torch, self.threads, self.scratch = torch, threads, scratch
        torch.set_num_threads(threads)

    def made(self, net: Net, form: Any) -> Any:
        """The network, its weights in a memory format."""
        from train_rows import torchs_own

        return torchs_own(made(net)).to(memory_format=form)

    def compiled(self, model: Any, x: Any) -> Any:
        """The model, in whatever way it is quickest."""
        del x
        return model

    def ready(self) -> None:
        """Forgets earlier networks, and loads what is loaded once, so that neither counts as a network's memory."""

    def inference(self, net: Net, x: np.ndarray) -> Call:
        """One run of the network."""
        torch = self.torch
        torch.set_grad_enabled(False)
        form = torch.channels_last if self.last else torch.contiguous_format
        model, given = self.made(net, form), torch.tensor(x).to(memory_format=form)
        model = self.compiled(model, given)
        return Call(lambda: model(given), lambda y: y.numpy())

    def training(self, net: Net, x: np.ndarray) -> Call:
        """Steps."""
        form = self.torch.channels_last if self.last else self.torch.contiguous_format
        return self.steps(self.made(net, form), self.torch.tensor(x).to(memory_format=form))

    def steps(self, model: Any, given: Any) -> Call:
        """A step: forward, cross-entropy (of an image's places, too), backward, gradient descent."""
        torch = self.torch
        torch.set_grad_enabled(True)
        model.train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # so that all see the same losses
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        compiled = self.compiled(model, given)
        losses: list[float] = []

        def step() -> Any:
            optimizer.zero_grad()
            y = compiled(given)
            target = torch.zeros((y.shape[0], *y.shape[2:]), dtype=torch.int64)
            loss = torch.nn.functional.cross_entropy(y, target)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            return losses

        return Call(step, lambda found: np.array(found[:STEPS]))


class TorchLastNet(TorchNet):
    """The same in torch's format channels_last."""

    last = True


class InductorNet(TorchNet):
    """torch.compile, with frozen weights in inference."""

    def __init__(self, threads: int, scratch: Path) -> None:
        super().__init__(threads, scratch)
        if not any(map(shutil.which, ("g++", "clang++"))):
            raise CannotError("torch.compile needs a C++ compiler")

    def compiled(self, model: Any, x: Any) -> Any:
        del x
        import torch._inductor.config as config

        config.freezing = not self.torch.is_grad_enabled()
        self.torch._dynamo.reset()
        return self.torch.compile(model, dynamic=False)

    def ready(self) -> None:
        _compile_little(self)


class OursNet(TorchNet):
    """torch.compile with the backend svertka."""

    distribution = "svertka"

    def compiled(self, model: Any, x: Any) -> Any:
        del x
        from svertka.compiler import backend

        self.torch._dynamo.reset()  # which else runs a class as it is from its ninth model on
        return self.torch.compile(model, backend=backend)

    def ready(self) -> None:
        _compile_little(self)


class OursAheadNet(TorchNet):
    """svertka.compile."""

    distribution = "svertka"
    can_train = False

    def compiled(self, model: Any, x: Any) -> Any:
        from svertka.compiler import compile  # noqa: A004

        return compile(model, x)


def _compile_little(peer: TorchNet) -> None:
    """Has the compiler loaded, and holding nothing else than a step of a layer."""
    torch = peer.torch
    with torch.enable_grad():
        peer.compiled(torch.nn.Conv2d(1, 1, 1), None)(torch.zeros(1, 1, 2, 2)).sum().backward()


class ReferenceNet(TorchNet):
    """torch in float64; of training steps the losses, with tolerances from torch's own steps in float32."""

    def inference(self, net: Net, x: np.ndarray) -> Call:
        self.torch.set_grad_enabled(False)
        y = made(net).double()(self.torch.tensor(x).double())
        return Call(lambda: y, lambda y: y.numpy())

    def training(self, net: Net, x: np.ndarray) -> Call:
        torch = self.torch
        given, plain = torch.tensor(x), torch.contiguous_format
        exact = self.losses(self.made(net, plain).double(), given.double())
        rounded = [
            self.losses(nudged(self.made(net, form), nudge), given.to(memory_format=form))
            for form in (plain, torch.channels_last)
            for nudge in (False, True)
        ]
        found = losses_and_tolerances(exact, rounded)
        return Call(lambda: found, lambda y: y)

    def losses(self, model: Any, given: Any) -> Any:
        """Of the first steps."""
        call = self.steps(model, given)
        for _ in range(STEPS):
            result = call.run()
        return call.result(result)


def nudged(model: Any, nudge: bool) -> Any:
    """The model with each weight's last place up or down, as chance has it."""
    import torch

    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters() if nudge else ():
            up = torch.rand(weight.shape, generator=generator) < 0.5
            weight.mul_(1 + torch.finfo(torch.float32).eps * (2.0 * up - 1))
    return model


class OnnxNet:
    """A runtime that reads ONNX; of its ways the fastest right one counts."""

    can_train = False

    def __init__(self, runtime: Any) -> None:
        self.runtime, self.distribution = runtime, runtime.distribution

    def inference(self, net: Net, x: np.ndarray) -> Call:
        """One run of the network."""
        import torch

        import svertka

        file = io.BytesIO()
        with torch.no_grad(), svertka.using("portable"):
            torch.onnx.export(
                made(net), torch.tensor(x), file, input_names=["x"], output_names=["y"], opset_version=17, dynamo=False
            )
        best, said = None, []
        for setting in (DEFAULT, 1, 0) if isinstance(self.runtime, Mnn) else (DEFAULT,):
            for layout in self.runtime.layouts:
                try:
                    call = self.runtime.load(file.getvalue(), x, layout, setting)
                    self.check(call.result(call.run()))
                except Exception as problem:
                    said.append(_short(problem))
                    continue
                spent = statistics.median(durations(call.run, 0.1))
                if best is None or spent < best[0]:
                    best = spent, call
        if best is None:
            raise CannotError("; ".join(dict.fromkeys(said)))
        return best[1]

    def check(self, found: np.ndarray) -> None:
        """Raises if a result is wrong."""
        off = error(found, self.expected)
        if not off <= TOLERANCE:
            raise CannotError(f"its result is off by {off:.1g}")

    expected: np.ndarray


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """max |difference| / √mean expected²."""
    if found.shape != expected.shape:
        return float("inf")
    return float(np.abs(found - expected).max() / np.sqrt(np.square(expected).mean()))


PEERS: dict[str, Callable[[int, Path], Any]] = {
    "reference": ReferenceNet,
    "ours": OursNet,
    "ours-ahead": OursAheadNet,
    "torch": TorchNet,
    "torch-last": TorchLastNet,
    "inductor": InductorNet,
    "onnxruntime": lambda threads, scratch: OnnxNet(OnnxRuntime(threads, scratch)),
    "openvino": lambda threads, scratch: OnnxNet(OpenVino(threads, scratch)),
    "mnn": lambda threads, scratch: OnnxNet(Mnn(threads, scratch)),
}


class Worker:
    """Answers requests for one peer."""

    def __init__(self, peer: Any) -> None:
        self.peer, self.call = peer, None
        self.idle = _memory("VmRSS")

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request."""
        if "time" in request:
            assert self.call is not None
            durations(self.call.run, min(0.2, request["time"]))
            spent = durations(self.call.run, request["time"])
            return {"median": statistics.median(spent), "fastest": min(spent)}
        try:
            return self.load(NETS[request["load"]], request["batch"], Path(request["reference"]), request["train"])
        except Exception as problem:
            return {"reason": _short(problem)}

    def load(self, net: Net, batch: int, file: Path, train: bool) -> dict[str, Any]:
        """Prepares a network, and checks its result."""
        self.call = None
        if train and not self.peer.can_train:
            raise CannotError("it doesn't train")
        x = inputs(net, batch)
        if isinstance(self.peer, OnnxNet):
            self.peer.expected = np.load(file)
        else:
            self.peer.ready()
        gc.collect()
        _trim()
        own = _own("VmRSS")
        start = time.perf_counter()
        call = self.peer.training(net, x) if train else self.peer.inference(net, x)
        result = call.run()
        first = time.perf_counter() - start
        if isinstance(self.peer, ReferenceNet):
            np.save(file, call.result(result))
            return {}
        for _ in range((STEPS - 1) * train):
            result = call.run()
        found, expected = call.result(result), np.load(file)
        off = error(found, expected[0] if train else expected)
        fault = fault_of_losses(found, expected) if train else ""
        if fault or not (train or off <= TOLERANCE):
            return {"reason": fault or f"its result is off by {off:.1g}"}
        self.call = call
        durations(call.run, 0.1)
        told = {"error": off, "first": first, "megabytes": max(0, _memory("VmHWM") - self.idle) / 1024}
        if train:
            gc.collect()
            _trim()
            for _ in range(STEPS):
                call.run()
            told["step"] = max(0, _own("VmHWM") - own) / 1024
        return told


def main() -> None:
    """Serves the peer named on the command line: name, threads, folder."""
    _end_with_parent()
    name, threads, scratch = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not an answer
    try:
        worker = Worker(PEERS[name](threads, scratch))
        version = importlib.metadata.version(worker.peer.distribution)
    except (ImportError, CannotError) as problem:
        print(json.dumps({"reason": _short(problem)}), file=answers)
        return
    print(json.dumps({"version": version}), file=answers)
    for line in sys.stdin:
        with contextlib.redirect_stdout(sys.stderr):
            answer = worker.answer(json.loads(line))
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
