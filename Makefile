# On a fresh machine with Python 3.10 or newer, two commands do all the set-up: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
# what `make demo` leaves, or else what ships: folders of runs for the app; runs and results for the figures
RUNS ?= $(wildcard runs runs/demo/runs demo/runs)
RUN ?= $(or $(wildcard runs/demo),demo/runs) results
OUT ?= figures
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# one thread a worker: two pools of threads on two cores are slower than two threads
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: help demo app figures test test-slow test-oldest test-latest constraints wheel lint clean

help:
	@echo 'make demo         set up, run the bundled models, write pictures, print their paths'
	@echo 'make app          serve the app on this computer        (RUNS=folders of recorded runs)'
	@echo 'make figures      all figures and tables as one sheet   (RUN=folders of runs and results, OUT=folder)'
	@echo 'make test         set up, run the test suite            (WORKERS=2)'
	@echo 'make test-slow    run the tests that take longer'
	@echo 'make test-oldest  run the suite on the oldest versions that requirements.txt admits (TESTS=tests/pages)'
	@echo 'make test-latest  run the suite on the newest versions that requirements.txt admits'
	@echo 'make constraints  write the installed versions, tested together, to constraints.txt'
	@echo 'make wheel        build dist/*.whl: the workbench with its demo, for use without this folder'
	@echo 'make lint         ruff check and ruff format --check'
	@echo 'make clean        remove the environments and caches; recorded runs stay'

demo: $(VENV)/.installed
	@$(BIN)/svit demo

app: $(VENV)/.installed
	@$(BIN)/svit app $(if $(RUNS),--runs $(RUNS))

figures: $(VENV)/.installed
	@$(BIN)/python -m analysis.render all $(RUN) --out "$(OUT)"

test: $(VENV)/.installed-dev
	@$(PYTEST) -n $(WORKERS)

test-slow: $(VENV)/.installed-dev
	@$(PYTEST) -n $(WORKERS) -m slow

# a second environment with the oldest versions that the lower bounds admit
test-oldest: OLDEST := $(VENV)-oldest/bin/python
test-oldest: requirements.txt pyproject.toml
	@$(PYTHON) -m venv --clear $(VENV)-oldest
	@$(OLDEST) -m pip --disable-pip-version-check install --quiet uv
	@$(OLDEST) -m uv pip install --python $(OLDEST) --resolution lowest-direct \
	  -r requirements.txt -e '.[dev]'
	@OMP_NUM_THREADS=1 $(OLDEST) -m pytest -n $(WORKERS) $(TESTS)

# and a third with the newest
test-latest: LATEST := $(VENV)-latest/bin/python
test-latest: requirements.txt pyproject.toml
	@$(PYTHON) -m venv --clear $(VENV)-latest
	@$(LATEST) -m pip --disable-pip-version-check install --quiet --upgrade --upgrade-strategy eager \
	  -r requirements.txt -e '.[dev]'
	@OMP_NUM_THREADS=1 $(LATEST) -m pytest -n $(WORKERS) $(TESTS)

# of this environment, after `make test` passed in it; without a build's local part, as +cpu
constraints: $(VENV)/.installed-dev
	@{ echo '# Versions that passed the suite together; `make constraints` writes this file.'; \
	   $(PIP) list --format=freeze --exclude-editable --exclude pip --exclude setuptools \
	     | sed 's/+[^ ]*$$//' | grep -v '^\(nvidia\|cuda\|triton\)'; } > constraints.txt

wheel: $(VENV)/.installed-dev
	@$(PIP) wheel --quiet --no-deps --wheel-dir dist .
	@ls -lh dist/*.whl

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-latest .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# the versions tested together; where these do not install (another Python, another platform), any admitted
define install
$(PIP) install -c constraints.txt $(1) || { \
	  echo "constraints.txt does not install here (see above): taking any versions that" \
	       "requirements.txt admits" >&2; \
	  $(PIP) install $(1); }
endef

# The stamps make set-up happen once, and again after one of these files changed.
$(VENV)/.installed: requirements.txt pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: no '$(PYTHON)' here; install Python 3.10 or newer, or name one:" \
	       "make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "error: '$(PYTHON)' is $$($(PYTHON) --version 2>&1), but Python 3.10 or newer is needed:" \
	       "make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "error: '$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2; \
	  exit 1; }
	@echo "Installing into $(VENV): a few minutes the first time"
	@$(call install,-r requirements.txt -e .)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(call install,-r requirements.txt -e '.[dev]')
	@touch $@
