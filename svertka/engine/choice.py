"""A choice among names: for the process, by a call or else an environment variable, or for a while in one thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from svertka.errors import SvertkaError


class _Here(threading.local):
    """What `held` says in this thread."""

    name = ""


class Choice:
    """One of several names.

    Args:
        kind: what is chosen, for error messages.
        variable: of the environment; looked at when the choice is first asked for.
        names: those that can be chosen; the first is the default.
    """

    def __init__(self, kind: str, variable: str, names: Sequence[str]) -> None:
        self.kind, self.variable, self.names = kind, variable, tuple(names)
        self._name = ""
        self._here = _Here()

    def get(self) -> str:
        """The name in force in this thread."""
        name: str = self._here.name or self._name
        if not name:
            name = os.environ.get(self.variable, self.names[0])
            self._check(name, f"{self.variable}={name}")
            self._name = name
        return name

    def set(self, name: str) -> None:
        """Puts a name in force, in all threads.

        Raises:
            SvertkaError: for another name.
        """
        self._check(name, repr(name))
        self._name = name

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """`set` for a `with` block, in this thread alone: others may be in the middle of their calls."""
        self._check(name, repr(name))
        before = self._here.name
        self._here.name = name
        try:
            yield
        finally:
            self._here.name = before

    def _check(self, name: str, said: str) -> None:
        if name not in self.names:
            raise SvertkaError(f"{said} is no {self.kind}: choose one of {', '.join(self.names)}")
