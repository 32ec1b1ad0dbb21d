# Without pixi: a virtual environment from requirements.lock, then the tasks. `make help` lists them.
PYTHON ?= python3
# where Python finds the platform before anything is installed
PLATFORM := src
VENV := .venv
BIN := $(VENV)/bin
TASKS := setup up down status logs reset doctor shell env database ingest preprocess train gate promote scenes map report origin explain label-next reproduce validate monitor step dags serve predict envs export-model deploy new update bench lint lock wheel version

# hints name make's tasks
export TERRAFLOW_STARTED_BY := make
# packages are compiled as they are imported, once: all of them beforehand takes longer than a start
unexport PYTHONDONTWRITEBYTECODE

NAMED := $(filter-out file,$(origin PYTHON))
CHECK := import sys; v = sys.version_info[:2]; sys.exit("TerraFlow needs Python 3.11, 3.12 or 3.13, but $(PYTHON) is %d.%d; name another with PYTHON=..., as in make up PYTHON=python3.12" % v) if not (3, 11) <= v < (3, 14) else sys.stdout.write("%d.%d" % v)
FRESH := [ $(VENV)/.ready -nt requirements.lock ] && [ $(VENV)/.ready -nt pyproject.toml ]

.PHONY: help environment minio test $(TASKS)
help: environment
	@$(BIN)/invoke --list

# Words for a task: make train ARGS="--config x"
$(TASKS): environment
	@$(BIN)/invoke $@ $(ARGS) || [ $$? -eq 130 ]

test: environment
	@$(BIN)/invoke test $(ARGS)

# A Python that was named must be the environment's; without a name the environment stays as it is.
# Go begins to build MinIO while the packages are being installed; its service does the rest.
environment:
	@if [ -n "$(NAMED)" ] || ! { $(FRESH); }; then \
		version=$$($(PYTHON) -c '$(CHECK)') || exit 1; \
		[ "$$version" = "$$(cat $(VENV)/.python 2>/dev/null)" ] || rm -f $(VENV)/.ready; \
	fi
	@{ $(FRESH); } || PYTHONPATH=$(PLATFORM) $(PYTHON) -m terraflow.lock .venv.lock $(MAKE) --no-print-directory -j2 $(VENV)/.ready minio

minio:
	@PYTHONPATH=$(PLATFORM) $(PYTHON) -m terraflow.stack.minio --until $(VENV)/.ready || echo "Going on without MinIO."

$(VENV)/.ready: requirements.lock pyproject.toml
	@echo "Python packages: installing requirements.lock into $(VENV), 1 to 3 minutes the first time"
	@rm -f $@ && [ "$$($(PYTHON) -c '$(CHECK)')" = "$$(cat $(VENV)/.python 2>/dev/null)" ] || $(PYTHON) -m venv --clear $(VENV)
	@awk '/^[a-z]/ { wanted = /^uv==/ } wanted' requirements.lock > $(VENV)/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(VENV)/uv.lock
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@$(BIN)/python -c 'import sys; sys.stdout.write("%d.%d" % sys.version_info[:2])' > $(VENV)/.python
	@grep -q AIRFLOW_HOME $(VENV)/bin/activate || printf '\n# plain `airflow` works on the stack of this checkout\nexport AIRFLOW_HOME="%s/var/airflow"\n' "$(CURDIR)" >> $(VENV)/bin/activate
	@touch $@ && echo "Python packages: installed"
