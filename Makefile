# Without pixi: a virtual environment from requirements.lock, then the tasks. `make help` lists them.
PYTHON ?= python3
# words for a task, which make's own command line gives, and no variable of the shell
ARGS :=
# where Python finds the platform before anything is installed
PLATFORM := src
VENV := .venv
BIN := $(VENV)/bin
TASKS := setup up down status logs reset doctor shell env database ingest preprocess train gate promote scenes map report origin explain label-next reproduce validate monitor step dags serve predict envs export-model deploy new update bench lint lock wheel version

# hints name make's tasks
export TERRAFLOW_STARTED_BY := make
# of the user's, nothing changes what Python finds or does here; packages are compiled as they are
# imported, once: all of them beforehand takes longer than a start
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONOPTIMIZE PYTHONWARNINGS PYTHONINSPECT PYTHONIOENCODING PYTHONSAFEPATH

NAMED := $(filter-out file,$(origin PYTHON))
CHECK := import sys; v = sys.version_info[:2]; sys.exit("TerraFlow needs Python 3.11, 3.12 or 3.13, but $(PYTHON) is %d.%d; name another with PYTHON=..., as in make up PYTHON=python3.12" % v) if not (3, 11) <= v < (3, 14) else sys.stdout.write("%d.%d" % v)
# What .venv/.ready holds: where, for which machine and Python, and from what the environment was made.
STAMP := echo "folder $$(pwd -P)"; echo "machine $$(uname -sm)"; grep -e ^home -e ^version $(VENV)/pyvenv.cfg; cksum requirements.lock pyproject.toml
FRESH := [ -x $(BIN)/python ] && [ "$$( { $(STAMP); } 2>/dev/null )" = "$$(cat $(VENV)/.ready 2>/dev/null)" ]

.PHONY: help environment minio test anew $(TASKS)
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

$(VENV)/.ready: anew
	@{ $(FRESH); } || { PYTHONPATH=$(PLATFORM) $(PYTHON) -m terraflow.checkout.install && { $(STAMP); } > $@ && $(BIN)/python -m terraflow.checkout.packages; }
