"""A generated run without models: artifacts on disk, report, contract and predictions."""

import json
import math
import random
from pathlib import Path
from typing import Any

from sample_report import GATE, MODELS, report

from engine.inference import spending
from engine.records.record import Identity
from engine.rows import CANDIDATE, DROPPED_PROMPT, EXAMPLE, HOLDOUT, PICKED, PREDICTION, PROMPT, REJECT, STEP, content_id, from_rows
from engine.storage.artifact import Artifact, ArtifactWriter, RowCounts
from engine.storage.folder import Folder

TASK = Path(__file__).parents[1] / "jobs" / "contracts" / "order_mail"
NASTY = "<script>alert(1)</script> </script> <img src=x onerror=alert(2)> {{ 7 * 7 }} & \"quoted\" 'single'"
CONTRACT = {
    "name": "order-mail",
    "specialist": {
        "goal": "Read a customer's mail and fill in the order form.",
        "niche": {"languages": ["en"], "answer_above": 0.5},
    },
    "evaluation": {"level": 0.95, "bootstrap": 1000},
    "budget": {
        "teacher_tokens": None,
        "price": {"currency": "EUR", "per_machine_hour": 0.1, "tokens": {"per_1m_in": 1.0, "per_1m_out": 4.0}},
    },
    "curation": {"pick": {"pools": ["train", "refusal"], "clusters": 12}},
    "gate": GATE,
}


