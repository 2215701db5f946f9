# make demo    a consultation between two processes on this machine, with its recordings
# make test    everything that must hold
# make bench   figures
# make weather a consultation on each of some bad networks in real time, its recordings judged;
#              WEATHER="storm --runs 1" chooses (suora-interop weather --help)
# make flood   a minute of strangers at every listener, while two talk and others wait;
#              FLOOD="--seconds 300 --strength 3" chooses
# make lab     networks of every kind after RFC 4787, in namespaces: the path that each pair gets
#              beside the one that it must get; LAB="carrier symmetric:public" chooses
#              (suora-interop lab --help)
# make evil    what a hostile relay can try, and who refuses it
# make soak    a consultation of half an hour: memory has to stay, delays must not grow
# make fuzz    bad bytes at every parser for T=60 seconds each; FUZZ="rtp store --keep" chooses
#              (suora-interop fuzz --help)
#
# Needs Rust (the release named in Cargo.toml, or later). `make deps` installs the rest on
# Debian and Ubuntu, says what is missing elsewhere, and is quiet when all is there.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help deps build demo test bench weather soak flood lab evil fuzz fmt-check clippy doc lean tests house

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
TOOLS := $(TARGET)/tools
REQUIREMENTS := interop-tests/requirements.txt
export SUORA_TOOLS := $(TOOLS)

# One profile, all crates, always: a second profile or another set of features
# would compile every C library again.
ALL := --release --workspace --locked

help:
	@sed '/^SHELL/,$$d;s/^# \{0,1\}//' Makefile

# A C and C++ compiler and make for SQLite, AWS-LC, OpenH264 and Opus, cmake for Opus, nasm for
# OpenH264 (without it encoding takes three times as long), ALSA's headers and pkg-config to find
# them for microphone and loudspeaker, Python's venv for the tools that judge speech and schemas,
# coturn's clients and its server, which tests start, and iproute2 and nftables for the networks of the lab.
# With FOREIGN, as `make test` asks, npm and the stock nodes of libp2p that meet the relay there.
deps:
	@missing=()
	have() { command -v "$$1" >/dev/null 2>&1; }
	have cc || missing+=(gcc)
	have c++ || missing+=(g++)
	have cmake || missing+=(cmake)
	have nasm || missing+=(nasm)
	have pkg-config || missing+=(pkg-config)
	pkg-config --exists alsa 2>/dev/null || missing+=(libasound2-dev)
	python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
	have turnutils_uclient || missing+=(coturn)
	have ip || missing+=(iproute2)
	# people's own path leaves out what is for administrators
	have nft || [[ -x /usr/sbin/nft ]] || missing+=(nftables)
	[[ -z "$(FOREIGN)" ]] || have npm || missing+=(npm)
	if (( $${#missing[@]} )); then
		as_root=()
		(( EUID == 0 )) || as_root=(sudo)
		if have apt-get && { (( EUID == 0 )) || have sudo; }; then
			echo "deps: installing $${missing[*]}"
			"$${as_root[@]}" apt-get update -qq
			# no server of a package is started by it
			policy=/usr/sbin/policy-rc.d
			if [[ ! -e $$policy ]]; then
				trap '"$${as_root[@]}" rm -f '"$$policy" EXIT
				printf '#!/bin/sh\nexit 101\n' | "$${as_root[@]}" tee $$policy >/dev/null
				"$${as_root[@]}" chmod +x $$policy
			fi
			DEBIAN_FRONTEND=noninteractive "$${as_root[@]}" apt-get install -qq -y --no-install-recommends "$${missing[@]}" >/dev/null
		else
			echo "deps: please install (names of Debian's packages): $${missing[*]}" >&2
			exit 1
		fi
	fi
	need=$$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
	found=$$(rustc --version 2>/dev/null | cut -d' ' -f2 || true)
	if ! have cargo || [[ $$(printf '%s\n' "$$need" "$${found:-0}" | sort -V | head -1) != "$$need" ]]; then
		echo "deps: please install Rust $$need or later (found: $${found:-none}); rustup does it" >&2
		exit 1
	fi
	if [[ -f $(REQUIREMENTS) ]] && ! cmp -s $(REQUIREMENTS) $(TOOLS)/requirements.txt; then
		echo "deps: making $(TOOLS)"
		python3 -m venv --clear $(TOOLS)
		$(TOOLS)/bin/pip install --quiet --disable-pip-version-check -r $(REQUIREMENTS)
		cp $(REQUIREMENTS) $(TOOLS)/requirements.txt
	fi
	[[ -z "$(FOREIGN)" ]] || interop-tests/foreign/install $(TOOLS)/foreign

build: deps
	@cargo build $(ALL)

demo: build
	@$(TARGET)/release/suora demo

fmt-check:
	@cargo fmt --all --check

clippy:
	@cargo clippy $(ALL) --all-targets -- -D warnings

doc:
	@RUSTDOCFLAGS="-D warnings" cargo doc $(ALL) --no-deps

# The protocol stands without its media part, what a relay or a booking system takes of it; the
# node without devices, for a machine without ALSA.
lean:
	@cargo check --release --locked -p suora-protocol --no-default-features
	cargo check --release --locked -p suora-node --no-default-features

# The rules for what is taken from others look at every feature's crates too.
tests:
	@cargo fetch --quiet --locked --target $$(rustc -vV | sed -n 's/^host: //p')
	cargo test $(ALL) --no-fail-fast

# The rules of the house alone, with the length report.
house:
	@cargo test $(ALL) --test it house:: -- --nocapture

test:
	@started=$$SECONDS
	$(MAKE) --no-print-directory deps FOREIGN=1
	for step in fmt-check clippy doc lean tests; do
		echo "test: $$step"
		began=$$SECONDS
		$(MAKE) --no-print-directory $$step || { echo "test: FAILED at $$step" >&2; exit 1; }
		passed+=("$$step $$((SECONDS - began)) s")
	done
	echo "test: all of it holds, in $$((SECONDS - started)) s"
	printf '      %s\n' "$${passed[@]}"

# Whole consultations, the median of three, beside what each should reach; then single parts, and
# the bad networks of virtual time, which fail where an aim is missed.
bench: build
	@status=0
	$(TARGET)/release/suora-interop bench --runs 3 || status=$$?
	cargo bench --profile release --workspace --locked --no-fail-fast || status=$$?
	exit $$status

# In real time, so half an hour for all; recordings, reports and contact sheets are kept.
weather: build
	@$(TARGET)/release/suora-interop weather --keep $(TARGET)/weather $(WEATHER)

flood: build
	@$(TARGET)/release/suora-interop flood $(FLOOD)

lab: build
	@$(TARGET)/release/suora-interop lab $(LAB)

evil: build
	@$(TARGET)/release/suora-interop evil-relay --all

soak: build
	@$(TARGET)/release/suora-interop soak --out $(TARGET)/soak.json $(SOAK)

# Only this workspace's crates are compiled again, with LLVM's coverage counters.
T := 60
fuzz: build
	@RUSTC_WORKSPACE_WRAPPER=$(abspath interop-tests/fuzz/rustc) \
		cargo build $(ALL) --features suora-interop/fuzz --bin suora-fuzz
	$(TARGET)/release/suora-interop fuzz --program $(TARGET)/release/suora-fuzz \
		--folder $(TARGET)/fuzz --seconds $(T) $(FUZZ)
