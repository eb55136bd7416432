"""What every section is: frozen, closed, documented field by field."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

JsonSchema = dict[str, Any]
"""A JSON Schema (draft 2020-12)."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A fraction or probability, 0 to 1."""

Positive = Annotated[int, Field(gt=0)]
"""A count that cannot be nothing."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
"""Lower case letters, digits, - and _: safe as a folder name on every store."""


class Section(BaseModel):
    """A part of the contract: an unknown key is an error, a value never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())
