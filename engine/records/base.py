"""What every record on disk and every `--json` output is: frozen, typed, documented field by field."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """One record. A key that this version does not know is ignored: a newer version may write more."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True, protected_namespaces=())
