# The commands. Each creates the virtual environment if it is missing.
#
#   make demo     run the portal on 127.0.0.1:8000, with the storage of a registry as sample data
#                 (PORT=8001; data in var/)
#   make registry   serve the demo's storage on 127.0.0.1:5000, with the demo's Valkey as cache
#                 (REGISTRY_PORT=5001; needs docker-registry, and a running demo)
#   make test     run the tests, with a few cases of each, in one process more than there are cores
#                 (WORKERS=1; ARGS="-k digest" passes an option to pytest)
#   make test-all   run all cases of all tests, which takes about three times as long
#   make test-browser   run those that need chromium, into tests/browser/screenshots/
#   make docs     build the site of the documentation in build/docs; warnings are errors
#   make screenshots   take the pictures in docs/images again, from the demo's data (needs chromium)
#   make bench    measure, for a quarter of an hour; ARGS="batch --short --json FILE" for less
#   make lint     ruff: rules and format
#   make types    mypy, strict
#   make fuzz     test the API against its schema with generated requests, for 15 minutes;
#                 ARGS=--hypothesis-profile=short takes a minute, and sends the same ones each time
#   make hunt     look for wrong answers under faults, for an hour, on one server, Sentinels and a
#                 cluster; ARGS="one --minutes 10 --seed N" for python -m tests.hunt
#   make audit    look for known vulnerabilities (pip-audit) and for risky code (bandit)
#   make messages   update and compile the German catalogue, after texts have changed (needs gettext)
#   make cover    run the tests and show what they leave out
#   make mutants  change the code at random and show which changes the tests do not notice;
#                 ARGS="redis blobcache/cursors.py --number 50 --seed 2" chooses modules and number
#   make lock     choose the exact versions in requirements*.txt anew, from the ranges in *.in
#   make clean    remove the environment and the caches of all tools
#
# PYTHON=/path/to/python chooses the interpreter, which must be 3.11 or newer.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PORT ?= 8000
REGISTRY_PORT ?= 5000
# One more than there are cores, since tests often wait for servers.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(1 + (os.cpu_count() or 1))')
INSTALL ?= $(BIN)/python -m pip install --quiet --disable-pip-version-check

# The caller's own environment must not leak into ours.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV DJANGO_SETTINGS_MODULE
# Without compiled modules on disk, every process would compile the tests and uv's packages again.
unexport PYTHONDONTWRITEBYTECODE
unexport PIP_TARGET PIP_PREFIX PIP_USER PIP_REQUIRE_VIRTUALENV

# Which interpreter the environment was made with; another one makes it anew.
MADE_WITH := $(VENV)/made-with-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)

.PHONY: demo registry test test-all test-browser docs screenshots bench lint types fuzz hunt audit bandit pip-audit messages cover mutants lock clean

demo: $(VENV)/installed
	@$(BIN)/python -m project.demo --port $(PORT)

registry: $(VENV)/installed
	@$(BIN)/python -m project.registry --port $(REGISTRY_PORT)

# Each process would spend a second on loading plugins that these tests do not use.
test: CASES := few
test-all: CASES := all
test test-all: $(VENV)/installed
	$(BIN)/python -m pytest -p no:playwright -p no:schemathesis --cases=$(CASES) --numprocesses=$(WORKERS) --dist=worksteal $(ARGS)

test-browser: $(VENV)/installed
	$(BIN)/python -m pytest tests/browser $(ARGS)

docs: $(VENV)/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict $(ARGS)

screenshots: $(VENV)/installed
	$(BIN)/python -m tests.browser.pictures $(ARGS)

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks $(ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev
	$(BIN)/mypy

fuzz: $(VENV)/installed-dev
	$(BIN)/python -m pytest tests/fuzz --hypothesis-profile=long $(ARGS)

hunt: $(VENV)/installed
	$(BIN)/python -m tests.hunt $(ARGS)

audit: bandit pip-audit

bandit: $(VENV)/installed-dev
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive blobcache project manage.py

# Ends with 75 if no service could be reached: then the packages may or may not be vulnerable.
pip-audit: $(VENV)/installed-dev
	$(BIN)/python .ci/audit.py

messages: $(VENV)/installed
	cd blobcache && ../$(BIN)/python -m django makemessages --locale de --no-location --no-wrap --no-obsolete
	sed -i '/^"POT-Creation-Date:/d; /^"Report-Msgid-Bugs-To:/d' blobcache/locale/de/LC_MESSAGES/django.po
	msgfmt --check --output-file blobcache/locale/de/LC_MESSAGES/django.mo blobcache/locale/de/LC_MESSAGES/django.po

cover: $(VENV)/installed-dev
	$(BIN)/python -m coverage run -m pytest $(ARGS)
	$(BIN)/python -m coverage report

mutants: $(VENV)/installed-dev
	$(BIN)/python .ci/mutants.py $(ARGS)

clean:
	rm -rf $(VENV) build dist .coverage htmlcov .hypothesis .mypy_cache .nox .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(MADE_WITH):
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON). Name an interpreter: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is `$(PYTHON) --version 2>&1`. Name another: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The exact versions, again, of the newest packages that the ranges in the .in files allow.
LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --fork-strategy requires-python \
	--no-emit-index-url --custom-compile-command "make lock"

lock: $(VENV)/installed-dev
	mkdir -p build
	$(LOCK) --no-annotate requirements.in -o requirements.txt
	grep == requirements.txt >build/pins.txt
	$(LOCK) --constraint build/pins.txt --no-annotate requirements-dev.in -o requirements-dev.txt

$(VENV)/installed: requirements.txt pyproject.toml $(MADE_WITH)
	@echo "Installing the packages into $(VENV). This happens once, and takes some minutes ..."
	$(INSTALL) -r requirements.txt
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(INSTALL) -r requirements-dev.txt
	@touch $@
