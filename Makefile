# Everything from a fresh Debian or Ubuntu machine on: `make demo`, `make test`.
# What the machine lacks is installed with apt-get, and only what it lacks; Python packages go to
# .venv, newer OVNs to ~/.local/share/ovn-audit. ARGS is handed on: `make test ARGS="-k store"`.

.DEFAULT_GOAL := help
.PHONY: help install ovn ovns chromium graphviz demo test check fmt parity mutate predict kill strain bench fuzz flips conformance
.PHONY: screenshots reference site lock krew sbom vulnerabilities clean image-test check-page

INSTALLED := .venv/.installed
TOOLS := .venv-tools/.installed
EXAMPLE := examples/interconnect.tar.gz
NEWEST := tests/data/head-shared.tar.xz

# Prints the first Python that is new enough and can make virtual environments.
FIND_PYTHON = for python in $(PYTHON) python3 /usr/bin/python3 \
	python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && { echo "$$python"; break; }; done; true

# Runs apt-get as root: `$(call APT_INSTALL,packages)`.
APT_INSTALL = { echo "installing $(1)" >&2; \
	as_root=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	$$as_root apt-get update -qq && \
	$$as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends $(1) >/dev/null; }

# Installs exactly what a file lists, each file's hash compared: `$(call PIP_INSTALL,.venv,file)`.
PIP_INSTALL = $(1)/bin/pip install -qq --disable-pip-version-check --require-hashes --requirement $(2)

# Pins every package and every file's hash: `$(call LOCK,what,file)`.
LOCK = .venv-tools/bin/uv pip compile --quiet --universal --python-version 3.11 \
	--generate-hashes --no-annotate --custom-compile-command "make lock" $(1) --output-file $(2)

help:  ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## Install the product and its development tools into .venv

$(INSTALLED): pyproject.toml constraints-dev.txt
	@set -e; \
	python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then \
		$(call APT_INSTALL,python3 python3-venv ca-certificates); \
		python=$$($(FIND_PYTHON)); \
	fi; \
	if [ -z "$$python" ]; then \
		echo "Python 3.11 or newer is needed; found $$(python3 --version 2>&1)." \
			"Name one with make PYTHON=/path/to/python3" >&2; \
		exit 1; \
	fi; \
	echo "installing Python packages into .venv (minutes the first time)" >&2; \
	"$$python" -m venv .venv
	@$(call PIP_INSTALL,.venv,constraints-dev.txt)
	@.venv/bin/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(TOOLS): constraints-tools.txt | $(INSTALLED)
	@.venv/bin/python -m venv .venv-tools
	@$(call PIP_INSTALL,.venv-tools,constraints-tools.txt)
	@touch $@

ovn: install  ## Install a current OVN beside the machine's own, unless it is there
	@.venv/bin/audit doctor --install-ovn

ovns: ovn  ## Install also the newest OVN that a recorded cluster needs, unless it is there
	@.venv/bin/audit doctor --install-ovn --snapshot $(NEWEST)

# Ubuntu's own chromium is a snap, which containers cannot run: there Playwright's build is used.
chromium: install
	@command -v chromium >/dev/null || \
	if grep -q '^ID=debian' /etc/os-release; then \
		$(call APT_INSTALL,chromium); \
	else \
		.venv/bin/playwright install --with-deps chromium; \
	fi

graphviz: install
	@command -v dot >/dev/null || { $(call APT_INSTALL,graphviz); }

demo: install  ## Audit the recorded example cluster and say where the report is
	@.venv/bin/audit run --snapshot $(EXAMPLE) --install-ovn --out runs --exit-zero

test: install chromium graphviz ovns  ## Run every test, on real OVN, Ray and Chromium
	@.venv/bin/pytest $(ARGS)

check: install  ## Lint, formatting, types, layers
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy
	@.venv/bin/lint-imports

# Node is a development tool alone: neither the product nor `make test` needs it.
check-page:  ## Lint, types and unit tests of the page's script: needs node 20 and npm
	@cd tests/page && npm ci --ignore-scripts --no-fund --no-audit --silent && \
		npm run --silent lint && npm run --silent format && npm run --silent types && npm test --silent

fmt: install  ## Format the code
	@.venv/bin/ruff check --fix
	@.venv/bin/ruff format

parity: install ovns  ## Compare recorded clusters with the real tools' recorded answers
	@.venv/bin/python -m tests.parity $(ARGS)

