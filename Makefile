# Every target sets up what it needs by itself: git, make and a Python 3.12 or newer are enough to start with.
# The set-up is done again only when pyproject.toml, uv.lock or the set-up itself has changed.

BIN := .venv/bin
READY := .venv/.ready
ARGS ?=
IMAGE ?= litecast
NAME ?= django

# Tests and demo start hundreds of processes: where no bytecode may be kept, each would compile all of it anew, which
# takes as long again as everything else until a node is up.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo example test campaign sim soak check format bench image clean setup

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo "Options of a command go into ARGS: make demo ARGS='--nodes 5', make test ARGS='-k config'"

demo: $(READY) ## watch naive replication lose counts, and convergent replication keep them
	@$(BIN)/litecast demo $(ARGS)

example: $(READY) ## three nodes of a program that knows nothing of Litecast: NAME=django, flask or node
	@exec $(BIN)/python examples/three_nodes.py $(NAME) $(ARGS)

test: $(READY) ## run the tests, several at a time (ARGS='--numprocesses 0' for one after the other)
	@$(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist loadgroup --no-loadscope-reorder $(ARGS)

campaign: $(READY) ## run the random tests of the engine 10,000 times each (LITECAST_CAMPAIGN=n for another number)
	@LITECAST_CAMPAIGN=$${LITECAST_CAMPAIGN:-10000} $(BIN)/pytest tests/property/replication/engine $(ARGS)

sim: $(READY) ## simulate clusters from seeds: SEEDS=n FROM=k (1000 from 0), SEED=k for one with its trace, MODE=primary, CURVE=1 for sizes
	@$(BIN)/python -m replication.simulation $(if $(CURVE),--curve,$(if $(MODE),--mode $(MODE)) $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000) --from $(or $(FROM),0)))

soak: $(READY) ## three real nodes for an hour under load and faults (ARGS='--minutes 5' for less)
	@$(BIN)/python -m tests.soak $(ARGS)

check: $(READY) ## format, lint, strict types and import directions, as CI sees them
	@scripts/check

format: $(READY) ## format the code and mend what the linter can mend
	@$(BIN)/ruff format --quiet
	@$(BIN)/ruff check --fix --quiet

bench: $(READY) ## measure bus, Repo and engine against bare pyzmq and bare sqlite3
	@$(BIN)/python -m benchmarks $(ARGS)

image: ## build the container image
	docker build --tag $(IMAGE) $(ARGS) .

setup: $(READY) ## only set up .venv
	@:

clean: ## remove what make, Python and the tools left behind (not data/)
	@rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml uv.lock scripts/setup
	@scripts/setup
	@touch $@
