# Each target sets up what it needs first: a virtual environment in .venv, from pinned versions.

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Where it is set, every process would compile every module that it imports anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run up test check bench clean

run: $(VENV)/run.ready  ## crawl, clean, train, evaluate, register
	@$(BIN)/modelmill run $(ARGS)

up: $(VENV)/run.ready  ## Prefect, MLflow, a worker and the deployments, until Ctrl-C
	@$(BIN)/modelmill up $(ARGS)

test: $(VENV)/test.ready  ## every check and every test
	@$(MAKE) --no-print-directory check
	@$(BIN)/pytest -n logical --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/test.ready  ## lint, format, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: $(VENV)/test.ready  ## ratios against the named peers, where they are installed
	@$(BIN)/python tests/bench/run_all.py $(ARGS)

clean:  ## remove the virtual environment; .modelmill/ (the store, the models) stays
	rm -rf $(VENV)

$(VENV)/run.ready: pyproject.toml constraints.txt deploy/setup.sh
	@sh deploy/setup.sh $(VENV) .
	@touch $@

$(VENV)/test.ready: pyproject.toml constraints.txt deploy/setup.sh
	@sh deploy/setup.sh $(VENV) ".[test]"
	@touch $(VENV)/run.ready $@
