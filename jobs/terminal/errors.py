"""Errors of workers, as the exceptions that this project defines."""

import re

from engine import errors
from engine.errors import RayleighError

RAISED = re.compile(r"^engine\.errors\.(\w+): (.+?)(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)  # the last part of a traceback


def unwrap_error(error: Exception) -> Exception:
    """Return the RayleighError that a worker raised, or `error` itself if it was another exception.

    Ray keeps the text of a worker's traceback, so the class and its message are parsed from that text. Notes are kept.
    """
    match = None if isinstance(error, RayleighError) else RAISED.search(str(error))
    kind = getattr(errors, match[1], None) if match else None
    if match is None or kind is None:
        return error
    unwrapped: Exception = kind(match[2].strip())
    for note in getattr(error, "__notes__", []):
        unwrapped.add_note(note)
    return unwrapped
