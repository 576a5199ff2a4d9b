# Needs Python 3.11 and git. Every target makes the virtual environment it needs, once, from the lock file.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready

LABEL ?= .venv-label
LABEL_READY = $(LABEL)/.ready
MONAILABEL = 0.8.5
# One file stays in one process: its fixtures are dear.
PARALLEL = -n auto --maxprocesses 4 --dist loadfile

.PHONY: demo test test-all lint bench bench-full bench-parts bench-weights torture bundles wheels viewer label test-label lock clean

demo: $(READY)  ## the main job on real input
	@$(BIN)/python docs/demo

test: lint  ## everything CI runs
	@$(BIN)/python -m pytest -q $(PARALLEL)

test-all: lint  ## and the long ones
	@$(BIN)/python -m pytest -q $(PARALLEL) -m "slow or not slow"

lint: $(READY)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(READY)  ## beside MONAI and nnU-Net, small: minutes on an idle machine
	@$(BIN)/python -m benchmarks.peers --size short --ways "as installed,openvino"

bench-full: PEERS = benchmarks/results/peers-full.json
bench-full: $(READY)  ## the whole, on an idle machine: hours; writes docs/benchmarks.md
	@$(BIN)/python -m benchmarks.peers --size full --json $(PEERS) --sections peak,forward,levels,start,memory
	@$(BIN)/python -m benchmarks.peers --size many --json $(PEERS) --sections whole --add --write-page \
		--ways "as installed+own,openvino bf16+own,openvino int8+own"

bench-parts: $(READY)  ## single parts against other ways to do the same
	@for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

bench-weights: $(READY)  ## learn the network of the comparison again
	@$(BIN)/python -m benchmarks.peers.train

torture: $(READY)  ## every odd kind of series and file: right, split, refused; fails if one is wrong
	@$(BIN)/python -m nestseg_prep.torture

docs/findings.md: data_prep/nestseg_prep/dicom/findings.py $(READY)
	@$(BIN)/python -m nestseg_prep.dicom.findings > $@

bundles: $(READY)  ## render the configs of every bundle from its recipe, then check them
	@$(BIN)/nestseg bundle render
	@$(BIN)/nestseg bundle check $(patsubst %/bundle.yaml,%,$(wildcard bundles/*/bundle.yaml))

wheels: $(READY)  ## dist/: nestseg, which is small, and nestseg-bundles, the trained bundles
	@$(BIN)/python -m hatchling build -t wheel -d $(CURDIR)/dist
	@cd bundles && $(abspath $(BIN))/python -m hatchling build -t wheel -d $(CURDIR)/dist

viewer: STATIC = $(CURDIR)/pipeline/nestseg/report/static
viewer:  ## fetch the report's viewer, NiiVue, from the npm registry; fails if a byte differs
	@mkdir -p build/viewer
	@cd build/viewer && npm pack --silent @niivue/niivue@0.69.0 >/dev/null
	@cd build/viewer && grep tgz $(STATIC)/SHA256SUMS | sha256sum -c --quiet
	@cd build/viewer && tar xzf niivue-niivue-0.69.0.tgz --strip-components=2 package/dist/niivue.umd.js
	@cd build/viewer && grep umd $(STATIC)/SHA256SUMS | sha256sum -c --quiet
	@cp build/viewer/niivue.umd.js $(STATIC)/

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "nestseg needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || echo "Making $(VENV) (once; some minutes) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

label: $(LABEL_READY)  ## an environment of its own with MONAI Label: then $(LABEL)/bin/nestseg label

test-label: $(LABEL_READY)  ## a real label server, driven by MONAI Label's client, Orthanc where it is
	@$(LABEL)/bin/python -m pytest -q -m "slow or not slow" tests/label

# MONAI Label's own list of needs cannot be met on a CPU, and most of it is for other apps.
$(LABEL_READY): requirements.lock label.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 12))' || \
		{ echo "MONAI Label $(MONAILABEL) needs Python 3.11; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(LABEL)/bin/python || echo "Making $(LABEL) (once; some minutes, 3 GB) …"
	@$(PYTHON) -m venv $(LABEL)
	@$(LABEL)/bin/python -m pip install -qq --disable-pip-version-check -r label.lock
	@$(LABEL)/bin/python -m pip install -qq --disable-pip-version-check --no-deps monailabel==$(MONAILABEL)
	@$(LABEL)/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

lock:  ## exact versions of everything, from the floors in pyproject.toml
	@$(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip install -qq torch==2.13.0
	@build/lock/bin/python -m pip install -qq -e '.[train,demo,pacs,ray,fast,dev]'
	@build/lock/bin/python -m pip freeze --exclude-editable | sed 's/+cpu//' > requirements.lock
	@build/lock/bin/python -m pip install -qq -e '.[label]'
	@{ echo "-r requirements.lock"; build/lock/bin/python -m pip freeze --exclude-editable | \
		sed 's/+cpu//' | grep -vxFf requirements.lock; } > label.lock

clean:
	@rm -rf $(VENV) $(LABEL) build dist
