from pathlib import Path

import pytest
from pydantic import ValidationError

from engine.contract.models import VllmModel
from engine.contract.profile import Pool, Profile
from engine.distributed import ray_options
from engine.errors import ModelError
from engine.inference.identity import fingerprint, identity
from engine.inference.locate import locate
from engine.inference.vllm_engine import VllmEngine, engine_arguments

MODEL = VllmModel(type="vllm", path="m")


def test_engine_on_a_cpu_has_a_fixed_cache_and_no_compilation():
    arguments = engine_arguments(MODEL, Pool(kv_cache_gib=0.5), Path("m"))
    assert arguments["kv_cache_memory_bytes"] == 2**29
    assert arguments["enforce_eager"] is True
    assert "tensor_parallel_size" not in arguments


def test_engine_on_a_cpu_computes_every_prompt_whole():
    long = MODEL.model_copy(update={"max_model_len": 10_000})
    for model in (MODEL, long):
        arguments = engine_arguments(model, Pool(), Path("m"))
        assert arguments["enable_chunked_prefill"] is False
        assert arguments["max_num_batched_tokens"] >= model.max_model_len


def test_engine_on_gpus_is_sharded_over_the_pools_gpus():
    arguments = engine_arguments(MODEL, Pool(gpus=4), Path("m"))
    assert arguments["tensor_parallel_size"] == 4
    assert "enforce_eager" not in arguments and "kv_cache_memory_bytes" not in arguments


def test_engine_in_stages_has_a_worker_for_each_gpu_of_its_placement_group():
    pool = Pool(cpus=2, gpus=4, pipeline=2)
    arguments = engine_arguments(MODEL, pool, Path("m"))
    assert (arguments["tensor_parallel_size"], arguments["pipeline_parallel_size"]) == (4, 2)
    assert arguments["distributed_executor_backend"] == "ray"
    assert ray_options.bundles(pool) == [{"CPU": 2, "GPU": 1}, *[{"GPU": 1}] * 7]
    given = ray_options.actors(pool)
    assert given["num_cpus"] == 2 and "num_gpus" not in given and "ray_remote_args_fn" in given


def test_single_actor_in_stages_is_placed_with_the_workers_of_its_engine(monkeypatch):
    monkeypatch.setattr(ray_options, "placement_group", lambda bundles, strategy: (bundles, strategy))
    options, group = ray_options.actor(Pool(cpus=2, gpus=1, pipeline=2))
    assert group == ([{"CPU": 2, "GPU": 1}, {"GPU": 1}], "PACK") and "num_gpus" not in options
    assert options["scheduling_strategy"].placement_group is group
    assert options["scheduling_strategy"].placement_group_capture_child_tasks
    assert ray_options.actor(Pool(gpus=2)) == (ray_options.resources(Pool(gpus=2)), None)


def test_actors_without_stages_hold_their_gpus_themselves():
    given = ray_options.actors(Pool(gpus=0.5))
    assert given["num_gpus"] == 0.5 and "ray_remote_args_fn" not in given


def test_only_actors_with_an_engine_have_an_environment_of_their_own():
    pool = Pool(cpus=2)
    given, without = ray_options.actors(pool), ray_options.actors(pool, engine=False)
    assert given["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] == "2" and "runtime_env" not in without
    assert without["num_cpus"] == 2


@pytest.mark.parametrize("pool", [{"pipeline": 2}, {"pipeline": 2, "gpus": 0.5}, {"pipeline": 2, "gpus": 1.5}])
def test_stages_without_whole_gpus_are_refused(pool):
    with pytest.raises(ValidationError, match="expected whole GPUs for each stage"):
        Pool.model_validate(pool)


def test_stages_of_a_pool_that_does_not_answer_are_refused():
    with pytest.raises(ValidationError, match=r"trainer\.pipeline: found 2, expected 1"):
        Profile.model_validate({"name": "p", "trainer": {"gpus": 1, "pipeline": 2}})


def test_engines_that_share_a_gpu_share_its_memory():
    arguments = engine_arguments(MODEL, Pool(gpus=0.5), Path("m"))
    assert arguments["gpu_memory_utilization"] == pytest.approx(0.45)


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(100))
    return folder


def test_identity_changes_with_the_weights_and_not_with_the_place(weights, tmp_path):
    before = identity(MODEL, weights)
    moved = weights.rename(tmp_path / "moved")
    assert identity(MODEL.model_copy(update={"path": "elsewhere"}), moved) == before
    fingerprint.cache_clear()
    (moved / "model.safetensors").write_bytes(b"1" + bytes(99))
    assert identity(MODEL, moved) != before


def test_identity_changes_with_the_dtype(weights):
    assert identity(MODEL, weights) != identity(MODEL.model_copy(update={"dtype": "float32"}), weights)


def test_locate_finds_a_folder_beside_the_contract(weights):
    assert locate("model", root=str(weights.parent), home="unused") == weights


def test_locate_names_the_folder_that_is_missing(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere.*there is no folder"):
        locate("nowhere", root=str(tmp_path), home="unused")


def test_locate_refuses_a_folder_without_a_model(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"no config\.json"):
        locate("empty", root=str(tmp_path), home="unused")


def test_batch_invariance_without_a_gpu_is_refused_before_weights_are_loaded():
    invariant = MODEL.model_copy(update={"batch_invariant": True})
    with pytest.raises(ModelError, match=r"batch_invariant: found true .* `dtype: float32`"):
        VllmEngine(invariant, Pool(), Path("no weights"))
    assert identity(invariant, None) != identity(MODEL, None)
