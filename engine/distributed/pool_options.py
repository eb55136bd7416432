"""What a task or an actor of a pool takes of its node, and which nodes it may be placed on, as Ray's options."""

from typing import Any

from engine.contract.profile import Pool


def pool_options(pool: Pool) -> dict[str, Any]:
    """Return the options of Ray for one task or actor of `pool`."""
    given = {
        "num_gpus": pool.gpus,
        "resources": dict(pool.resources),
        "accelerator_type": pool.accelerator,
        "label_selector": dict(pool.labels),
    }
    return {"num_cpus": pool.cpus, **{name: value for name, value in given.items() if value}}
