"""Packages that only some features need, named by the extra that installs them."""

from __future__ import annotations

import importlib
from typing import Any

from darkbn.errors import DarkbnError


class MissingExtraError(DarkbnError, ImportError):
    """A package of an extra is not installed; the message says how to install it."""


def require(module: str, *, extra: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: its name, as in `import`.
        extra: of darkbn, that installs it.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        raise MissingExtraError(
            f"this needs the package {top} ({error}): install it with  pip install 'darkbn[{extra}]'"
        ) from error
