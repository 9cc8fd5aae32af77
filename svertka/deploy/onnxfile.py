"""ONNX files, from anywhere: parsed and checked before memory is taken for what they claim; nothing in them is run."""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path
from typing import Any

import numpy as np

from svertka.errors import DataError, SvertkaError

_LARGEST = 2**31  # bytes of a file, and of all tensors together
_NODES = 20_000
TYPES: dict[int, Any] = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_}  # TensorProto.DataType


class OnnxFile:
    """The graph of a file, its tensors as arrays, and what its metadata say.

    Raises:
        DataError: one sentence on what is wrong with it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.model = _parsed(self.path)
        self.graph = self.model.graph
        domains = {entry.domain: entry.version for entry in self.model.opset_import}
        self.opset = domains.get("", domains.get("ai.onnx", 0))
        if not 7 <= self.opset <= 30:
            raise self.error(f"uses opset {self.opset} of ONNX's operators, where 7 to 30 are read")
        if len(self.graph.node) > _NODES:
            raise self.error(f"has {len(self.graph.node)} nodes, more than {_NODES}")
        if self.model.functions or self.graph.sparse_initializer:
            raise self.error("has functions or sparse tensors of its own, which are not read")
        self._taken = 0
        self.tensors = {tensor.name: self.array(tensor) for tensor in self.graph.initializer}

    def error(self, what: str) -> DataError:
        """A DataError that names the file."""
        return DataError(f"{self.path} {what}: give an ONNX file of a convolutional network")

    def array(self, tensor: Any) -> Any:
        """A tensor's numbers: float32, int32, int64 or bool."""
        kind = TYPES.get(tensor.data_type)
        if kind is None:
            raise self.error(
                f"holds the tensor {tensor.name!r} of the data type {tensor.data_type}, not float32, an integer or bool"
            )
        if any(n < 0 for n in tensor.dims) or len(tensor.dims) > 16:
            raise self.error(f"holds the tensor {tensor.name!r} of the shape {list(tensor.dims)}")
        count = math.prod(tensor.dims)
        self._taken += math.prod(max(n, 1) for n in tensor.dims) * np.dtype(kind).itemsize  # beside 0, too, NumPy minds
        if self._taken > _LARGEST:
            raise self.error("claims tensors of more than 2 GiB")
        if tensor.data_location == 1:  # EXTERNAL
            return self._external(tensor, kind, count)
        if tensor.raw_data:
            whole = len(tensor.raw_data) == count * np.dtype(kind).itemsize
            given = np.frombuffer(tensor.raw_data if whole else b"", np.dtype(kind).newbyteorder("<"))
        else:
            given = np.array(
                {1: tensor.float_data, 6: tensor.int32_data, 7: tensor.int64_data, 9: tensor.int32_data}[
                    tensor.data_type
                ],
                dtype=kind,
            )
        if given.size != count:
            raise self.error(f"holds the tensor {tensor.name!r} of {list(tensor.dims)} with another number of values")
        return given.astype(kind).reshape(tuple(tensor.dims))

    def _external(self, tensor: Any, kind: Any, count: int) -> Any:
        """Numbers in another file of the same folder; one elsewhere is not opened."""
        where = {entry.key: entry.value for entry in tensor.external_data}
        folder = self.path.resolve().parent
        location = where.get("location", "")
        file = (folder / location).resolve()
        if not location or not file.is_relative_to(folder):
            raise self.error(f"takes the tensor {tensor.name!r} from {location!r}, outside its own folder")
        try:
            offset, length = int(where.get("offset", 0)), int(where.get("length", count * np.dtype(kind).itemsize))
        except ValueError:
            raise self.error(f"says of the tensor {tensor.name!r} no place in {location!r}") from None
        if not file.is_file() or offset < 0 or length != count * np.dtype(kind).itemsize:
            raise self.error(f"takes the tensor {tensor.name!r} from {location!r}, which is missing or of another size")
        if file.stat().st_size < offset + length:
            raise self.error(f"takes the tensor {tensor.name!r} from {location!r}, which is shorter than that")
        with file.open("rb") as opened:
            opened.seek(offset)
            return (
                np.frombuffer(opened.read(length), np.dtype(kind).newbyteorder("<")).astype(kind).reshape(tensor.dims)
            )

    def metadata(self, key: str) -> Any:
        """The JSON under this key; None if there is none, or it is damaged."""
        for entry in self.model.metadata_props:
            if entry.key == key:
                try:
                    return json.loads(entry.value)
                except (ValueError, RecursionError):
                    return None
        return None


def _parsed(path: Path) -> Any:
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ImportError:
        raise SvertkaError("ONNX files are read with onnx and its kin: pip install 'svertka[onnx]'") from None
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is no regular file: give an ONNX file")
    if status.st_size > _LARGEST:
        raise DataError(f"{path} has more than 2 GiB: give an ONNX file with its tensors in files beside it")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except (DecodeError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is no whole ONNX file ({error}): copy it again") from error
    if not model.graph.node:
        raise DataError(f"{path} is no ONNX file, or has an empty graph: copy it again")
    return model
