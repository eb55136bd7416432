"""`rayleigh bench monitor`: the rows of its table, and that the oracles know more."""

import sys

from jobs.bench import monitor


def test_bench_compares_with_oracles_and_windows():
    result = monitor.bench(sys.executable, monitor.Plan(streams=50, rows=600, shifts=(0.2,)))
    by = {(each.way, each.shift, each.at): each for each in result.delays}
    assert by["betting, rate known", 0.0, 600].false <= 0.1 and by["KS per window, of numbers", 0.0, 600].false > 0
    betting, oracle = by["betting, rate known", 0.2, 150], by["SPRT", 0.2, 150]
    assert oracle.ratio == 1 and betting.ratio > 1.2 and betting.found > 0.9
    assert by["CUSUM", 0.2, 0].delay > by["SPRT", 0.2, 0].delay
    assert "times the SPRT's" in monitor.as_text(result)
