# AIGECO Edge. The two commands: `make demo` and `make test`; both install all they need.
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup demo test check man soak bench interop lock clean help

help:      ## what can be made
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: $(STAMP) ## .venv/ with the commands in .venv/bin
$(STAMP): requirements.txt requirements-dev.txt pyproject.toml scripts/setup.sh
	@scripts/setup.sh && touch $@

demo: setup ## the main job on embedded parts, about a minute
	@scripts/mosquitto.sh --prepare
	@$(BIN)/python -m hw_sim.demo

test: setup ## all tests but the long campaigns, under five minutes
	@scripts/debian.sh mosquitto mbpoll strace
	@scripts/mosquitto.sh --prepare
	@# Three at a time: on two cores one always waits for a process, a line or a second to pass.
	@$(BIN)/python -m pytest -m "not soak" --numprocesses 4 --dist loadfile

check: setup ## formatter, linter, type checker
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

man: setup ## docs/man/, from the text of --help
	@PYTHONPATH=. $(BIN)/python scripts/manpages.py

soak: setup ## the long campaigns
	@scripts/mosquitto.sh --prepare
	@$(BIN)/python -m pytest -m soak --timeout 7200

bench: setup ## every measurement of docs/performance.md
	@scripts/mosquitto.sh --prepare
	@$(BIN)/python -m bench

interop: setup ## COSE implementations, Modbus clients and servers, Fabric libraries that are not ours
	@for run in tests/interop/*/run.sh; do $$run || exit 1; done

LOCK := $(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --no-header \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links
lock: setup ## pin the newest versions that pyproject.toml allows
	@$(BIN)/pip install --quiet pip-tools
	@$(LOCK) -o requirements.txt pyproject.toml requirements.in
	@$(LOCK) -o requirements-fabric.txt requirements-fabric.in
	@$(LOCK) -o requirements-dev.txt requirements-dev.in

clean: ## remove what was made
	@rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-run
