"""Which methods are asked to write the prompts for which there is no unused row."""

from collections.abc import Mapping, Sequence

from engine.contract.contract import Contract
from engine.contract.synthesize import CounterExample, Synthesis, supports_counter_examples
from engine.records.rounds import WeakSlice, WrittenShare
from engine.rounds.quotas import divide
from engine.rows import LAYERS

FAILURE_MODE = LAYERS[1]


def methods(contract: Contract) -> tuple[Synthesis, ...]:
    """Return the methods of `contract`; without any, counter-examples by rule, if the section `iterate` allows them and a task unit
    supports them."""
    if contract.prompts.synthesize:
        return contract.prompts.synthesize
    possible = any(supports_counter_examples(unit) for unit in contract.specialist.task_units)
    if not possible or not contract.iterate.counter_examples:
        return ()
    return (Synthesis(method=CounterExample(type="counter_example"), wanted=1),)


def shares(
    slices: Sequence[WeakSlice], layers: Sequence[Mapping[str, float]], templates: Sequence[Synthesis], *, number: int
) -> tuple[list[WeakSlice], list[WrittenShare], int]:
    """Return the slices with how many prompts are to be written for each, what each method is asked for, and how many prompts no
    method can write.

    Args:
        layers: of each slice, the weights of the layers in which it is written.
        number: of the round, which is part of the methods' names: a later round asks anew.
    """
    wanted: dict[str, int] = {}
    unfilled, result = 0, []
    for part, weights in zip(slices, layers, strict=True):
        able = {layer: weight for layer, weight in weights.items() if _able(templates, layer)}
        by_layer = divide(part.wanted - part.sampled, able)
        unfilled += part.wanted - part.sampled - sum(by_layer.values())
        result.append(part.model_copy(update={"written": sum(by_layer.values())}))
        for layer, count in by_layer.items():
            wanted[layer] = wanted.get(layer, 0) + count
    asked = [
        WrittenShare(name=title(method, number), layer=layer, wanted=share)
        for layer, count in sorted(wanted.items())
        for method, share in _shared(_able(templates, layer), count)
        if share
    ]
    return result, asked, unfilled


def title(method: Synthesis, number: int) -> str:
    """Return the name of a method in the contract of round `number`."""
    return f"{method.title[:34]}-r{number}"


def ordered(templates: Sequence[Synthesis], asked: Sequence[WrittenShare], *, number: int) -> tuple[Synthesis, ...]:
    """Return the syntheses of round `number`."""
    result = []
    for method in templates:
        name = title(method, number)
        wanted = {each.layer: each.wanted for each in asked if each.name == name}
        if wanted:
            result.append(method.model_copy(update={"name": name, "wanted": wanted}))
    return tuple(result)


def _able(templates: Sequence[Synthesis], layer: str) -> list[Synthesis]:
    return [each for each in templates if layer == FAILURE_MODE or each.method.type != "counter_example"]


def _shared(able: Sequence[Synthesis], count: int) -> list[tuple[Synthesis, int]]:
    each = divide(count, dict.fromkeys(range(len(able)), 1.0))
    return [(method, each[place]) for place, method in enumerate(able)]
