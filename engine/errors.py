"""What can go wrong, sorted by who must act.

RayleighError
├── ContractError       the author of the contract or profile: unknown key, value out of range, broken cross rule
├── InputError          the owner of the data: a source that is missing, empty or unreadable as a whole
├── ModelError          the owner of the model: folder missing, weights unreadable, engine does not start
├── StorageError        the operator: run folder read-only, full, or an artifact that is damaged
├── MachineError        the operator: a machine lacks what the contract asks of it, such as a wall of the sandbox
├── MissingArtifact     whoever started the job: an input that no finished job has made yet
├── RecipeMismatch          whoever started the job: finished under another recipe
├── ConservationError   us: rows in are not rows out
└── GateRefused         whoever promotes: a number of the contract that no student meets

A bad row is data (a reject, an ending, a pool), never an exception. Every message says what, where, found, expected, next.
"""


class RayleighError(Exception):
    """Printed without a traceback by the command line; anything else is a bug and shows one."""


class ContractError(RayleighError):
    """The contract or profile cannot be used as written."""


class InputError(RayleighError):
    """A source cannot be read as a whole."""


class ModelError(RayleighError):
    """A model cannot be loaded."""


class StorageError(RayleighError):
    """An artifact cannot be written or does not match its record."""


class MachineError(RayleighError):
    """A machine lacks what the contract asks of it."""


class MissingArtifact(RayleighError):
    """A job needs an artifact that is not there."""


class RecipeMismatch(RayleighError):
    """An artifact was finished under another recipe."""


class ConservationError(RayleighError):
    """A job lost or invented rows."""


class GateRefused(RayleighError):
    """No student meets the contract's gate."""
