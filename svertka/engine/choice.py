"""A choice among names that holds for the process: said by a call, or else by an environment variable."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from svertka.errors import SvertkaError


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

    def get(self) -> str:
        """The name in force."""
        if not self._name:
            name = os.environ.get(self.variable, self.names[0])
            self._check(name, f"{self.variable}={name}")
            self._name = name
        return self._name

    def set(self, name: str) -> None:
        """Puts a name in force.

        Raises:
            SvertkaError: for another name.
        """
        self._check(name, repr(name))
        self._name = name

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """`set` for a `with` block."""
        before = self.get()
        self.set(name)
        try:
            yield
        finally:
            self.set(before)

    def _check(self, name: str, said: str) -> None:
        if name not in self.names:
            raise SvertkaError(f"{said} is no {self.kind}: choose one of {', '.join(self.names)}")
