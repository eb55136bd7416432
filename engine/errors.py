"""Errors, grouped by who can correct them.

RayleighError
├── ContractError       author of the contract or profile: unknown key, value out of range, rule between sections broken
├── InputError          owner of the data: a source is missing, empty or unreadable as a whole; caller: a wrong argument
├── ModelError          owner of the model: folder missing, weights unreadable, engine does not start
├── StorageError        operator: run folder read-only or full, artifact damaged
│   └── StoreUnreachable    operator: the network, or the store behind a URL
├── MachineError        operator: a machine lacks a feature that the contract requires, such as Landlock
├── MissingArtifact     caller: an input has not been made yet
├── RecipeMismatch      caller: the artifact was finished under another recipe
├── ConservationError   developers of Rayleigh: a job lost or invented rows
├── NoUsableAnswer      author of the contract, owner of the model: every answer failed
└── GateRefused         caller of `promote`: no student meets the contract's gate

A bad row is data (a reject, a finish reason, a pool), never an exception. A message names the place, what was found, what was
expected and what to do next.
"""


class RayleighError(Exception):
    """The command line prints it without a traceback; any other exception is a bug and shows one."""

    exit_code = 1
    """With which the command line ends."""


class ContractError(RayleighError):
    """The contract or profile is not valid."""


class InputError(RayleighError):
    """A source cannot be read at all, or an argument is wrong."""


class ModelError(RayleighError):
    """A model cannot be loaded."""


class StorageError(RayleighError):
    """An artifact cannot be read or written, or does not match its record."""


class StoreUnreachable(StorageError):
    """The store behind a URL did not answer for as long as it is waited for."""


class MachineError(RayleighError):
    """A machine lacks a feature that the contract requires."""


class MissingArtifact(RayleighError):
    """A job needs an artifact that has not been made."""


class RecipeMismatch(RayleighError):
    """An artifact was finished under another recipe."""


class ConservationError(RayleighError):
    """A job lost or invented rows."""


class NoUsableAnswer(RayleighError):
    """Every answer of the teachers failed, so that there is nothing to learn from."""

    exit_code = 3


class GateRefused(RayleighError):
    """No student meets the contract's gate."""
