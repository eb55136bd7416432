"""Labelled answers with known errors of six kinds, made from the worked examples of the order mails."""

import json
from pathlib import Path
from typing import Any

SHOTS = Path(__file__).parents[1] / "jobs" / "contracts" / "order_mail" / "shots.jsonl"
KINDS = ("wrong_number", "wrong_product", "missing_field", "invented_field", "swapped_fields", "wrong_format")


def planted(pairs: int) -> list[dict[str, Any]]:
    """Return `pairs` mails, each with its right answer and with one that is wrong in a known way, the six kinds in turn."""
    whole = [shot for shot in map(json.loads, SHOTS.read_text().splitlines()) if all(json.loads(shot["output"]).values())]
    found = []
    for number, shot in enumerate(whole[:pairs]):
        kind, form = KINDS[number % len(KINDS)], json.loads(shot["output"])
        alike = {"input": shot["input"], "reference": shot["output"]}
        found.append({**alike, "answer": shot["output"], "label": "right", "error": None})
        found.append({**alike, "answer": spoiled(form, kind), "label": "wrong", "error": kind})
    return found


def spoiled(form: dict[str, str], kind: str) -> str:
    """Return the form with one error of `kind`."""
    number, quantity = form["order_number"], form["quantity"]
    wrong = {
        "wrong_number": {**form, "order_number": number[:-1] + str((int(number[-1]) + 5) % 10)},
        "wrong_product": {**form, "product": "garden gnomes"},
        "missing_field": {**form, "quantity": None},
        "invented_field": {**form, "colour": "blue"},
        "swapped_fields": {**form, "order_number": quantity, "quantity": number},
    }
    if kind == "wrong_format":
        return f"The order is {number}: {quantity} {form['product']}."
    return json.dumps(wrong[kind], separators=(",", ":"))


def by_hand(items: list[dict[str, Any]], threshold: float) -> dict[str, float]:
    """Return sensitivity, specificity and Cohen's kappa, counted one by one."""
    right_passed = right_stopped = wrong_passed = wrong_stopped = 0
    for item in items:
        passed = item["confidence"] >= threshold
        if item["label"] == "right":
            right_passed, right_stopped = right_passed + passed, right_stopped + (not passed)
        else:
            wrong_passed, wrong_stopped = wrong_passed + passed, wrong_stopped + (not passed)
    total = len(items)
    agreed = (right_passed + wrong_stopped) / total
    passed, right = (right_passed + wrong_passed) / total, (right_passed + right_stopped) / total
    chance = passed * right + (1 - passed) * (1 - right)
    return {
        "sensitivity": right_passed / (right_passed + right_stopped),
        "specificity": wrong_stopped / (wrong_stopped + wrong_passed),
        "kappa": (agreed - chance) / (1 - chance) if chance < 1 else 0.0,
    }
