# Each target does all of its own set-up. Nothing is installed outside .venv, but for `make test`' servers,
# which go to ~/.cache/plait (built binaries) and, as root, through the system's package manager (PostgreSQL, QEMU).
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := core catalog_server plugins/iceberg plugins/s3 plugins/delta plugins/dolt plugins/block conformance_tests demo
SOURCES := core/src catalog_server/src plugins/iceberg/src plugins/s3/src plugins/delta/src plugins/dolt/src plugins/block/src conformance_tests/src demo/src examples/git_store/src
READY := $(VENV)/.ready
WORKERS ?= 2
# The suites start thousands of processes. Where this is set, each of them would compile all of plait again.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := $(BIN)/pytest -q -n $(WORKERS) --dist loadgroup --durations 8

help: ## What there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(READY): requirements.txt scripts/venv.sh $(addsuffix /pyproject.toml,$(PACKAGES))
	@PYTHON="$(PYTHON)" bash scripts/venv.sh $(VENV) $(PACKAGES)
	@touch $@

demo: $(READY) ## The story of five stores on real data: no server, no root, no Go, no Java
	@bash scripts/volumes.sh
	@$(BIN)/plait demo --folder plait-demo --force

serve: $(READY) ## A server on 127.0.0.1:7450 over ./.plait
	@$(BIN)/python -m plait_server --init

test-core: $(READY) ## What a visitor runs: the core, and each adapter as its users meet it. No Go, no Java, no root, under two minutes
	@bash scripts/stage.sh core $(PYTEST) -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) core/tests plugins/*/tests/test_in_a_catalog.py plugins/iceberg/tests/test_merge.py \
	  -m "not postgres and not s3server and not doltserver and not root and not slow"

test: $(READY) ## Everything that CI runs
	@bash scripts/engines.sh
	@$(MAKE) --no-print-directory lint
	@bash scripts/stage.sh core $(PYTEST) core/tests demo
	@bash scripts/stage.sh server $(PYTEST) catalog_server/tests
	@bash scripts/stage.sh stores $(PYTEST) -n 3 plugins
	@bash scripts/stage.sh crash $(PYTEST) conformance_tests/tests
	@bash scripts/stage.sh --summary

soak: $(READY) ## The full crash matrices: hours
	@bash scripts/engines.sh
	@PLAIT_SOAK=1 $(PYTEST) --timeout 7200 conformance_tests/tests demo/tests/test_crashes.py plugins/*/tests/test_conformance.py

bench: $(READY) ## Speed, as ratios in one run; writes benchmarks/results.json
	@$(BIN)/python benchmarks/bench.py --json benchmarks/results.json
	@$(BIN)/python benchmarks/stores.py --json benchmarks/stores.json

bench-peer: $(READY) ## plait beside Nessie in one sitting (needs Maven and Java 21); writes benchmarks/peer.json
	@jar=$$(bash scripts/nessie.sh) && $(BIN)/python benchmarks/peer.py --jar "$$jar" --json benchmarks/peer.json

lint: $(READY) ## Style, strict types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q .
	@$(BIN)/mypy $(SOURCES)
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/reference.py --check
	@$(BIN)/python scripts/notebook.py --check
	@made=$$(mktemp -d) && $(BIN)/python -m grpc_tools.protoc -I core/src --python_out=$$made --pyi_out=$$made core/src/plait/rpc/plait.proto \
	  && cmp -s $$made/plait/rpc/plait_pb2.py core/src/plait/rpc/plait_pb2.py \
	  && cmp -s $$made/plait/rpc/plait_pb2.pyi core/src/plait/rpc/plait_pb2.pyi \
	  || { echo "core/src/plait/rpc is not what plait.proto says: run 'make proto'" >&2; exit 1; }

proto: $(READY) ## Make the gRPC code anew from core/src/plait/rpc/plait.proto
	@$(BIN)/python -m grpc_tools.protoc -I core/src --python_out=core/src --pyi_out=core/src core/src/plait/rpc/plait.proto

docs: $(READY) ## The documentation as a site, in site/
	@$(BIN)/python scripts/reference.py
	@$(BIN)/python scripts/notebook.py
	@$(BIN)/mkdocs build --strict -q

dist: $(READY) ## Wheels of every package, in dist/
	@for package in $(PACKAGES); do $(BIN)/python -m build -q --no-isolation --wheel --outdir dist $$package; done

lock: $(READY) ## Resolve again and export hashed requirements without addresses
	@$(BIN)/pip install -q uv && $(BIN)/uv lock -q
	@$(BIN)/uv export -q --all-packages --all-extras --all-groups --no-emit-workspace --no-header -o requirements.txt

clean: ## Remove what the targets made
	@rm -rf $(VENV) dist site plait-demo uv.lock .mypy_cache .ruff_cache

.PHONY: help demo serve test-core test soak bench bench-peer lint proto docs dist lock clean
