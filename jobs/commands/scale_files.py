"""Files of the cost model: the coefficients that are shipped, or those that `rayleigh bench scale --out` wrote."""

from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from engine.errors import InputError
from engine.records.base import Record
from engine.records.scale import ScaleModel
from jobs.places import PROFILES

SHIPPED = PROFILES.parent / "scale.json"
R = TypeVar("R", bound=Record)


class NamedModel(NamedTuple):
    """Coefficients, and the name of their file."""

    name: str
    model: ScaleModel


def load_model(path: str | None) -> NamedModel:
    """Return the coefficients in the file `path`, by default those that are shipped.

    Raises:
        InputError: the file cannot be read, or holds no coefficients.
    """
    model = read_record(path or str(SHIPPED), ScaleModel, "coefficients")
    return NamedModel(path or "cluster/scale.json", model)


def read_record(path: str, kind: type[R], what: str) -> R:
    """Return the record of class `kind` in the JSON file `path`; messages call it `what`.

    Raises:
        InputError: the file cannot be read, or holds no such record.
    """
    try:
        return kind.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise InputError(
            f"{what}: {path} cannot be read: {error.strerror}. Give a file that `rayleigh bench scale` wrote."
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{what}: {path} is no {kind.__name__}: {where or 'the file'}: {first['msg']}. Coefficients are what `rayleigh bench "
            "scale --out FILE` writes, and --with takes what `--json` printed."
        ) from None
