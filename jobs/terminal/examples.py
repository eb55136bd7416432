"""Examples that `rayleigh COMMAND --help` shows at its end."""

import typer

EXAMPLES = {
    "check": ("rayleigh check jobs/contracts/smoke.yaml", "rayleigh check tickets.yaml --set students.0.epochs=1"),
    "run": (
        "rayleigh run jobs/contracts/smoke.yaml runs/smoke",
        "rayleigh run tickets.yaml runs/tickets --until candidates",
        "rayleigh run tickets.yaml s3://bucket/tickets --profile gpu-node",
    ),
    "plan": (
        "rayleigh plan tickets.yaml runs/tickets --pilot 20",
        "rayleigh plan tickets.yaml runs/tickets --rows 1e9 --profile cluster",
    ),
    "judge": ("rayleigh judge tickets.yaml --gold labelled.jsonl",),
    "status": ("rayleigh status runs/smoke", "rayleigh status runs/smoke --json"),
    "report": ("rayleigh report runs/smoke",),
    "sql": (
        'rayleigh sql runs/smoke "select pool, count(*) from candidates group by 1"',
        'rayleigh sql runs/smoke "describe candidates"',
        "rayleigh sql runs/before runs/after --question accept_rate --markdown",
        "rayleigh sql runs/smoke --database smoke.duckdb",
    ),
    "trace": ("rayleigh trace runs/smoke s", "rayleigh trace runs/smoke 09a859869a52"),
    "rejudge": ("rayleigh rejudge runs/smoke --set judges.accept.confidence=0.5",),
    "promote": ("rayleigh promote runs/smoke", 'rayleigh promote runs/smoke --student s --undecided --why "for the pilot"'),
    "rollback": ("rayleigh rollback runs/smoke",),
    "serve": ("rayleigh serve runs/registry/order-mail-smoke --local --port 8000",),
    "dedup": ("rayleigh dedup texts.jsonl clean --threshold 0.8",),
    "ablate": ("rayleigh ablate runs/smoke --buckets",),
    "cascade": ("rayleigh cascade runs/smoke --alpha 0.15",),
    "search": ("rayleigh search jobs/contracts/smoke.yaml runs/smoke --space space.yaml",),
    "withdraw": ('rayleigh withdraw runs/registry --source mails.jsonl --why "the customer asked" --dry-run',),
    "init": ("rayleigh init orders --kind extraction", "rayleigh init orders --kind classification --name intents --accuracy 0.9"),
    "explain": ("rayleigh explain students.epochs", "rayleigh explain judges.checks.numeric.max"),
    "view": ("rayleigh view runs", "rayleigh view s3://bucket/runs --port 8001"),
    "compare": ("rayleigh compare runs/before runs/after", "rayleigh compare runs/before runs/after --page compare.html"),
    "export": (
        "rayleigh export runs/smoke messages out/messages",
        "rayleigh export runs/smoke hf out/hf --licence CC0-1.0 --where \"difficulty = 'hard'\"",
    ),
    "review export": ("rayleigh review export runs/smoke review.csv", "rayleigh review export runs/smoke review.csv --draw 50"),
    "review import": ("rayleigh review import runs/smoke review.csv",),
    "check-data": ("rayleigh check-data runs/smoke", "rayleigh check-data runs/smoke --quick"),
    "schema diff": ("rayleigh schema diff runs/before runs/after",),
    "iterate": ("rayleigh iterate tickets.yaml runs/tickets --rounds 3",),
    "watch": ("rayleigh watch records", "rayleigh watch records --run runs/smoke --once"),
    "submit": ("rayleigh submit tickets.yaml s3://bucket/tickets --address http://head:8265 --profile cluster",),
    "manifests": ("rayleigh manifests tickets.yaml --out manifests --storage s3://bucket",),
    "check-manifests": ("rayleigh check-manifests manifests --strict",),
    "bench flow": ("rayleigh bench flow --rows 10000 --rows 100000",),
    "bench scale": ("rayleigh bench scale --rows 10000 --rows 100000", "rayleigh bench scale --raylets 3 --out scale.json"),
    "bench view": ("rayleigh bench view --rows 1000000 --work runs/bench-view",),
    "doctor": ("rayleigh doctor --profile laptop",),
}
"""Command -> lines."""


def add_examples(app: typer.Typer, group: str = "") -> None:
    """Give each registered command that has examples its lines as the end of its help; `group`: the words before its name."""
    for inner in app.registered_groups:
        if inner.typer_instance:
            add_examples(inner.typer_instance, f"{group}{inner.name} " if isinstance(inner.name, str) else group)
    for command in app.registered_commands:
        name = command.name or getattr(command.callback, "__name__", "").replace("_", "-")
        if lines := EXAMPLES.get(f"{group}{name}"):
            command.epilog = "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])  # \b: no line is wrapped
