# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later


# Every target does the set-up that it needs. ARGS goes to the tool behind a single
# stage, e.g. make unit ARGS="-k journal".

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV := .venv
READY := $(VENV)/.ready
CI := $(VENV)/bin/python -m tests.tools.ci
STAGES := sanity unit integration molecule molecule-postgresql-image molecule-concurrent molecule-cloudogu molecule-dokku molecule-heroku heroku-cli docs build

.PHONY: help venv lint test test-matrix test-faults bench demo demo-clean clean $(STAGES)

help: ## This list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-25s %s\n", $$1, $$2 }' Makefile

venv: $(READY) ## The tool chain in .venv, with the best Python of this machine

$(READY): tests/tools/make_venv.sh $(wildcard requirements/*.txt)
	@bash tests/tools/make_venv.sh $(VENV) requirements/dev.txt
	@touch $@

lint: $(READY) ## ruff, mypy, ansible-lint, documentation and changelog
	@$(CI) ruff mypy ansible-lint docs changelog

sanity: $(READY) ## ansible-test sanity on a copy of the tree
	@$(CI) sanity pylint

unit: $(READY) ## pytest tests/unit
	@$(CI) unit -- $(ARGS)

integration: $(READY) ## pytest tests/integration on the sandbox's engine
	@$(CI) integration -- $(ARGS)

molecule: $(READY) ## The molecule scenario: a server in a container, reached over ssh
	@$(CI) molecule -- $(ARGS)

molecule-postgresql-image: $(READY) ## The same, with another Postgres image for a Mastodon
	@$(CI) molecule-postgresql-image -- $(ARGS)

molecule-concurrent: $(READY) ## The same, with a host of Concurrent that goes through its whole ladder
	@$(CI) molecule-concurrent -- $(ARGS)

molecule-cloudogu: $(READY) ## The same, with the PostgreSQL dogu of a CES
	@$(CI) molecule-cloudogu -- $(ARGS)

molecule-dokku: $(READY) ## The same, with an app on dokku that goes to another major version
	@$(CI) molecule-dokku -- $(ARGS)

molecule-heroku: $(READY) ## The playbook for Heroku, against the stand-in
	@$(CI) molecule-heroku -- $(ARGS)

heroku-cli: $(READY) ## The public CLI of Heroku (npm) against the same stand-in
	@$(CI) heroku-cli -- $(ARGS)

docs: $(READY) ## Check the modules' and roles' documentation
	@$(CI) docs -- $(ARGS)

build: $(READY) ## Build the tarball, install it into build/installed and run from there
	@$(CI) build -- $(ARGS)

test: $(READY) ## Everything that CI runs
	@$(CI)

test-matrix: $(READY) ## Every supported ansible-core and Python (long)
	@$(VENV)/bin/python -m tests.tools.matrix $(ARGS)

test-faults: $(READY) ## Every step x every strategy, killed before, in and after (long)
	@$(CI) faults -- $(ARGS)

bench: $(READY) ## Downtime beside what is done by hand (ARGS: persist, postgresql-image, stream, dokku)
	@$(VENV)/bin/python -m tests.bench $(ARGS)

demo: $(READY) ## See a Mastodon's data move into bind mounts
	@$(VENV)/bin/python -m tests.demo $(ARGS)

demo-clean: $(READY) ## Remove all that the demo left
	@$(VENV)/bin/python -m tests.demo clean

clean: ## Remove build products; the virtual environment and the image cache stay
	@rm -rf build/ci build/dist build/installed build/matrix build/pycache build/pylint build/sanity build/smoke build/source build/tree build/units
	@rm -rf .mypy_cache .pytest_cache .ruff_cache tests/output
