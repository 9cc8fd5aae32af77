"""What Svertka raises when something it was given cannot be used.

Every message is one sentence that names the culprit, what was expected and what to do. The command line prints it and
exits with status 2; a library user catches `SvertkaError`, or the built-in class that torch raises in the same place.
"""


class SvertkaError(Exception):
    """The base of all errors that Svertka raises on purpose."""


class GeometryError(SvertkaError, ValueError, RuntimeError):
    """Sizes, strides or paddings that make no window.

    torch raises ValueError from a layer's constructor and RuntimeError from its call; this is both.
    """


class DataError(SvertkaError, ValueError):
    """Pictures, labels, folders or model files that cannot be used."""
