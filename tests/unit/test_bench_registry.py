"""`rayleigh bench registry`: what counts as lost and as overwritten."""

import sys

from jobs.bench import registry


def test_promotions_of_several_processes_are_all_in_one_chain() -> None:
    result = registry.bench(sys.executable, registry.Order(processes=2, turns=3, kills=1))
    ours = result.outcomes[0]
    assert ours.linear and ours.overwritten == 0 and ours.failed == 0
    assert ours.in_history == ours.acknowledged >= 6
    assert "rayleigh" in registry.as_text(result)
