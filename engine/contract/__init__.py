"""YAML -> frozen pydantic. Imports pydantic and yaml and nothing heavier."""

from engine.contract.contract import Contract
from engine.contract.load import Loaded, load_contract
from engine.contract.profile import Profile, load_profile

__all__ = ["Contract", "Loaded", "Profile", "load_contract", "load_profile"]
