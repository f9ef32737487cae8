# make demo   distil a small detector on the embedded data set and show what it gained
# make test   run the test suite
# make lint   check the style
# make bench  measure speed, memory and rounding errors, in about 45 minutes; the tables are in benchmarks/
# make soak   try thousands of bad inputs, kills and full disks, in about an hour; the table is benchmarks/soak.md
#
# Each sets up .venv first if it is not there; PYTHON=python3.12 picks another interpreter (3.11 or newer).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SOURCES := configs projects tools benchmarks tests setup.py

.PHONY: demo test lint format bench soak setup
setup: $(VENV)/.installed

demo: setup
	$(BIN)/python tools/demo.py

test: setup $(VENV)/.browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

lint: setup
	$(BIN)/black --check --quiet --line-length 120 $(SOURCES) || { echo "run 'make format'"; exit 1; }
	$(BIN)/isort --check --quiet $(SOURCES) || { echo "run 'make format'"; exit 1; }
	$(BIN)/flake8 $(SOURCES)

format: setup
	$(BIN)/isort --quiet $(SOURCES)
	$(BIN)/black --quiet --line-length 120 $(SOURCES)

bench: setup
	$(BIN)/python benchmarks/head.py
	$(BIN)/python benchmarks/head.py --device cpu --keep-memory --affinities dot_product linear
	$(BIN)/python benchmarks/heads.py
	$(BIN)/python benchmarks/numerics.py
	$(BIN)/python benchmarks/teacher.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/loader.py
	$(BIN)/python benchmarks/gradient_balance.py
	$(BIN)/python benchmarks/corruptions.py

soak: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/soak.py

$(VENV)/.installed: requirements/runtime.txt requirements/detectron2.txt requirements/no_deps.txt requirements/dev.txt setup.cfg setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $$($(PYTHON) --version) found: try make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) --requirement requirements/runtime.txt --requirement requirements/dev.txt
	site=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])') && \
	  rm -rf $$site/detectron2 $$site/sal_detectron2* && \
	  $(PIP) --requirement requirements/detectron2.txt --no-deps --require-hashes --only-binary=:all: \
	    --implementation cp --python-version 3.10 --abi none --abi cp310 --target $$site && \
	  rm -rf $$site/tools $$site/detectron2/_C.*
	$(PIP) --no-deps --requirement requirements/no_deps.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

# A test opens the report in Debian's Chromium. Where that cannot be installed, the test is skipped and says so.
$(VENV)/.browser: $(VENV)/.installed
	@command -v chromium > /dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && \
	  apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qqy --no-install-recommends install chromium; } \
	  > $(VENV)/browser.log 2>&1 || true
	@touch $@
