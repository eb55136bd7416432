"""The lines of `rayleigh report` on return and stop, and the results of `rayleigh ablate` that are newer than the report."""

from engine.evaluation import advice
from engine.records.report import Report
from engine.records.worth import Payback, Worth
from engine.storage.folder import Folder
from jobs import workspace
from jobs.steps.worth import measured

NUMBERS = "reports/report.json"


def refreshed(folder: Folder, numbers: Report) -> Report:
    """Return the report with the buckets and the curve that were measured since it was written, and with what follows from them."""
    if numbers.worth is None:
        return numbers
    found = measured(folder, workspace.finished(folder, "reports").record.inputs.get("dataset", ""))
    if all(getattr(numbers.worth, name) == value for name, value in found.items()):
        return numbers
    worth = advice.concluded(numbers.worth.model_copy(update=found), numbers.models, run=str(folder))
    before = advice.findings(numbers.worth)
    kept = tuple(sentence for sentence in numbers.findings if sentence not in before)
    return numbers.model_copy(update={"worth": worth, "findings": (*kept, *advice.findings(worth))})


def as_text(folder: Folder, numbers: Report) -> str:
    """Return what the run cost and saves, and what to do next; "" for an older report."""
    worth = numbers.worth
    if worth is None:
        return ""
    cost = f"{worth.cost.total:.4g} {worth.cost.currency}".strip()
    lines = [f"cost     {cost} in all", *(_payback(each, worth) for each in worth.paybacks)]
    student = f" ({worth.advice.student})" if worth.advice.student else ""
    lines += [f"next     {worth.advice.title}{student}", *(f"           {sentence}" for sentence in worth.advice.why)]
    lines += [f"run      {command}" for command in worth.advice.run]
    if workspace.read_model(folder, NUMBERS, Report).worth != worth:
        lines.append(
            f"         the page is older than these numbers: delete {folder}/reports and run again; no model is asked again"
        )
    return "\n".join(lines)


def _payback(each: Payback, worth: Worth) -> str:
    saving, currency = each.saving_per_1000, worth.cost.currency
    after = "never" if each.break_even is None else f"after {each.break_even:,.0f}"
    ends = ["never" if end is None else f"{end:,.0f}" for end in (each.break_even_low, each.break_even_high)]
    amount = f"{saving.value:.4g} ({saving.low:.4g} to {saving.high:.4g}) {currency}".strip()
    months = f", {each.months:.1f} months" if each.months is not None else ""
    return f"return   {each.student} saves {amount} per 1,000 requests, pays back {after} ({ends[0]} to {ends[1]}) requests{months}"
