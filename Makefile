# What a newcomer needs is `make demo` and `make test`. Each sets up what it uses, once: .venv here, and system packages
# where it runs as root on Debian (scripts/setup says what is missing otherwise).

BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Names no registry and no folder of the machine that made it, whatever pip is configured with there.
PIP_COMPILE = $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-annotate \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options $(LOCK_ARGS)

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test coverage binary deb references screenshots lint format bench bench-setup venv dev lock clean

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

demo: venv ## watch events being delivered: no configuration, no network
	@$(BIN)/hookrelay demo $(DEMO_ARGS)

# Many tests wait for processes that they start: a few more than there are processors.
TEST_WORKERS ?= 3
test: dev tests/node/node_modules/.package-lock.json ## run all tests; PYTEST_ARGS="-k lane" for some
	@scripts/setup chromium curl faketime groff nc php prometheus promtool systemd-analyze systemd-socket-activate \
		libpython lintian mmdebstrap strip systemd-nspawn
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder \
		$(PYTEST_ARGS)

# What end-to-end tests reach besides is left out: they kill their daemons, whose figures are lost then.
COVERAGE_ARGS ?= --ignore=tests/e2e
coverage: dev tests/node/node_modules/.package-lock.json ## show which lines and branches tests do not reach
	@rm -rf build/coverage && mkdir -p build/coverage
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/coverage run -m pytest -q -n $(TEST_WORKERS) --dist loadfile $(COVERAGE_ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report
	@echo "rules/ alone:" && $(BIN)/coverage report --include='hookrelay/rules/*' --fail-under=100

binary: dev ## build dist/hookrelay: one executable that needs no Python
	@scripts/setup libpython strip
	@scripts/binary

deb: dev ## build dist/hookrelay_VERSION_ARCH.deb for Debian 12
	@scripts/setup dpkg-deb strip
	@scripts/deb

references: dev ## write what is made from the code: config/, docs/configuration.md, docs/*-reference.md, docs/man/
	@$(BIN)/python scripts/references.py

screenshots: dev ## draw the pictures of docs/images anew
	@scripts/setup chromium
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/screenshots.py docs/images

lint: dev ## check style, types and which module may import which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: dev ## put the code into the common form
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

bench: bench-setup ## measure speed beside nginx and wrk; takes minutes
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-setup: dev ## get what the benchmarks need
	@scripts/setup nginx wrk

venv: .venv/.package ## make .venv with .venv/bin/hookrelay
dev: .venv/.dev ## the same, with the tools for tests and checks

# A virtual environment knows its own path: in a tree that was copied or moved it is made anew.
ifneq ($(shell test -x $(BIN)/python && cat .venv/.place 2>/dev/null),$(CURDIR))
.PHONY: .venv/.place
endif
.venv/.place:
	@echo "making .venv"
	@python=$$(scripts/setup python) && "$$python" -m venv --clear .venv
	@echo "$(CURDIR)" > $@

.venv/.runtime: .venv/.place requirements/build.txt requirements/runtime.txt
	@echo "installing the libraries that hookrelay runs on"
	@$(PIP_INSTALL) --require-hashes -r requirements/build.txt -r requirements/runtime.txt
	@touch $@

# setuptools warns of every editable installation: that is not news.
.venv/.package: .venv/.runtime pyproject.toml hookrelay/__init__.py
	@echo "installing hookrelay into .venv"
	@PYTHONWARNINGS=ignore $(PIP_INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: .venv/.package requirements/dev.txt
	@echo "installing the tools for tests and checks"
	@$(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	@touch $@

# npm writes this file last: it stands for the whole folder.
tests/node/node_modules/.package-lock.json: tests/node/package-lock.json
	@scripts/setup node npm
	@echo "installing what tests need of Node: the reference verifier of signatures, and axe"
	@cd tests/node && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@

# The oldest Python that is supported needs all that newer ones do, and some more.
lock: dev ## write requirements/ anew from pyproject.toml; LOCK_ARGS=--upgrade for the newest of all
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "locks are made with Python 3.11: make clean, then make lock PYTHON=python3.11"; exit 1; }
	CUSTOM_COMPILE_COMMAND="make lock" $(PIP_COMPILE) --only-build-deps --build-deps-for=editable \
		--output-file=requirements/build.txt pyproject.toml
	CUSTOM_COMPILE_COMMAND="make lock" $(PIP_COMPILE) --constraint=requirements/build.txt \
		--output-file=requirements/runtime.txt pyproject.toml
	CUSTOM_COMPILE_COMMAND="make lock" $(PIP_COMPILE) --constraint=requirements/runtime.txt --extra=otel \
		--output-file=requirements/otel.txt pyproject.toml
	CUSTOM_COMPILE_COMMAND="make lock" $(PIP_COMPILE) --constraint=requirements/build.txt \
		--constraint=requirements/otel.txt --extra=otel --extra=dev --output-file=requirements/dev.txt pyproject.toml

clean: ## remove everything that make has made here
	rm -rf .venv tests/node/node_modules build dist *.egg-info .coverage* .hypothesis
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find hookrelay tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
