# Hearth's commands. `make` alone lists them.

.DEFAULT_GOAL := help
.PHONY: help run up down test test-compose bench bench-large chaos check manifests breaking format proto docs uv sync sync-dev clean

# Your own uv where there is one that runs, else one in .uv/, installed by its hash.
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .uv/bin/uv)
PYTHON := $(shell command -v python3.12 || command -v python3)
RUN := .venv/bin/python

help: ## What there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

run: sync ## Start Hearth on embedded parts, until Ctrl-C
	@exec $(RUN) -m hearth_local

up: ## Start Hearth in containers and wait until it is healthy: docs/operations.md
	@deploy/make-secrets
	docker compose up --build --wait

down: ## End the containers; their data stays
	docker compose down

test: sync-dev ## Run the tests: unit, integration, end to end, and short chaos
	@$(RUN) -m pytest -n 3 --dist loadfile tests/integration tests/unit
	@$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/e2e
	@$(RUN) -m pytest -n 2 tests/chaos

test-compose: sync-dev ## Test the containers: needs Docker
	@docker info >/dev/null 2>&1 || ../shared/tools/docker-engine up
	@$(RUN) -m pytest -s tests/compose

bench: sync-dev ## Measure Hearth beside what people would build instead (15 minutes at most)
	@$(UV) sync --frozen --quiet --project benchmarks/baselines/celery
	@$(UV) sync --frozen --quiet --project benchmarks/baselines/aegra
	@$(RUN) benchmarks/speed.py

bench-large: sync-dev ## Measure the largest sizes: ten million events, a million vectors (an hour or more)
	@$(RUN) benchmarks/large.py

chaos: sync-dev ## Break everything while it works, and write docs/reliability.md (15 minutes at most)
	@HEARTH_CHAOS=full $(RUN) -m pytest -s tests/chaos

check: sync-dev ## What a reviewer would say: style, types, protos, layers
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@.venv/bin/buf lint proto
	@$(RUN) proto/check_generated.py
	@.venv/bin/lint-imports

manifests: sync-dev ## Check the manifests of deploy/kubernetes
	@$(RUN) -m pytest -q tests/unit/deploy

breaking: sync-dev ## Check that the protos are compatible with the last release
	@tag=$$(git describe --tags --abbrev=0 --match 'v*' 2>/dev/null); \
	if [ -z "$$tag" ]; then echo "There is no release yet that the protos could be compared with."; exit 0; fi; \
	echo "Comparing the protos with $$tag"; \
	.venv/bin/buf breaking proto --against ".git#tag=$$tag,subdir=proto"

format: sync-dev ## Let ruff put the style right
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

proto: sync-dev ## Generate the Python of the .proto files again
	@.venv/bin/buf format -w proto
	@$(RUN) proto/generate.py

docs: sync-dev ## Write docs/configuration.md and .env.example again
	@$(RUN) docs/generate_configuration.py

sync: uv
	@test -d .venv || echo "Installing Hearth's packages: about 250 MB, the first time only."
	@$(UV) sync --frozen --inexact --no-dev --all-packages $(if $(wildcard .venv),--quiet)

sync-dev: uv
	@$(UV) sync --frozen --all-packages --quiet

uv:
	@$(UV) --version >/dev/null 2>&1 || $(MAKE) --no-print-directory .uv/bin/uv
	@$(UV) python find --quiet 3.12 >/dev/null 2>&1 || { \
		echo "Hearth needs Python 3.12 and found none: install it (for instance: $(UV) python install 3.12) and try again." >&2; \
		exit 1; }

.uv/bin/uv:
	@echo "Installing uv into .uv/"
	@test -n "$(PYTHON)" || { echo "Hearth needs Python 3.12: install it and try again." >&2; exit 1; }
	@$(PYTHON) -m venv .uv || { echo "Python cannot make a virtual environment: install its venv module (Debian: python3-venv) and try again." >&2; exit 1; }
	@.uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r deploy/uv-requirements.txt

clean: ## Remove the environments and caches, not your data
	rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
