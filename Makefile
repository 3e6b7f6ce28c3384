# Everything that is done to this project, by name; `make help` lists it. CI calls the same targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

SAMPLES := --manifest-path sample-functions/Cargo.toml
FUZZ := --manifest-path fuzz/Cargo.toml
CHAOS_CALLS ?= 100000
SCRIPTS := *.sh tools/*.sh .ci/run

.PHONY: help
help: ## what there is to do
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## the gateway with a few functions on http://localhost:8080; no root, no Docker
	@tools/run.sh

.PHONY: static
static: ## gateway, fwatchdog and the sample functions in dist/: static musl binaries
	@tools/static.sh

.PHONY: dist
dist: ## dist/release/: archives with licences, SBOM and checksums; FAAS_DIST_ARCHES="x86_64 aarch64 armv7"
	@tools/dist.sh

.PHONY: dist-check
dist-check: ## the same made twice from this commit in different folders; fails when they differ
	@tools/dist.sh --check

.PHONY: images
images: static ## the images localhost/faas/NAME of the gateway, fwatchdog and the sample functions, from dist/
	@tools/images.sh

.PHONY: test
test: test-unit test-e2e test-docs ## every test

.PHONY: test-unit
test-unit: ## unit tests, and the real binaries over real sockets; no root, no Docker
	cargo test --workspace
	cargo test $(SAMPLES)
	cargo test $(FUZZ)

.PHONY: test-e2e
test-e2e: ## end to end on a real Swarm: the one that is there, or as root one of its own
	@if tools/with-engine.sh --available; then \
	    $(MAKE) --no-print-directory static; \
	    cargo test --workspace --test e2e --no-run; \
	    tools/with-engine.sh $(MAKE) --no-print-directory test-engine; \
	elif [ "$${CI:-}" = true ]; then \
	    echo "test-e2e: skipping is a failure under CI=true" >&2; exit 1; \
	fi

# Within tools/with-engine.sh, where there may be no network: all was built before.
.PHONY: test-engine
test-engine:
	tools/images.sh
	if [ -n "$${FAAS_TEST_ENGINE_PID:-}" ]; then tools/stand-ins.sh alpine node python prometheus; fi
	cargo test --offline --workspace --no-fail-fast --test e2e -- --ignored --test-threads=1

.PHONY: chaos
chaos: ## a function under load while its tasks and a node of two are killed, cut off, replaced; CHAOS_CALLS=100000; root
	@tools/static.sh gateway fwatchdog
	cargo test --package gateway --test e2e --no-run
	tools/swarm-lab.sh with 2 $(MAKE) --no-print-directory test-chaos

.PHONY: test-chaos
test-chaos:
	tools/images.sh gateway fwatchdog
	FAAS_CHAOS_CALLS=$(CHAOS_CALLS) cargo test --offline --package gateway --test e2e chaos:: -- --ignored --nocapture

.PHONY: test-docs
test-docs: ## every command of README.md and docs/, pasted in order, with an engine as on a new host
	@if FAAS_TEST_ENGINE=bare tools/with-engine.sh --available; then \
	    cargo test --package testkit --test documents --no-run; \
	    FAAS_TEST_ENGINE=bare tools/with-engine.sh $(MAKE) --no-print-directory test-documents; \
	elif [ "$${CI:-}" = true ]; then \
	    echo "test-docs: skipping is a failure under CI=true" >&2; exit 1; \
	fi

.PHONY: test-documents
test-documents:
	tools/stand-ins.sh
	cargo test --offline --package testkit --test documents -- --ignored --nocapture

.PHONY: soak
soak: ## what the tests do some times, as often as a release must survive it: some minutes
	@tools/static.sh gateway fwatchdog catservice
	FAAS_SOAK=1 FAAS_BIN_DIR=dist cargo test --package fwatchdog --test it leftovers -- --nocapture --test-threads=1
	FAAS_SOAK=1 FAAS_BIN_DIR=dist cargo test --package http1 --package fwatchdog --package gateway --test it no_client_gets -- --nocapture --test-threads=1

.PHONY: fuzz
fuzz: ## every parser of foreign bytes with random ones, FUZZ_SECONDS=600 each; needs cargo-fuzz and g++
	@tools/fuzz.sh

.PHONY: lint
lint: ## rustfmt, clippy, rustdoc, shellcheck; a warning is an error
	cargo fmt --check
	cargo fmt $(SAMPLES) --all --check
	cargo fmt $(FUZZ) --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy $(SAMPLES) --all-targets -- -D warnings
	cargo clippy $(FUZZ) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --quiet
	@if command -v shellcheck >/dev/null; then \
	    echo "shellcheck $(SCRIPTS)"; shellcheck --severity=warning $(SCRIPTS); \
	else echo "lint: shellcheck is not installed, scripts are not checked"; fi

.PHONY: bench-binaries
bench-binaries:
	@tools/static.sh gateway fwatchdog catservice
	@cargo build --quiet --release --package bench --bins

.PHONY: size
size: bench-binaries ## the shipped binaries against their budgets; fails when one is over
	@FAAS_BIN_DIR=dist cargo run --quiet --release --package bench --bin size

.PHONY: size-long
size-long: bench-binaries ## the same, with the growth over 100,000 requests
	@FAAS_BIN_DIR=dist cargo run --quiet --release --package bench --bin size -- --long

.PHONY: bench
bench: bench-edge bench-fwatchdog ## both of the following

.PHONY: bench-edge
bench-edge: bench-binaries ## the gateway beside nginx and HAProxy; ARGS="--quick", "--before OLD_GATEWAY", "--calls"
	@FAAS_BIN_DIR=dist cargo run --quiet --release --package bench --bin edge -- $(ARGS)

.PHONY: bench-fwatchdog
bench-fwatchdog: bench-binaries ## each mode of fwatchdog above the bare start of a process; ARGS=--quick
	@FAAS_BIN_DIR=dist cargo run --quiet --release --package bench --bin watchdog -- $(ARGS)

.PHONY: bench-instructions
bench-instructions: bench-binaries ## instructions for one request, beside nginx and HAProxy; ARGS="--profile 40"; valgrind
	@case "$(ARGS)" in *--profile*) \
	    export CARGO_PROFILE_RELEASE_STRIP=none FAAS_STATIC_OUT=dist/symbols; \
	    tools/static.sh gateway fwatchdog ;; \
	esac; \
	cargo run --quiet --release --package bench --bin instructions -- $(ARGS) $${FAAS_STATIC_OUT:-dist}

.PHONY: bench-scaling
bench-scaling: bench-binaries ## how soon a function without a replica answers, and a load has its replicas
	@FAAS_BIN_DIR=dist cargo run --quiet --release --package bench --bin scaling

.PHONY: bench-engine
bench-engine: bench-binaries ## what it costs to know a Swarm of up to 5,000 functions; ARGS="--before OLD_GATEWAY"
	@FAAS_BIN_DIR=dist cargo run --quiet --release --package bench --bin engine -- $(ARGS)

.PHONY: clean
clean: ## remove what was built
	cargo clean
	cargo clean $(SAMPLES)
	cargo clean $(FUZZ)
	rm -rf dist