def seeds(name: str) -> list[dict[str, Any]]:
    """Return the task's rows."""
    return [json.loads(line) for line in (TASK / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def run(folder: Path, *, nasty: str = NASTY) -> dict[str, Any]:
    """Return the arguments of `collect`, its artifacts written below `folder`; some model text is `nasty`."""
    chance = random.Random(7)
    prompts = [_prompt(row, number) for number, row in enumerate(seeds("train"), 1)]
    prompts[3]["text"] = f"Hello, {nasty}"
    picked = _picked(prompts, chance, nasty)
    predictions = _predictions(chance, nasty)
    artifacts = [_prompts(folder, prompts), _candidates(folder, picked), _dataset(folder, picked)]
    artifacts += [_student(folder, name, examples=sum(not row["dropped_by"] for row in picked)) for name in ("s", "xs")]
    return {
        "artifacts": {artifact.record.job: artifact for artifact in artifacts},
        "report": report(predictions, nasty),
        "contract": CONTRACT,
        "predictions": from_rows(predictions, PREDICTION),
    }


def _prompt(row: dict[str, Any], number: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": row["input"]}]
    about = {
        "task_unit": "order_fields",
        "language": "en",
        "licence": "CC0-1.0",
        "source": "order_mail/train.jsonl",
        "redacted": [],
    }
    kept = {name: row[name] for name in ("layer", "difficulty")}
    return {
        "prompt_id": content_id(row["input"]),
        "messages": messages,
        "text": row["input"],
        "line": number,
        "scenario": row["phrasing"],
        **about,
        **kept,
    }


def _picked(prompts: list[dict[str, Any]], chance: random.Random, nasty: str) -> list[dict[str, Any]]:
    rows, phrasings = [], sorted({prompt["scenario"] for prompt in prompts})
    for number, prompt in enumerate(prompts):
        cluster = phrasings.index(prompt["scenario"]) % 12
        turn = 2 * math.pi * cluster / 12
        x, y = math.cos(turn) * 4 + chance.gauss(0, 0.7), math.sin(turn) * 3 + chance.gauss(0, 0.6)
        for sample in range(2):
            row = _answer(prompt, sample, chance, nasty if number == 5 else "")
            rows.append({**row, "cluster": cluster, "x": x, "y": y, **_disposition(row, rows, chance)})
    return rows


def _answer(prompt: dict[str, Any], sample: int, chance: random.Random, nasty: str) -> dict[str, Any]:
    pool = chance.choices(["train", "hard", "contrast", "refusal", "review", "failure"], [70, 7, 8, 5, 7, 3])[0]
    form = {"order_number": f"PO{chance.randint(1000, 9999)}", "product": nasty or "red tape measures", "quantity": "30"}
    passed = pool not in ("contrast", "failure")
    checks = [{"check": "json_schema", "passed": pool != "failure", "tag": "" if pool != "failure" else "not_json", "detail": ""}]
    if pool != "failure":
        checks.append(
            {
                "check": "grounded",
                "passed": passed,
                "tag": "" if passed else "ungrounded",
                "detail": "" if passed else f"product {nasty}",
            }
        )
    reasons = {
        "train": ["accepted"],
        "hard": ["samples_disagree"],
        "contrast": ["ungrounded"],
        "refusal": ["accepted", "abstains"],
        "review": ["low_confidence"],
    }
    return {
        **prompt,
        "answer_id": content_id(prompt["prompt_id"], sample),
        "teacher": "smol",
        "sample": sample,
        "seed": chance.randint(0, 2**40),
        "answer": json.dumps(form) if pool != "failure" else '{"order_number": "PO46',
        "finish_reason": "length" if pool == "failure" else "stop",
        "tokens_in": 310 + chance.randint(0, 60),
        "tokens_out": chance.randint(22, 40),
        "logprob": -chance.random() * 4,
        "seconds": 0.2,
        "error": "",
        "checks": checks,
        "agreement": 0.5 if pool == "hard" else 1.0,
        "judge": "smol-judge",
        "score": 0.4 + 0.5 * chance.random(),
        "confidence": min(1.0, max(0.0, chance.gauss(0.78, 0.1)))
        if passed and pool != "review"
        else chance.random() * 0.3
        if passed
        else None,
        "pool": pool,
        "reasons": [*reasons.get(pool, ["not_json"]), *([nasty] if nasty else [])],
    }


def _disposition(row: dict[str, Any], earlier: list[dict[str, Any]], chance: random.Random) -> dict[str, Any]:
    kept = [other for other in earlier if not other["dropped_by"]]
    if row["pool"] not in ("train", "refusal"):
        return {"dropped_by": "pool", "duplicate_of": "", "similarity": None}
    if kept and kept[-1]["prompt_id"] == row["prompt_id"]:
        return {"dropped_by": "sample", "duplicate_of": kept[-1]["answer_id"], "similarity": None}
    near = [other for other in kept if other["scenario"] == row["scenario"]]
    if near and chance.random() < 0.25:
        why = chance.choices(["exact", "minhash", "semantic", "quota"], [1, 6, 4, 3])[0]
        return {
            "dropped_by": why,
            "duplicate_of": near[-1]["answer_id"] if why != "quota" else "",
            "similarity": 0.8 + 0.19 * chance.random(),
        }
    if chance.random() < 0.01:
        return {"dropped_by": "contaminated", "duplicate_of": content_id("holdout"), "similarity": 0.62}
    return {"dropped_by": "", "duplicate_of": "", "similarity": None}


def _predictions(chance: random.Random, nasty: str) -> list[dict[str, Any]]:
    rows = []
    for number, seed in enumerate(seeds("holdout")):
        for name, (role, _, _, seen, unseen, p95) in MODELS.items():
            exact = chance.random() < (seen if seed["seen"] else unseen)
            form = json.loads(seed["reference"])
            if not exact:
                form[chance.choice(list(form))] = chance.choice([None, "12", nasty if number % 100 == 2 else "blue hand mirrors"])
            sure = None if role == "baseline" else min(0.999, max(0.02, chance.gauss(0.9 if exact else 0.6, 0.12)))
            rows.append(
                {
                    "model": name,
                    "role": role,
                    "prompt_id": content_id(seed["input"]),
                    "layer": seed["layer"],
                    "difficulty": seed["difficulty"],
                    "scenario": seed["phrasing"],
                    "task_unit": "order_fields",
                    "text": seed["input"],
                    "reference": seed["reference"],
                    "answer": json.dumps(form) if number % 100 != 4 else f"Sure! {nasty}",
                    "finish_reason": "stop",
                    "confidence": sure,
                    "seconds": p95 / 1300,
                    "tokens_in": 90,
                    "tokens_out": 28,
                    "seen": seed["seen"],
                    "valid": number % 100 != 4,
                    "exact": exact and number % 100 != 4,
                }
            )
    return rows


def _prompts(folder: Path, prompts: list[dict[str, Any]]) -> Artifact:
    rejects = [{"source": "order_mail/train.jsonl", "line": 17, "reason": "unreadable", "detail": "not JSON", "raw": "{"}]
    out = {
        "prompts": len(prompts),
        "holdout": len(seeds("holdout")),
        "unreadable": 4,
        "too_long": 1,
        "exact_copy": 9,
        "near_copy": 21,
        "holdout_near": 5,
        "empty": 0,
    }
    holdout = [{**_prompt(row, n), "reference": row["reference"]} for n, row in enumerate(seeds("holdout"), 1)]
    copies = zip(prompts[30:33], ("exact_copy", "near_copy", "holdout_near"), (prompts[40], prompts[41], holdout[9]), strict=True)
    dropped = [{**row, "dropped_by": why, "duplicate_of": other["prompt_id"], "similarity": 0.9} for row, why, other in copies]
    tables = {
        "prompts": (prompts, PROMPT),
        "dropped": (dropped, DROPPED_PROMPT),
        "holdout": (holdout, HOLDOUT),
        "rejects": (rejects, REJECT),
    }
    return _artifact(
        folder,
        "prompts",
        tables,
        RowCounts(sum(out.values()), out),
        {"layers": {"core": 0.71, "failure_mode": 0.15, "long_tail": 0.14}},
    )


def _candidates(folder: Path, picked: list[dict[str, Any]]) -> Artifact:
    pools = ("train", "hard", "contrast", "refusal", "review", "failure")
    out = {pool: sum(row["pool"] == pool for row in picked) for pool in pools}
    accounts = spending.teacher_totals(
        [from_rows([{name: row[name] for name in CANDIDATE.names if name in row} for row in picked], CANDIDATE)]
    )
    teachers = {name: {**account._asdict(), "machine_seconds": account.seconds} for name, account in accounts.items()}
    facts = {
        "tokens_out": 24_000,
        "teachers": teachers,
        "relations": {"agree": 61, "complementary": 4, "conflicting": 9},
        "confidence_tiers": {"0": 120, "1": 64},
        "merged": 2,
        "judge": JUDGE,
    }
    return _artifact(folder, "candidates", {"candidates": (picked, CANDIDATE)}, RowCounts(len(picked), out), facts)


def _measured(value: float, n: int = 40) -> dict[str, Any]:
    return {"value": value, "low": value - 0.11, "high": value + 0.1, "n": n}


JUDGE = {
    "name": "smol-judge",
    "decides": False,
    "why": ["its bias `padded` is 0.31, the contract tolerates 0.1"],
    "bound_to": {"judge": "f" * 32, "gold": {"hash": "e" * 32, "items": 40}, "threshold": 0.3},
    "curve": {"method": "platt", "clip": 0.02, "slope": 1.31, "intercept": -0.42},
    "folds": 5,
    "agreement": {
        **{name: _measured(0.6 + n / 20) for n, name in enumerate(("kappa", "sensitivity", "specificity", "auc", "ece"))},
        "pairs": None,
        "errors": {"wrong_<product>": _measured(0.5, 6)},
        "threshold": 0.3,
        "base_rate": 0.5,
        "counts": [[15, 3], [5, 17]],
        "bins": [{"low": n / 10, "high": (n + 1) / 10, "n": 4, "confidence": n / 10 + 0.05, "accuracy": n / 10} for n in range(10)],
    },
    "audit": [
        {"probe": "padded", **_measured(0.31), "limit": 0.1, "verdict": "beyond", "why": ""},
        {
            "probe": "position", "value": None, "low": None, "high": None, "n": 0, "limit": 0.1, "verdict": "unmeasured",
            "why": "no pairs are compared",
        },
    ],
}  # fmt: skip
SELECTION = {
    "rows": {"before": 240, "after": 180},
    "coverage": {"mean": 0.912, "least": 0.671},
    "balance": {"layer": {"before": 0.84, "after": 0.93}, "task_unit": {"before": None, "after": None}},
    "density": {"before": 0.0712, "after": 0.0734},
}
DECONTAMINATION = {
    "checked": 400,
    "lists": {"holdout": 128, "exam.jsonl": 40},
    "removed": [{"list": "exam.jsonl", "part": "rationale", "method": "ngram", "answers": 3}],
    "closest": [
        {"answer_id": "abcdef0123456789", "list": "holdout", "id": "fedcba9876543210", "part": "prompt", "method": "embedding",
         "similarity": 0.9412}
    ],
}  # fmt: skip


DERIVED = {
    "kinds": {"answer": 180, "ask": 4, "contrast": 31, "correction": 9},
    "preferences": {"pairs": 77, "reasons": {"outranked": 7, "ungrounded": 70}, "margin": 0.613, "length_ratio": 1.04},
    "labels": {"right": 3, "wrong": 1, "corrected": 2},
}


def _dataset(folder: Path, picked: list[dict[str, Any]]) -> Artifact:
    out: dict[str, int] = {}
    examples = []
    for row in picked:
        split = ("validation" if len(examples) % 10 == 9 else "train") if not row["dropped_by"] else ""
        reason = row["dropped_by"] or "picked"
        out[reason] = out.get(reason, 0) + 1
        if split:
            examples.append(
                {
                    **row,
                    "example_id": row["answer_id"],
                    "split": split,
                    "target": row["answer"],
                    "final": row["answer"],
                    "weight": 1.0,
                }
            )
    examples = [{name: row.get(name) for name in EXAMPLE.names} for row in examples]
    return _artifact(
        folder,
        "dataset",
        {"picked": (picked, PICKED), "examples": (examples, EXAMPLE)},
        RowCounts(len(picked), out),
        {"picked": {"smol": len(examples)}, "selection": SELECTION, "decontamination": DECONTAMINATION} | DERIVED,
    )


def _student(folder: Path, name: str, *, examples: int) -> Artifact:
    chance, low = random.Random(name), 0.021 if name == "s" else 0.09
    steps = []
    for step in range(1, 76):
        loss = low + 2.4 * math.exp(-step / 9)
        for split in ["train", *(["validation"] if step % 10 == 0 else [])]:
            noise = 1 + chance.gauss(0, 0.12) * (split == "train")
            steps.append(
                {"student": name, "step": step, "split": split, "loss": loss * noise, "tokens": step * 470, "seconds": 2.1 * step}
            )
    held = examples // 10
    return _artifact(
        folder,
        f"students/{name}",
        {"steps": (steps, STEP)},
        RowCounts(examples, {"trained": examples - held, "validation": held, "too_long": 0}),
        {},
    )


def _artifact(folder: Path, job: str, tables: dict[str, Any], row_counts: RowCounts, facts: dict[str, Any]) -> Artifact:
    writer = ArtifactWriter(Folder(str(folder)) / job, metrics=facts)
    for name, (rows, schema) in tables.items():
        rows = [{column: row.get(column) for column in schema.names} for row in rows]
        writer.put(name, from_rows(rows, schema), schema)
    head = Identity(job, {}, {}, content_id(job))
    return writer.finish(head, row_counts)
