# make demo    the tour: a sample outage drained into an SMTP sink on loopback, no root, no network but PyPI's
# make test    everything; tests that need root or Postfix say so and skip, except under CI
# make lint    ruff and mypy, strict
# make hostile  hostile input at full length: a million one-byte files
# make wire    what we send compared with what Mailman sends, by kind of entry, for every version of Mailman
# make torture kill -9, frozen partners, restored backups, 250 times over: who got what, compared (some ten minutes)
# make backtest how good the estimate would have been on recorded drains
# make eta     how good the finish time is in real drains, six of them side by side (some 6 minutes)
# make places  one drain of some minutes, seen from every place an operator looks, with screenshots, the figures compared
# make wheels  sdist, and both wheels from it: in pure Python, and with the core compiled (needs a C compiler), in dist/
# make docs    docs/settings.md, from the models of the settings
# make bench   how fast, as ratios against Mailman's own runner and Postfix's smtp-source

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.13 python3,$(shell command -v $(p) 2>/dev/null)))
MAILMAN3_VERSION ?= 3.3.10
QUIET_INSTALL = install --quiet --disable-pip-version-check

.PHONY: demo test test-environment lint ruff mypy docs wheels torture hostile wire wire-recording backtest eta places bench clean
.DELETE_ON_ERROR:

demo: .venv/installed
	.venv/bin/drainer demo

test: test-environment
	.venv/bin/pytest

test-environment: .venv/installed-test .venv-mailman3/installed .venv-mailman338/installed .venv-compiled/installed .cache/exim

lint: ruff mypy

ruff: .venv/installed-test
	.venv/bin/ruff check drainer tests setup.py
	.venv/bin/ruff format --check drainer tests setup.py

mypy: .venv/installed-test
	.venv/bin/mypy

docs: .venv/installed-test
	.venv/bin/python -m tests.docs.settings

wheels: .venv/installed-test
	rm -rf dist
	.venv/bin/python -c "from setuptools import build_meta; build_meta.build_sdist('dist')"
	DRAINER_COMPILED=0 .venv/bin/pip wheel --no-deps --wheel-dir dist dist/*.tar.gz
	DRAINER_COMPILED=1 .venv/bin/pip wheel --no-deps --wheel-dir dist dist/*.tar.gz

wire: .venv/installed-test .venv-mailman3/installed .venv-mailman338/installed
	.venv/bin/python -m tests.wire

# What the suite compares with, made anew: after a change of tests/mailman3/wide.py or contents.py, or of a version of Mailman.
wire-recording: .venv/installed-test .venv-mailman3/installed .venv-mailman338/installed
	.venv/bin/python -m tests.wire.recording

torture: .venv/installed-test .venv-mailman3/installed
	.venv/bin/python -m tests.torture
	.venv/bin/python -m tests.torture.power_loss
	.venv/bin/python -m tests.scenarios.operated_at_random --times 5 --kills 2

hostile: .venv/installed-test
	DRAINER_TEST_ONE_BYTE_FILES=1000000 .venv/bin/pytest -n0 tests/pickles tests/scenarios/test_hostile_queue.py tests/scenarios/test_hostile_scale.py

backtest: .venv/installed
	.venv/bin/python -m drainer.estimate.backtest tests/estimate/traces/*.csv

# Needs chromium, tmux and promtool (apt-get install chromium tmux prometheus).
places: .venv/installed-test
	.venv/bin/python -m tests.places "$$(mktemp -d)/places"

eta: .venv/installed-test
	.venv/bin/python -m tests.estimate.real_drains

bench: .venv/installed-test .venv-mailman3/installed .cache/exim
	.venv/bin/python -m tests.bench

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "no python3 found: install Python 3.11 to 3.13, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "$(PYTHON) is not Python 3.11 to 3.13: say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | .venv/bin/python
	.venv/bin/pip $(QUIET_INSTALL) --editable .
	@touch $@

.venv/installed-test: pyproject.toml | .venv/bin/python
	.venv/bin/pip $(QUIET_INSTALL) --editable '.[test,lint]'
	@touch $@ .venv/installed

# A genuine Mailman 3 with a Python of its own, as on a real host: the composer's co-process runs in it.
# The pip of .venv installs there too: a second one would take 6 s of a processor to install itself.
.venv-mailman3/installed: Makefile | .venv/bin/python
	test -x .venv-mailman3/bin/python || $(PYTHON) -m venv --without-pip .venv-mailman3
	.venv/bin/pip --python .venv-mailman3/bin/python $(QUIET_INSTALL) 'mailman==$(MAILMAN3_VERSION)'
	@touch $@

# The Mailman of Debian 12, with the generation of SQLAlchemy it has there, and what it needs for PostgreSQL.
.venv-mailman338/installed: Makefile | .venv/bin/python
	test -x .venv-mailman338/bin/python || $(PYTHON) -m venv --without-pip .venv-mailman338
	.venv/bin/pip --python .venv-mailman338/bin/python $(QUIET_INSTALL) 'mailman==3.3.8' 'sqlalchemy<2' psycopg2-binary
	@touch $@

# The wheel with the compiled core, of this checkout, beside the packages of .venv. What did not change is not compiled again.
# Where there is no compiler the tests of this wheel say so and skip, except under CI.
.venv-compiled/installed: pyproject.toml setup.py $(shell find drainer -type f -not -name '*.pyc') | .venv/installed-test
	@mkdir -p $(@D)
	if command -v gcc >/dev/null; then tests/packaged/install_compiled $(@D); fi
	@touch $@

# A genuine Exim for the tests: unpacked, because Debian's exim4 and postfix exclude each other.
.PHONY: .cache/exim
.cache/exim:
	tests/unpack_exim $@

clean:
	rm -rf .cache .venv .venv-compiled .venv-mailman3 .venv-mailman338 build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
