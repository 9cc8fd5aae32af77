"""One line makes a network fast: `torch.compile(model, backend="svertka")`, or `svertka.compile(model)` without Dynamo.

The graph of torch's operations becomes blocks, the blocks are recorded once for each shape of the inputs, and the
record, a plan, runs as one native call.
"""

from svertka.compiler.backend import backend
from svertka.compiler.model import CompiledModel, compile  # noqa: A004

__all__ = ["CompiledModel", "backend", "compile"]
