"""Serializes values as JSON that can be embedded in the page."""

import json
import math

from markupsafe import Markup

ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "&<>\u2028\u2029"}


def as_data(value: object) -> Markup:
    """Return `value` as JSON that cannot end its script element. A NaN or infinite number becomes null."""
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)
    return Markup(text.translate(ESCAPES))


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
