# `make` alone lists the targets.
GO       ?= go
BUILD    ?= build
PACKAGES ?= ./...
FUZZTIME ?= 30s
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X github.com/keyholed/keyhole/internal/version.linked=$(VERSION)
STATIC   := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'

.PHONY: help build demo test test-full lint fuzz bench bench-relay bench-basestation test-systemd test-remote cross clean packages

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## keyholed, keyhole and keyhole-basestation, static, into build/
	$(STATIC) -o $(BUILD)/ ./cmd/...
	@cd $(BUILD) && ls -l keyholed keyhole keyhole-basestation | awk '{printf "%-20s %10d bytes\n", $$NF, $$5}'

demo: build ## basestation, board, camera and client on this machine: press, pair, watch
	$(BUILD)/keyhole demo

packages:
	@testbed/prepare

test: packages ## everything that CI runs (as root: installs what it needs)
	@$(MAKE) --no-print-directory lint
	$(GO) test -race -timeout 15m $(PACKAGES)

test-full: packages ## kill, power-cut, corruption, flood, pairing and button trials in full count (an hour)
	KEYHOLE_FULL=1 $(GO) test -timeout 3h -v -run 'Kill|Cut|Corrupt|Random|Odd|Revo|BadNetwork|HostileLoad|ManySessions|Stalled' ./protocol/attach ./protocol/session ./acl ./pairing ./hal/... ./tunnel ./daemon

test-remote: packages ## all that goes beyond the LAN, by itself: tables and times of every pair of routers, a relay on a lossy line (root)
	KEYHOLE_FULL=1 $(GO) test -count=1 -timeout 15m -v -run 'NATMatrix|LongLines|FirstContact' ./protocol/reach
	KEYHOLE_FULL=1 $(GO) test -count=1 -timeout 15m -v -run 'Remote' ./testbed/e2e

test-systemd: packages build ## the units and the daemon under a real systemd (root)
	testbed/sysbox/run-tests $(BUILD)/keyholed $(BUILD)/keyhole-basestation

lint: ## gofmt, go vet, staticcheck
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt would change:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	GOARCH=arm GOARM=7 $(GO) vet ./cmd/...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...

fuzz: ## every fuzz target for FUZZTIME (30s) each
	@testbed/fuzz $(FUZZTIME)

bench: packages build ## side by side with what people use instead; prints ratios
	$(GO) run ./testbed/bench -bin $(BUILD)

bench-relay: packages ## our relay, and HAProxy in its place
	$(GO) run ./testbed/bench -relay

bench-basestation: build ## a million simulated devices and a real basestation (15 minutes; BENCHBASE="-quick": one)
	$(GO) run ./testbed/benchbase -bin $(BUILD)/keyhole-basestation $(BENCHBASE)

cross: ## the programs for the usual boards, with their sizes
	@for arch in amd64 arm64 arm riscv64 mipsle; do \
	  GOARCH=$$arch GOARM=7 GOMIPS=softfloat $(STATIC) -o $(BUILD)/linux-$$arch/ ./cmd/... || exit 1; \
	  ls -l $(BUILD)/linux-$$arch | awk -v a=$$arch 'NR > 1 {printf "%-8s %-20s %10d bytes\n", a, $$NF, $$5}'; done
	GOOS=darwin $(STATIC) -o $(BUILD)/darwin/ ./cmd/keyhole
	GOOS=windows $(STATIC) -o $(BUILD)/windows/ ./cmd/keyhole

clean: ## remove build/
	rm -rf $(BUILD)
