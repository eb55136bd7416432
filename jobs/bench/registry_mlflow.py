"""MLflow's aliases on sqlite, as https://mlflow.org/docs/latest/ml/model-registry/ shows them.

    PYTHON registry_mlflow.py                            prints the version of MLflow, or nothing
    PYTHON registry_mlflow.py FOLDER SEED TURNS          promotes new versions; a JSON line for each one that MLflow acknowledged
    PYTHON registry_mlflow.py FOLDER                     makes the registry if there is none; prints its champion and versions

PYTHON is an interpreter with MLflow; it need not have Rayleigh, and nothing of Rayleigh is imported here.
"""

# pyright: reportMissingImports=false

import json
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

MODEL, ALIAS = "orders", "champion"


def main(words: list[str]) -> None:
    """Do what the module says."""
    if not words:
        with suppress(PackageNotFoundError):
            print(version("mlflow"))
        return
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri=f"sqlite:///{words[0]}/mlflow.db", registry_uri=f"sqlite:///{words[0]}/mlflow.db")

    with suppress(MlflowException):  # it is there
        client.create_registered_model(MODEL)

    def champion() -> str | None:
        try:
            return client.get_model_version_by_alias(MODEL, ALIAS).version
        except MlflowException:
            return None

    if len(words) == 1:
        count = len(client.search_model_versions(f"name='{MODEL}'", max_results=10_000))
        print(json.dumps({"champion": champion(), "versions": count}))
        return
    for _ in range(int(words[2])):
        before = champion()
        made = client.create_model_version(MODEL, source=f"file://{words[0]}", run_id=None)
        client.set_registered_model_alias(MODEL, ALIAS, made.version)
        print(json.dumps({"event": made.version, "before": before}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
