"""Examples that `rayleigh COMMAND --help` shows at its end."""

import typer

EXAMPLES = {
    "check": ("rayleigh check jobs/contracts/smoke.yaml", "rayleigh check tickets.yaml --set students.0.epochs=1"),
    "run": (
        "rayleigh run jobs/contracts/smoke.yaml runs/smoke",
        "rayleigh run tickets.yaml runs/tickets --until candidates",
        "rayleigh run tickets.yaml s3://bucket/tickets --profile gpu-node",
    ),
    "plan": ("rayleigh plan tickets.yaml runs/tickets --pilot 20",),
    "judge": ("rayleigh judge tickets.yaml --gold labelled.jsonl",),
    "status": ("rayleigh status runs/smoke", "rayleigh status runs/smoke --json"),
    "report": ("rayleigh report runs/smoke",),
    "sql": ('rayleigh sql runs/smoke "select pool, count(*) from candidates group by 1"',),
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
    "view": ("rayleigh view runs",),
    "doctor": ("rayleigh doctor --profile laptop",),
}
"""Command -> lines."""


def add_examples(app: typer.Typer) -> None:
    """Give each registered command that has examples, also those of unnamed groups, its lines as the end of its help."""
    groups = [app, *(group.typer_instance for group in app.registered_groups if not isinstance(group.name, str))]
    for command in (command for group in groups if group for command in group.registered_commands):
        name = command.name or getattr(command.callback, "__name__", "")
        if lines := EXAMPLES.get(name):
            command.epilog = "\n\n".join(["Examples:", *lines])
