"""Values for the page's script, as JSON inside the page."""

import json
import math
from typing import Any

from markupsafe import Markup

ESCAPES = (("&", "\\u0026"), ("<", "\\u003c"), (">", "\\u003e"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029"))


def as_data(value: Any) -> Markup:
    """Return `value` as JSON that cannot end the script element it stands in; what is no finite number is null."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)
    for sign, code in ESCAPES:
        text = text.replace(sign, code)
    return Markup(text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
