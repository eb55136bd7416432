"""`run.json`: what a run folder was started with, so that it can be opened without the contract's file."""

from engine.records.base import Json, Record

RUN_VERSION = 2


class RunRecord(Record):
    """The order of one run folder. Version 1 holds the contract's keys of that time."""

    version: int = 1
    """Version of this form."""
    contract: Json
    """The resolved contract, every default written out."""
    contract_path: str
    """The contract's file, absolute."""
    root: str
    """Folder from which the contract's relative paths start, absolute."""
    profile: Json
    """The resolved cluster profile."""
    created: str
    """When `rayleigh run` first opened the folder, ISO 8601, UTC."""
