"""What a piece of a package is at this moment: a digest of its code as it is loaded.

Not of the files: they may have been edited since they were loaded, and functions may have been exchanged. Whoever
finds the digest unchanged may rely on it that the same code runs. Comments and empty lines count, too.
"""

from __future__ import annotations

import hashlib
import marshal
import re
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

_PLAIN = (int, float, complex, str, bytes, type(None), type(Ellipsis))
_NOT_CODE = ("__dict__", "__weakref__", "__doc__", "__dataclass_fields__")
_WITHOUT_REFERENCES = 2  # the version of marshal's format in which equal code makes equal bytes


def fingerprint(package: str, modules: Iterable[str]) -> str:
    """The digest of some modules of a package, and of all modules of the package that they have imported."""
    parts = [_digest(module, _Identities(_values(module))) for module in _reached(package, tuple(sorted(modules)))]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


class _Identities:
    """Objects compared by identity: that nothing was exchanged is found out in microseconds."""

    def __init__(self, values: Iterable[Any]) -> None:
        self.values = list(values)  # what is referred to keeps its id
        self.ids = tuple(map(id, self.values))

    def __hash__(self) -> int:
        return hash(self.ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identities) and self.ids == other.ids


def _values(module: ModuleType) -> Iterator[Any]:
    """A module's globals, the attributes of its classes, the code of its functions, the entries of its tables."""
    own = vars(module)
    for name, value in list(own.items()):
        yield value
        if name.startswith("__"):
            continue
        if isinstance(value, type) and value.__module__ == module.__name__:
            yield from vars(value).values()
        elif isinstance(value, dict):
            yield from value.values()
        elif isinstance(value, (list, tuple)):
            yield from value
        elif isinstance(value, FunctionType):
            yield value.__code__


@lru_cache(maxsize=64)
def _reached(package: str, modules: tuple[str, ...]) -> tuple[ModuleType, ...]:
    """The modules of the package that define, or are, something in the globals of these modules, and so on."""
    found: dict[str, ModuleType] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        module = sys.modules.get(name)
        if module is None or name in found or not name.startswith(f"{package}."):
            continue
        found[name] = module
        for value in vars(module).values():
            waiting.append(value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "") or "")
    return tuple(found[name] for name in sorted(found))


@lru_cache(maxsize=256)
def _digest(module: ModuleType, _: _Identities) -> str:
    walk = _Walk(module.__name__)
    for name, value in sorted(vars(module).items()):
        if not name.startswith("__"):
            walk.parts.append(name)
            walk.visit(value)
    return hashlib.sha256(repr(walk.parts).encode()).hexdigest()


class _Walk:
    """Spells values out: functions by their code, classes by their attributes, what other modules define by name."""

    def __init__(self, module: str) -> None:
        self.module, self.package = module, module.partition(".")[0] + "."
        self.parts: list[str | bytes] = [module]
        self.seen: set[int] = set()

    def visit(self, value: Any) -> None:
        self.parts.append(type(value).__qualname__)
        if isinstance(value, _PLAIN):
            self.parts.append(repr(value))
        elif isinstance(value, CodeType):
            self.parts.append(marshal.dumps(value, _WITHOUT_REFERENCES))
        elif isinstance(value, (list, tuple)):
            self._each(value)
        elif isinstance(value, (set, frozenset)):
            self.parts.append(repr(sorted(map(repr, value))))
        elif isinstance(value, dict):
            self._each(part for item in value.items() for part in item)
        elif isinstance(value, (staticmethod, classmethod)):
            self.visit(value.__func__)
        elif isinstance(value, property):
            self._each((value.fget, value.fset))
        elif isinstance(value, ModuleType):
            self.parts.append(value.__name__)
        elif hasattr(value, "__wrapped__"):
            self.visit(value.__wrapped__)
        else:
            self._object(value)

    def _each(self, values: Iterable[Any]) -> None:
        for value in values:
            self.visit(value)
        self.parts.append("end")

    def _object(self, value: Any) -> None:
        module = getattr(value, "__module__", None) or ""
        self.parts.append(f"{module}.{getattr(value, '__qualname__', type(value).__qualname__)}")
        if id(value) in self.seen:
            return
        self.seen.add(id(value))
        elsewhere = module != self.module and module.startswith(self.package)  # and digested there
        if isinstance(value, FunctionType):
            if not elsewhere:
                cells = [cell.cell_contents for cell in value.__closure__ or ()]
                self._each((value.__code__, value.__defaults__, value.__kwdefaults__, *cells))
        elif isinstance(value, type):
            if module == self.module:
                self._each(value.__bases__)
                self.visit({name: part for name, part in sorted(vars(value).items()) if name not in _NOT_CODE})
        elif module.startswith(self.package) and hasattr(value, "__dict__"):
            self.visit(vars(value))
        else:
            self.parts.append(re.sub(" at 0x[0-9a-f]+", "", repr(value)))
