"""Other libraries on the same rows: MAPIE's certified thresholds, Evidently's drift per window. Each is used as documented.

    PYTHON serving_peers.py NAME IN OUT       IN, OUT: JSON files; without arguments the installed ones are printed

PYTHON is an interpreter with the libraries; it need not have Rayleigh, and nothing of Rayleigh is imported here.
"""

# pyright: reportMissingImports=false

import json
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def mapie(given: Any) -> list[dict[str, float | None]]:
    """https://github.com/scikit-learn-contrib/MAPIE: precision of at least 1 - alpha, fixed sequence with three starts.

    For each draw two thresholds: of the draw's own list, and of the list that is its default.
    """
    import numpy as np
    from mapie.risk_control import BinaryClassificationController, FWERFixedSequenceTesting

    def chance(rows: Any) -> Any:
        column = np.asarray(rows, dtype=np.float64).ravel()
        return np.column_stack([1 - column, column])

    warnings.simplefilter("ignore")
    found = []
    for draw in given["draws"]:
        rows, right = np.array(draw["confidence"]).reshape(-1, 1), np.array(draw["right"], dtype=int)
        best = {}
        for name, more in (("same", {"list_predict_params": np.array(draw["thresholds"])}), ("default", {})):
            controller = BinaryClassificationController(
                chance, risk="precision", target_level=1 - given["alpha"], confidence_level=1 - given["delta"],
                fwer_method=FWERFixedSequenceTesting(n_starts=3), **more,
            )  # fmt: skip
            controller.calibrate(rows, right)
            valid = controller.valid_predict_params
            best[name] = float(np.min(valid)) if len(valid) else None
        found.append(best)
    return found


def evidently(given: Any) -> list[int]:
    """https://github.com/evidentlyai/evidently: the preset for drift on each window; the first window with drift, -1 = none."""
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    warnings.simplefilter("ignore")
    reference, window = pd.DataFrame({"signal": given["baseline"]}), given["window"]
    found = []
    for stream in given["streams"]:
        found.append(-1)
        for number in range(len(stream) // window):
            current = pd.DataFrame({"signal": stream[number * window : (number + 1) * window]})
            result = Report([DataDriftPreset()]).run(current, reference).dict()
            if any(metric["metric_name"].startswith("DriftedColumns") and metric["value"]["count"] for metric in result["metrics"]):
                found[-1] = number
                break
    return found


PEERS = {"mapie": mapie, "evidently": evidently}


def main() -> None:
    """Print the names of the installed libraries, or run one."""
    if sys.argv[1:] == []:
        print(*(name for name in PEERS if find_spec(name)))
        return
    name, source, target = sys.argv[1:]
    Path(target).write_text(json.dumps(PEERS[name](json.loads(Path(source).read_text()))))


if __name__ == "__main__":
    main()
