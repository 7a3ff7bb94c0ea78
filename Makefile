# make demo    set up, then the whole product on a bundled data set, in ./demo
# make test    set up, then everything that must hold: lint, types, layers, tests
# make prove   set up, then the long simulations; writes docs/proof.md
# make docs    write the generated pages again: the list of files, docs/cli.md, the session
#
# Needs Python 3.11 or newer and a package registry; another Python: make demo PYTHON=python3.12
# Tests use all optional parts, of which torch may be large; make test PARTS=dev does without, and
# the tests of the missing ones skip.
PYTHON ?= python3
PARTS ?= dev,dev-torch,ray,torch,xgboost,catboost,hyperopt,postgres,s3
BIN := .venv/bin
READY := .venv/.ready
TOOLS := .venv/.tools
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test prove docs clean

demo: $(READY)
	@$(BIN)/python scripts/demo.py

test: $(TOOLS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2

prove: $(TOOLS)
	$(BIN)/python bench/prove.py

docs: $(TOOLS)
	$(BIN)/python scripts/file_list.py
	$(BIN)/python scripts/cli_page.py
	$(BIN)/python scripts/session.py

# The stamp is written last: an installation that was interrupted is done again.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "surefit needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1 || echo missing)." >&2; \
	  echo "  Fix: make $(or $(MAKECMDGOALS),demo) PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up .venv; the libraries take a minute or two."
	@$(PYTHON) -m venv .venv
	@$(INSTALL) -e .
	@touch $@

$(TOOLS): $(READY)
	@echo "Setting up what the tests need: $(PARTS)."
	@$(INSTALL) -e '.[$(PARTS)]'
	@touch $@

clean:
	rm -rf .venv demo
