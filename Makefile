# make up       install what is missing, build, start one node in the foreground
# make test     every test; make test-unit the quick ones
# make demo     load, scaling, alerts and a trace on a running node
# make down     stop the pods and remove what a node left on this machine

SHELL := /bin/bash
GO ?= go
BIN := bin
export CGO_ENABLED ?= 1

# Programs that stay small are built without cgo and symbols.
STATIC := CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w"

# kubectl says the version of the modules it is made of.
KUBE := v1.37.2
KUBECTL_VERSION := $(foreach p,k8s.io/client-go/pkg/version k8s.io/component-base/version,-X $(p).gitVersion=$(KUBE) -X $(p).gitMajor=1 -X $(p).gitMinor=37)

.PHONY: bench all build clients up down test test-unit vet race conformance ui images demo deps clean

all: build

# What a fresh Debian lacks besides Go: a C compiler for runc and the pause
# image, and libseccomp's headers, by which runc confines system calls.
deps:
	@command -v gcc >/dev/null && command -v ip >/dev/null && command -v pkg-config >/dev/null && pkg-config --exists libseccomp || { \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev iproute2 pkg-config libseccomp-dev; }

build: deps $(BIN)/containerd $(BIN)/containerd-shim-runc-v2 $(BIN)/runc images
	$(GO) build -trimpath -ldflags "-s -w" -o $(BIN)/binnacle ./cmd/binnacle
	$(STATIC) -o $(BIN)/binnacle-cni ./cmd/binnacle-cni
	$(GO) build -trimpath -ldflags "-s -w $(KUBECTL_VERSION)" -o $(BIN)/kubectl ./cmd/kubectl

# The container runtime comes from go.mod; it changes only with it.
$(BIN)/containerd: go.mod
	$(GO) build -trimpath -ldflags "-s -w" -o $@ github.com/containerd/containerd/v2/cmd/containerd
$(BIN)/containerd-shim-runc-v2: go.mod
	$(STATIC) -o $@ github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
$(BIN)/runc: go.mod | deps
	$(GO) build -trimpath -tags seccomp -ldflags "-s -w" -o $@ github.com/opencontainers/runc

# Other people's clients that the end-to-end tests use, from a go.mod of their own;
# Debian 12's kubectl is the one of four years ago.
clients: $(BIN)/helm $(BIN)/k9s $(BIN)/kubectl-1.20
$(BIN)/helm: test/e2e/clients/go.mod
	cd test/e2e/clients && CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o $(abspath $@) helm.sh/helm/v3/cmd/helm
$(BIN)/k9s: test/e2e/clients/go.mod
	cd test/e2e/clients && CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w" -o $(abspath $@) github.com/derailed/k9s
$(BIN)/kubectl-1.20:
	@mkdir -p $(BIN)/debian
	cd $(BIN)/debian && { apt-get download -qq -o APT::Sandbox::User=root kubernetes-client || \
		{ apt-get update -qq && apt-get download -qq -o APT::Sandbox::User=root kubernetes-client; }; }
	dpkg-deb --fsys-tarfile $(BIN)/debian/kubernetes-client_*.deb | tar -xO ./usr/bin/kubectl >$@
	chmod +x $@

GUESTBOOK := binnacle.io/guestbook
images: $(BIN)/images/pause.tar $(BIN)/images/guestbook-frontend-1.tar $(BIN)/images/guestbook-frontend-2.tar $(BIN)/images/guestbook-store.tar

$(BIN)/pack: $(wildcard examples/pack/*.go) go.mod
	$(GO) build -o $@ ./examples/pack
$(BIN)/images/pause: core/node/pause/pause.c
	@mkdir -p $(@D)
	gcc -Os -static -s -o $@ $<
$(BIN)/images/pause.tar: $(BIN)/images/pause $(BIN)/pack
	$(BIN)/pack --out $@ --tag binnacle.io/pause:1 --entrypoint /pause $<:/pause
$(BIN)/images/guestbook-frontend-%.tar: $(wildcard examples/guestbook/frontend/*.go) $(BIN)/pack
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$*" -o $(BIN)/images/frontend-$* ./examples/guestbook/frontend
	$(BIN)/pack --out $@ --tag $(GUESTBOOK)-frontend:$* --entrypoint /bin/frontend $(BIN)/images/frontend-$*:/bin/frontend
$(BIN)/images/guestbook-store.tar: $(wildcard examples/guestbook/store/*.go) $(BIN)/pack
	$(STATIC) -o $(BIN)/images/store ./examples/guestbook/store
	$(BIN)/pack --out $@ --tag $(GUESTBOOK)-store:1 --entrypoint /bin/store $(BIN)/images/store:/bin/store

# Every test. Packages are tested two at a time: many of them start an etcd or
# own a network namespace; the end-to-end story runs alone, after them.
TESTFLAGS ?=
test: build clients vet ui-check
	$(GO) test $(TESTFLAGS) -p 2 -timeout 20m $$($(GO) list ./... | grep -v /test/e2e)
	$(MAKE) race
	$(GO) test $(TESTFLAGS) -count 1 -timeout 20m ./test/e2e

test-unit:
	$(GO) test -short ./...

vet:
	$(GO) vet ./...
	@files=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$files" ] || { echo "not gofmt'ed: $$files"; exit 1; }

# The packages with shared state, under the race detector.
race:
	$(GO) test -race -short -p 2 -timeout 20m ./core/store ./core/controller/... ./core/scheduler ./core/events ./core/auth ./core/proxy ./test/controlplane

# Upstream's conformance tests against a running cluster, from the shared suite;
# ARGS='--sig auth' and the like select. The test of test/conformance runs the
# quick ones by itself.
KUBECONFIG ?= /etc/binnacle/kubeconfig
conformance:
	test/conformance/run --kubeconfig $(KUBECONFIG) $(ARGS)

# The checked-in UI is what its source makes; skipped where there is no node.
ui-check:
	@if command -v npm >/dev/null; then cd dashboards/ui && npm ci --no-audit --no-fund --silent && npm run --silent check; else echo "npm is not installed: the UI is not rebuilt"; fi

up: build
	$(BIN)/binnacle up

# Needs a running node and what make build made.
demo:
	$(GO) build -trimpath -o $(BIN)/binnacle-demo ./examples/demo
	$(BIN)/binnacle-demo

# The speed table against an upstream cluster on this machine:
# make bench BENCHFLAGS="--upstream KUBECONFIG --binnacle KUBECONFIG"
bench:
	$(GO) run ./test/bench $(BENCHFLAGS)

down:
	$(BIN)/binnacle down

clean:
	rm -rf $(BIN)
