# The ways in. `make demo` and `make test` each work as the first command on a fresh Debian 12.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
export PATH := $(PATH):$(HOME)/.cargo/bin

.PHONY: help setup release demo test lint bench bench-pktgen bench-report fuzz soak

# How long `make fuzz` goes on with each target.
FUZZ_SECONDS ?= 60

# How long `make soak` goes on.
SOAK_SECONDS ?= 1800

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST)

setup: ## install what building and running need: Debian packages, Rust
	@bash .ci/setup

release: setup ## target/release/tidegate, for a gateway
	cargo build --locked --release -p tidegate-control

demo: setup ## real traffic through a NodePort to real servers, in namespaces; under a minute
	cargo build --locked -p tidegate-control
	@bash .ci/as-root target/debug/tidegate demo

test: setup ## every test; those in namespaces need root
	@bash .ci/test

lint: setup ## formatting, clippy, documentation
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps

# What `make bench` and its parts build: the daemon too, which the guest runs.
BUILD_BENCH := cargo build --locked --release -p tidegate-bench -p tidegate-control

bench: setup ## all measurements, and their report in bench/results; under twenty minutes
	@bash .ci/setup-bench
	$(BUILD_BENCH)
	@bash .ci/as-root target/release/tidegate-bench all

bench-pktgen: setup ## the kernel's pktgen in a guest: every packet accounted for; two minutes
	@bash .ci/setup-bench
	$(BUILD_BENCH)
	@bash .ci/as-root target/release/tidegate-bench pktgen

bench-report: ## what was measured once more as a page, and the plots of the README
	$(BUILD_BENCH)
	target/release/tidegate-bench report --images docs/img

fuzz: setup ## random inputs for the packet path, the XDP program, manifests; FUZZ_SECONDS each
	@bash .ci/fuzz $(FUZZ_SECONDS)

soak: setup ## real traffic while something changes every second; half an hour, or SOAK_SECONDS
	cargo build --locked -p tidegate-control
	@bash .ci/soak $(SOAK_SECONDS)
