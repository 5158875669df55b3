# The commands of the README. `make help` lists them.
#
# Needs git, make and, on Debian or Ubuntu, root or sudo once: what is missing is installed by apt.
# A second run finds everything there and is quick.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Ansible refuses to run where the locale is not UTF-8.
export LC_ALL := C.UTF-8
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
PURGE ?=
SEEDS ?= 2000
PYTEST ?=
SCENARIO ?=

# program:package pairs
BASE_PROGRAMS := git:git ssh:openssh-client
LAB_PROGRAMS := $(BASE_PROGRAMS) dockerd:docker.io iptables:iptables debootstrap:debootstrap
TEST_PROGRAMS := $(LAB_PROGRAMS) busybox:busybox-static curl:curl java:default-jre-headless dig:bind9-dnsutils named:bind9 dnsperf:dnsperf openssl:openssl haproxy:haproxy node:nodejs vagrant:vagrant faketime:faketime ip:iproute2

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: lab
lab: lab-packages $(INSTALLED) ## make or repair the lab: 6 hosts, a cluster on them, the app hello2
	$(call with-docker,$(BIN)/mesostk lab up --driver docker)

.PHONY: lab-down
lab-down: $(INSTALLED) ## remove the lab; PURGE=1 removes the host image, too
	$(call with-docker,$(BIN)/mesostk lab down $(if $(PURGE),--purge))

.PHONY: test
test: test-packages $(INSTALLED) engine lint ## lint, then every test, with real ZooKeeper and the lab
	CI=true $(BIN)/python -m pytest $(PYTEST)

.PHONY: quick
quick: $(INSTALLED) ## the tests that need neither ZooKeeper, Docker nor root
	$(BIN)/python -m pytest -m "not zookeeper and not docker and not lab and not root" $(PYTEST)

.PHONY: lint
lint: $(INSTALLED) ## format, style, types, playbooks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline -q --profile production playbooks roles molecule

.PHONY: format
format: $(INSTALLED) ## rewrite the source in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: molecule
molecule: lab-packages $(INSTALLED) engine ## every Molecule scenario; SCENARIO=name for one
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/molecule test $(if $(SCENARIO),--scenario-name $(SCENARIO),--all)

.PHONY: docs
docs: $(INSTALLED) ## write the README of each role anew
	$(BIN)/python -m mesostk.ops.role_docs

.PHONY: soak
soak: $(INSTALLED) ## the simulation over many seeds; SEEDS=2000
	MESOSTK_SEEDS=$(SEEDS) $(BIN)/python -m pytest --timeout 0 mesostk/tests/sim $(PYTEST)

.PHONY: soak-lab
soak-lab: engine ## day two in the lab: releases, hosts that come and go; runs killed at SEEDS=10 drawn tasks
	MESOSTK_ROLLING_SEEDS=$(if $(filter command line,$(origin SEEDS)),$(SEEDS),10) \
		$(BIN)/python -m pytest -s mesostk/tests/lab/test_rolling.py $(PYTEST)

LOCK := $(BIN)/uv pip compile -q --universal --python-version 3.11 --no-header \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

.PHONY: lock
lock: $(INSTALLED) ## lock the packages of a node, of its installer and of the control node anew
	$(LOCK) --generate-hashes requirements/node.in -o requirements/node.txt
	$(LOCK) --generate-hashes requirements/installer.in -o requirements/installer.txt
	$(LOCK) --upgrade --extra dev pyproject.toml -o requirements/dev.txt

.PHONY: venv
venv: $(INSTALLED) ## the virtual environment alone: mesostk and its development tools

.PHONY: wheel
wheel: $(INSTALLED) ## build the wheel into dist/
	$(BIN)/python -m pip wheel -q --no-deps -w dist .

.PHONY: clean
clean: ## remove the virtual environment and what builds and tests left; the lab stays
	rm -rf $(VENV) build dist wheelhouse .pytest_cache .mypy_cache .ruff_cache .hypothesis .ansible
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: engine
engine: lab-packages $(INSTALLED)
	$(call with-docker,$(BIN)/python -m mesostk.ops.engine)

# What apt says is of interest only if it fails.
define apt-install
echo "installing" $(1); \
log="$$( { $(SUDO) apt-get -q update && $(SUDO) env DEBIAN_FRONTEND=noninteractive \
	apt-get -q install -y --no-install-recommends $(1); } 2>&1 </dev/null )" \
	|| { echo "$$log" >&2; exit 1; }
endef

# Installs the packages whose programs are not found; nothing to do is the usual case.
define apt-get
@missing=(); \
for pair in $(1); do command -v "$${pair%%:*}" >/dev/null || missing+=("$${pair#*:}"); done; \
$(2) \
if (( $${#missing[@]} )); then \
	command -v apt-get >/dev/null || { echo "install $${missing[*]} and try again: there is no apt-get here" >&2; exit 1; }; \
	$(call apt-install,"$${missing[@]}"); \
fi
endef

# Only root and the group docker may use the engine. A user who can use sudo is put into the group,
# which for this shell takes effect through sg and from the next login on by itself.
define with-docker
@if (( $$(id -u) == 0 )) || [[ -n "$${DOCKER_HOST:-}" || -w /var/run/docker.sock ]]; then \
	$(1); \
else \
	id -nG "$$(id -un)" | grep -qw docker || { \
		echo "adding $$(id -un) to the group docker; log in again to use mesostk without make"; \
		sudo usermod -aG docker "$$(id -un)"; }; \
	sg docker -c '$(1)'; \
fi
endef

.PHONY: lab-packages
lab-packages:
	$(call apt-get,$(LAB_PROGRAMS),)

.PHONY: test-packages
test-packages:
	$(call apt-get,$(TEST_PROGRAMS),[[ -e /usr/share/java/zookeeper.jar ]] || missing+=(zookeeper); \
		[[ -e /usr/share/vagrant-plugins/plugins.d/vagrant-libvirt.json ]] || missing+=(vagrant-libvirt);)

FIND_PYTHON := for python in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
	if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo $$python; break; fi; done

$(VENV)/bin/python:
	@if [[ -z "$$($(FIND_PYTHON))" ]]; then \
		command -v apt-get >/dev/null || { echo "Python 3.11 or newer with venv is needed" >&2; exit 1; }; \
		$(call apt-install,python3 python3-venv); \
	fi
	@python="$$($(FIND_PYTHON))"; \
	[[ -n "$$python" ]] || { echo "no Python 3.11 or newer: name one with make PYTHON=…" >&2; exit 1; }; \
	echo "making $(VENV) with $$($$python --version)"; $$python -m venv $(VENV)

$(INSTALLED): $(VENV)/bin/python pyproject.toml requirements/dev.txt
	@echo "installing mesostk and its tools into $(VENV)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -c requirements/dev.txt -e '.[dev]'
	@touch $@
