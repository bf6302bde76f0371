# Everything there is to do here. Nothing has to be installed or typed first: each target makes what it
# needs. Recipes use relative paths only, so that a clone's path may have a space in it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
# In the order written, also with -j: each step uses both the machine and what the one before made.
.NOTPARALLEL:

# Some machines forbid it, and then each of the thousands of processes that tests start compiles the
# project again: a quarter of what `hcov run` costs.
unexport PYTHONDONTWRITEBYTECODE

# What users of the engine are told to type, done for the recipe.
USE_ENGINE = eval "$$(dev/engine env)"
PYTHON = .venv/bin/python
# On several processes; tests/README.md tells which tests share one. Half as many where another lane runs.
PYTEST = -m pytest -n auto
PYTEST_BESIDE = -m pytest -n logical
# What depends on the version of Python: the coverage core, which measures before 3.12, and all doors.
OLDEST = $(addprefix tests/, inside/recorder/test_recorder_inert.py inside/guest/test_ended_early.py inside/test_autosave.py \
	inside/test_coverage_marks.py inside/test_faults.py checkup/test_doctor.py cli/test_public_names.py \
	commands/test_run.py pytest_plugin read/test_worker_pool.py session/test_hook.py session/test_session.py \
	watch/test_unmeasured.py)
# All of it is of that core; of the others, all of which run on the newest Python, the quick ones.
OLDEST_WHOLE = test_ended_early or test_autosave or test_coverage_marks or test_faults or test_pytest_contexts

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-20s%s\n", $$1, $$2 }'

.PHONY: demo
demo: venv optional-engine ## the main job on examples/: one report over processes and containers
	@dev/demo

.PHONY: test
test: ## lint and all tests: what CI runs
	@dev/beside lint optional-engine
	@dev/beside test-main images test-oldest test-newest smoke docs

.PHONY: test-quick
test-quick: venv ## after each edit: what needs no engine, network or browser
	$(PYTHON) $(PYTEST) -q -m 'not (engine or index or browser or thorough)'

.PHONY: lint
lint: venv ## ruff, mypy, who imports whom, and that what runs in measured processes calls nothing that can be mocked
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy
	.venv/bin/lint-imports --no-logo --cache-dir .cache/imports
	$(PYTHON) dev/guest_names.py

.PHONY: test-main
test-main: venv optional-engine ## every test, under our own command
	@$(USE_ENGINE); $(PYTHON) -m hcov run --no-containers --rcfile dev/coveragerc -- $(PYTHON) $(PYTEST) --durations=40 --durations-min=3

.PHONY: images
images: optional-engine ## what the tests of containers and of pages need; they make themselves what is missing
	@$(USE_ENGINE); if docker version >/dev/null 2>&1; then dev/base-image; dev/docker-plugins || true; dev/podman up || true; fi
	@dev/chromium || true

.PHONY: test-oldest
test-oldest: ## what depends on Python's version, on the oldest Python that is supported and here
	@dev/venv .venv-oldest test --oldest
	.venv-oldest/bin/python $(PYTEST_BESIDE) -m 'not (engine or index or browser or any_python)' \
		-k 'not thorough or $(OLDEST_WHOLE)' $(OLDEST)

.PHONY: test-newest
test-newest: ## the recorder's tests, on the newest Pythons, of Debian sid (Linux as root)
	@dev/test-newest

.PHONY: smoke
smoke: venv ## build sdist and wheel, install that into an empty environment, and measure with it
	@dev/smoke

.PHONY: docs
docs: venv ## the documentation's site, docs/_build/index.html; a broken link is an error
	@dev/docs

.PHONY: changelog
changelog: ## what the files in changes/ make of the next version's changelog
	@dev/changelog

.PHONY: test-remote
test-remote: venv ## only combining from a bucket and on a cluster, on servers of its own
	$(PYTHON) -m pytest -m remote

.PHONY: bench
bench: venv optional-engine ## what measuring costs
	@$(USE_ENGINE); for benchmark in benchmarks/*.py; do echo "== $$benchmark"; $(PYTHON) "$$benchmark"; done

.PHONY: venv
venv: ## the environment that everything runs in, .venv
	@dev/venv .venv dev

.PHONY: engine
engine: ## find a container engine, or start a private one (Linux as root)
	@dev/engine up

.PHONY: optional-engine
optional-engine:
	@dev/engine up --optional

.PHONY: engine-down
engine-down: ## stop the private engine; its images are kept
	@dev/podman down
	@dev/engine down

.PHONY: clean
clean: engine-down ## remove everything that these targets made here
	rm -rf .venv .venv-docs .venv-oldest .venv-remote .engine .cache .mypy_cache .pytest_cache .ruff_cache
	rm -rf docs/_build docs/_changes.md docs/_readme.md coverage_data examples/shop/coverage_data htmlcov .coverage examples/shop/.coverage
