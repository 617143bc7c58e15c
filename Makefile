# Everything there is to type. No environment variable needs setting; CARGO_TARGET_DIR is honoured.

PREFIX  ?= /usr/local
DESTDIR ?=

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c

CARGO      ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
RELEASE    := $(TARGET_DIR)/release
BUILT      ?= $(RELEASE)
DEBUG      := $(TARGET_DIR)/debug
# Read when a recipe runs, after `duckdb` has written it.
FEATURES    = $$(<target/duckdb/features)

.PHONY: help demo test lint build bench no-account bench-micro torture install install-files clean duckdb test-tools
.DEFAULT_GOAL := help

help: ## Says what there is to type
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22
	@echo
	@echo '  make install takes PREFIX=$(PREFIX) and DESTDIR='

demo: duckdb ## Forwards, accounts, captures and reports real traffic on loopback (10 s)
	$(CARGO) build --workspace $(FEATURES)
	@$(DEBUG)/demo

test: duckdb test-tools ## Runs all tests
	$(CARGO) build --workspace --all-targets $(FEATURES)
	$(CARGO) test --workspace $(FEATURES)

lint: duckdb ## Checks format, lints and documentation
	@$(CARGO) fmt --version >/dev/null 2>&1 && $(CARGO) clippy --version >/dev/null 2>&1 || \
	  { echo 'lint: please type: rustup component add rustfmt clippy' >&2; exit 1; }
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(FEATURES) -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps $(FEATURES)

build: duckdb ## Builds release binaries in target/release
	$(CARGO) build --workspace --release $(FEATURES)

bench: build no-account ## Compares Weir with HAProxy, nginx and realm, measures account and reports (20 minutes, as root)
	@$(RELEASE)/bench
	@$(RELEASE)/bench-account
	@$(RELEASE)/bench-analyze

# The forwarder without an account lies beside the one that is installed, under a name of its own.
no-account: build
	$(CARGO) build --workspace --release $(FEATURES) --bin forwarder --features forwarder/no-account
	@mv $(RELEASE)/forwarder $(RELEASE)/forwarder-no-account
	$(CARGO) build --workspace --release $(FEATURES) --bin forwarder

torture: duckdb ## Kills it again and again under load, then audits the account (SECONDS=60 SEED=)
	$(CARGO) build --workspace $(FEATURES)
	@$(DEBUG)/torture --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED))

bench-micro: duckdb ## Measures rules, rows, frames and the account's share, without a network
	$(CARGO) bench --workspace --bench '*' $(FEATURES)

install: build ## Builds, and puts binaries, library, examples and units in place
	@$(MAKE) --no-print-directory install-files

# Existing files in /etc/weir are the operator's: only absent ones are put there.
install-files: ## Puts in place what is built, and needs no Rust: for sudo
	@for program in forwarder recorder analyze; do [[ -x '$(BUILT)'/$$program ]] || \
	  { echo "install: $(BUILT)/$$program is not there. Please type first: make build" >&2; exit 1; }; done
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/lib/systemd/system' \
	  '$(DESTDIR)$(PREFIX)/lib/sysusers.d' '$(DESTDIR)$(PREFIX)/lib/tmpfiles.d' \
	  '$(DESTDIR)$(PREFIX)/share/doc/weir/docs' '$(DESTDIR)/etc/weir'
	install -m 755 '$(BUILT)/forwarder' '$(BUILT)/recorder' '$(BUILT)/analyze' '$(DESTDIR)$(PREFIX)/bin'
	if [[ -z "$(FEATURES)" ]]; then \
	  install -d '$(DESTDIR)$(PREFIX)/lib/weir'; \
	  install -m 644 target/duckdb/libduckdb.* '$(DESTDIR)$(PREFIX)/lib/weir'; \
	  install -m 644 target/duckdb/LICENSE '$(DESTDIR)$(PREFIX)/share/doc/weir/LICENSE-duckdb'; \
	fi
	install -m 644 README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE forwarder/dist/forwarder.toml \
	  recorder/dist/recorder.toml '$(DESTDIR)$(PREFIX)/share/doc/weir'
	install -m 644 docs/*.md '$(DESTDIR)$(PREFIX)/share/doc/weir/docs'
	for file in forwarder/dist/forwarder.toml recorder/dist/recorder.toml; do \
	  to='$(DESTDIR)/etc/weir/'$${file##*/}; [[ -e $$to ]] || install -m 644 $$file "$$to"; \
	done
	for file in forwarder/dist/weir-forwarder.service recorder/dist/weir-recorder.service; do \
	  sed 's|/usr/local/|$(PREFIX)/|' $$file > '$(DESTDIR)$(PREFIX)/lib/systemd/system/'$${file##*/}; \
	done
	install -m 644 recorder/dist/sysusers.conf '$(DESTDIR)$(PREFIX)/lib/sysusers.d/weir.conf'
	install -m 644 recorder/dist/tmpfiles.conf '$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/weir.conf'
	@[[ -n '$(DESTDIR)' ]] || printf '%s\n' \
	  'Installed. As services: systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload' \
	  '                        systemctl enable --now weir-recorder weir-forwarder'

clean: ## Removes everything that make made
	$(CARGO) clean
	rm -rf target demo-data

duckdb: ## Fetches the prebuilt DuckDB library, once
	@analyze/duckdb/fetch.sh

test-tools:
	@tests/tools.sh
