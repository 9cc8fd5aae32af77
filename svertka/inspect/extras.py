"""Heavy libraries, imported when they are used; one sentence tells what to install."""

from importlib import import_module
from typing import Any

from svertka.errors import SvertkaError


class MissingExtra(SvertkaError, ImportError):  # noqa: N818 - it is not the user's error
    """A library is not installed that a figure or an attribution needs."""


def need(module: str, what: str) -> Any:
    """The module; MissingExtra if it is not installed.

    Args:
        module: to be imported, such as "matplotlib.figure".
        what: needs it, for the sentence.
    """
    library = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != library:
            raise
        raise MissingExtra(f"{what} needs {library}, which is not installed: pip install 'svertka[inspect]'") from None
