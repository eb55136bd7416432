"""The table that `rayleigh iterate` prints."""

from engine.records.rounds import RoundOutcome, RoundPlan, Rounds
from engine.rounds.stop import signed
from jobs.terminal.console import columns, interval

HEAD = ["round", "examples", "prompts added", "student", "exact match", "gain", "cost", "gate", "champion"]


def as_text(rounds: Rounds) -> str:
    """Return one line a round, where its prompts were added and why, and why there is no further round."""
    rows = [_row(each) for each in rounds.outcomes]
    lines = [line for plan in rounds.plans if plan.round for line in _where(plan)]
    ended = [f"ended    {rounds.ended}", f"registry {rounds.registry}"]
    return "\n".join([columns(rows, head=HEAD), "", *lines, *([""] if lines else []), *ended])


def _row(each: RoundOutcome) -> list[object]:
    added = ", ".join(f"{count} {kind}" for kind, count in sorted(each.added.items())) or "none"
    cost = f"{each.cost:.4g} {each.currency}".strip() + f" ({each.paid_tokens + each.judge_tokens} tokens)"
    exact = interval(each.exact_match) if each.exact_match else None
    gain = signed(each.gain) if each.gain else None
    return [each.round, each.examples, added, each.student, exact, gain, cost, each.word, each.promoted or "unchanged"]


def _where(plan: RoundPlan) -> list[str]:
    lines = []
    for part in plan.slices:
        name = "the whole holdout" if part.dimension == "all" else f"{part.dimension} {part.value}"
        excess = f", {signed(part.excess)} beyond the rest" if part.excess else ""
        reason = f"{part.mendable} of {part.n} prompts wrong and its teacher right{excess}"
        lines.append(f"round {plan.round}  {name}: {plan.student} has {reason}: {part.sampled} rows, {part.written} to be written")
    if plan.traffic:
        found = plan.traffic
        lines.append(
            f"round {plan.round}  traffic: {found.chosen} of {found.new} new texts of {found.unsure} unsure requests, "
            f"{found.with_text} with text"
        )
    if plan.unfilled:
        lines.append(f"round {plan.round}  {plan.unfilled} more were wanted: there is no unused row of them and no method")
    return lines
