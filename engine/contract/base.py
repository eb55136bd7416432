"""The base class of all sections of the contract, and types that several of them use."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

JsonSchema = dict[str, Any]
"""A JSON Schema (draft 2020-12)."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A fraction or probability, 0 to 1."""

Positive = Annotated[int, Field(gt=0)]
"""A count of at least 1."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
"""Lower case letters, digits, - and _: safe as a folder name on every store."""


Raw = dict[str, Any]
"""A mapping as YAML or JSON gives it, before it is validated."""


class Section(BaseModel):
    """A part of the contract: an unknown key is an error, and values never change. The docstring under a field documents it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())