mutate: install ovns  ## Edit recorded clusters ten thousand times, and compare legs with traces (hours)
	@.venv/bin/python -m tests.mutate $(ARGS)

predict: install ovns  ## Compare what the evaluator foresees of 100,000 packets and 1,000 edits with ovn-trace
	@.venv/bin/python -m tests.predict --edits 1000 $(ARGS)

kill: install ovn  ## End audits by signals, and deliveries, at many moments, and go on with each (two hours)
	@.venv/bin/python -m tests.kill $(ARGS)
	@AUDIT_CUTS=20 .venv/bin/pytest --numprocesses=0 --timeout=1200 -k cut_at_any tests/end_to_end/test_store.py

strain: install ovn  ## Kill Ray's processes, limit memory and set the clock while audits trace (an hour)
	@.venv/bin/python -m tests.strain $(ARGS)

image-test: install  ## Run the Dockerfile's steps in a fresh Debian: root, debootstrap, minutes
	@.venv/bin/pytest --numprocesses=0 --timeout=3000 tests/image.py $(ARGS)

bench: install ovn  ## Measure the audit beside ovnkube-trace's own commands
	@.venv/bin/python -m bench.run $(ARGS)

conformance: install  ## Hold the intent plane against network-policy-api's tests (ARGS=its directory conformance)
	@.venv/bin/python -m tests.conformance $(ARGS)

fuzz: install  ## Read a million damaged inputs with every reader (hours; ARGS="--seconds 60 scope")
	@.venv/bin/python -m tests.fuzz $(ARGS)

flips: install  ## Flip a thousand bits of snapshots and of a run's files, one at a time
	@.venv/bin/python -m tests.flips $(ARGS)

screenshots: install chromium ovn  ## Take the pictures of the report in docs/, from the example
	@.venv/bin/python -m bench.screenshots

reference: install  ## Make the pages of docs/ anew that are printed from the code
	@.venv/bin/python -m tests.cli.describe > docs/commands.md
	@.venv/bin/python -m tests.store.describe > docs/store.md

site: $(TOOLS)  ## Build the documentation as a site, dist/site; a link that leads nowhere is an error
	@.venv-tools/bin/zensical build --clean --strict
	@echo dist/site/index.html

# One resolution for all, of which each file is a part: what is tested is what the image holds.
lock: $(TOOLS)  ## Choose the newest version of every package anew, and pin its files by hash
	@set -e; all=.venv-tools/all.txt; \
	rm -f $$all constraints*.txt; \
	$(call LOCK,pyproject.toml --all-extras --group tools,$$all); \
	$(call LOCK,pyproject.toml --constraint $$all,constraints.txt); \
	$(call LOCK,pyproject.toml --constraint $$all --extra dev,constraints-dev.txt); \
	$(call LOCK,pyproject.toml --constraint $$all --extra ray-default,constraints-ray-default.txt); \
	$(call LOCK,--group tools --constraint $$all,constraints-tools.txt)

krew: $(INSTALLED)  ## Make the plugin's archive and manifest for krew: dist/ovn-audit.yaml
	@rm -rf dist/krew && mkdir -p dist/krew
	@.venv/bin/hatchling build -t wheel -d dist/krew >/dev/null
	@cp jobs/krew/kubectl-ovn_audit constraints.txt LICENSE dist/krew
	@set -e; name=$$(sed -n 's,.*/\(ovn-audit-.*\.tar\.gz\)$$,\1,p' jobs/krew/ovn-audit.yaml); \
	tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -C dist/krew -czf "dist/$$name" .; \
	sum=$$(sha256sum "dist/$$name" | cut -d ' ' -f 1); \
	sed "s/sha256: .*/sha256: $$sum/" jobs/krew/ovn-audit.yaml > dist/ovn-audit.yaml; \
	echo "dist/$$name" dist/ovn-audit.yaml

sbom: $(TOOLS)  ## List what .venv holds, for scanners: dist/sbom.cdx.json (CycloneDX)
	@mkdir -p dist
	@.venv-tools/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
		--output-file dist/sbom.cdx.json .venv/bin/python
	@echo dist/sbom.cdx.json

vulnerabilities: $(TOOLS)  ## Compare what is pinned with the vulnerabilities that PyPI knows of
	@.venv/bin/python .ci/vulnerabilities .venv-tools/bin/pip-audit constraints.txt constraints-dev.txt \
		constraints-ray-default.txt

clean:  ## Remove .venv and caches; runs and the private OVN stay
	@rm -rf .venv .venv-tools dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
