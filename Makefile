# Needs Go, git, make and bash; `make test` also needs a C compiler, for the race detector. Nothing here needs root.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# Two builds at once are slower than one after the other on the two cores that CI has, and measurements need a quiet machine.
.NOTPARALLEL:

VERSION := $(shell git describe --always --dirty --tags 2>/dev/null || echo dev)

# What is shipped: static, stripped, the same bytes wherever it is built. Without HTTP/2, which nobody spoken to needs: it would
# add 0.4 MB to what is loaded in every cold start. Without templates, which call methods by name, so that the linker keeps every
# operation of the SDK (13 MB each): the registrator has them by the RPC interface of the retired go1.x runtime, the person's command
# by the help of its flags, which is the same without.
GOBUILD = CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags nethttpomithttp2,lambda.norpc,urfave_cli_no_template \
	-ldflags '-s -w -X github.com/consul-lambda/consul-lambda/internal/version.linked=$(VERSION)'

# The extension is read from disk in every cold start. The other two are not: their bound is there to tell when templates are back.
EXTENSION_MAX_BYTES := 8000000
OTHERS_MAX_BYTES := 15000000

# For `make test`: TESTFLAGS='-run Drain -count 10'. For `make fuzz`: a duration or a number of inputs (2000x), for each target.
TESTFLAGS ?=
FUZZTIME ?= 30s
# For `make soak`: as long as wanted (8h).
SOAK ?= 20m
SOAKFLAGS ?=
# For `make bench`: BENCHFLAGS='--only down,up --peer predecessor=PATH'.
BENCHFLAGS ?=
# For `make bench-micro`: which benchmarks, and how often each; benchstat wants six for a confidence of 95 %.
BENCH ?= .
BENCHCOUNT ?= 6

##@ Use

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: ## build the commands and the example function for this machine into bin/
	$(GOBUILD) -o bin/ ./cmd/... ./examples/...

.PHONY: demo
demo: ## build, then see a function talk through a mesh that lives on this machine only
	@echo 'building; the first time takes a few minutes'
	@TIMEFORMAT='build: %1R s'; time $(MAKE) --no-print-directory build
	@TIMEFORMAT='demo: %1R s'; time bin/consul-lambda demo

# For the oldest processors of each kind, which is what Lambda has some of, whatever GOAMD64 and GOARM64 say.
.PHONY: dist
dist: bin/sbom ## build what is released into dist/: programs, layers, functions, licenses, bills of materials, checksums
	rm -rf dist
	for arch in amd64 arm64; do \
		export GOARCH=$$arch GOAMD64=v1 GOARM64=v8.0; \
		GOOS=linux $(GOBUILD) -o dist/linux_$$arch/ ./cmd/... ./examples/...; \
		GOOS=darwin $(GOBUILD) -o dist/darwin_$$arch/ ./cmd/consul-lambda; \
	done
	bin/sbom dist
	go run ./internal/release dist
	@cat dist/SHA256SUMS

.PHONY: dist-check
dist-check: dist bin/containerfile ## build what is released, here and in another folder, and check all of it; COLD=1: without the cache
	COLD='$(COLD)' DIST='$(CURDIR)/dist' VERSION='$(VERSION)' MAX_BYTES=$(EXTENSION_MAX_BYTES) \
		go test -count=1 -timeout 20m -run '^TestDist' -v ./internal/release | grep -vE '^(=== |    --- PASS)'
	bin/containerfile deploy/registrator.Containerfile dist

.PHONY: clean
clean: ## remove what make has built
	rm -rf bin dist

##@ Develop

.PHONY: test
test: ## run all tests but the fault matrix with the race detector, end to end in the lab
	@mkdir -p bin
	go test -race -timeout 5m $(TESTFLAGS) ./... 2>&1 | tee bin/test.log
	@awk '/^ok/ && !/no tests to run/ { ran++ } END { if (!ran) print "no test ran"; exit !ran }' bin/test.log

.PHONY: test-fast
test-fast: ## the same without the race detector, within a minute; needs no C compiler
	go test $(TESTFLAGS) ./...

.PHONY: test-faults
test-faults: ## run the fault matrix, every fault in every phase of the extension's life, and other TLS peers; time is part of it
	@mkdir -p bin
	FAULTS=1 go test -p 1 -count=1 -timeout 5m -v ./internal/soak ./internal/tlspeers | tee bin/faults.log | grep -vE '^(=== | *--- PASS|PASS)'
	@grep -q -e '^--- PASS: TestTheFaultMatrix ' bin/faults.log || { echo 'the matrix did not run' >&2; exit 1; }

.PHONY: test-e2e
test-e2e: bin/consul bin/xdsdump ## run all of it against a real Consul, on loopback
	E2E=1 CONSUL_REQUIRED=1 go test -count=1 -timeout 15m $(TESTFLAGS) ./internal/e2e ./internal/lab/consulproc ./internal/lab/consulsim

.PHONY: soak
soak: build ## break the extension at random for SOAK, beside traffic that is checked byte by byte; SOAKFLAGS='-markdown FILE'
	@go run ./internal/soak -for $(SOAK) $(SOAKFLAGS)

.PHONY: fuzz
fuzz: ## fuzz every target in turn, each for FUZZTIME
	@tools/fuzz.sh $(FUZZTIME)

.PHONY: bench
bench: bench-build ## measure whole proxies side by side into BENCHMARKS.md; a quarter of an hour on a quiet machine
	bin/consul-lambda bench --json bench/results/bench.json --markdown BENCHMARKS.md $(BENCHFLAGS)

.PHONY: bench-quick
bench-quick: bench-build ## the same within a minute, written nowhere: to see that it works
	bin/consul-lambda bench --quick $(BENCHFLAGS)

# First the tests that hold allocations to a number, in every package that has some: they log what they counted. The rest is
# checked whether these pass or not.
.PHONY: bench-ci
bench-ci: bench-build ## check that nothing became slower: allocations, system calls; CPU, latency, memory beside the baseline
	@failed=0; \
	packages=$$(grep -rl 'testing\.AllocsPerRun' --include='*_test.go' . | xargs -r -n1 dirname | sort -u); \
	go test -count=1 -v -run Allocat $$packages | tee bin/alloc.log | grep -vE '^(===|PASS)' || failed=1; \
	! grep -q 'no tests to run' bin/alloc.log || failed=1; \
	bin/consul-lambda bench --ci bench/ci.json || failed=1; \
	exit $$failed

.PHONY: check-calls
check-calls: bench-build ## the part of bench-ci that is exact on any machine: allocations and system calls
	@packages=$$(grep -rl 'testing\.AllocsPerRun' --include='*_test.go' . | xargs -r -n1 dirname | sort -u); \
	go test -count=1 -v -run Allocat $$packages | tee bin/alloc.log | grep -vE '^(===|PASS)'; \
	! grep -q 'no tests to run' bin/alloc.log
	bin/consul-lambda bench --ci bench/ci.json --counts

.PHONY: bench-ci-update
bench-ci-update: bench-build ## make what bench-ci expects from what is measured now; nothing else should run meanwhile
	bin/consul-lambda bench --ci bench/ci.json --update

.PHONY: bench-build
bench-build: build
	$(GOBUILD) -o bin/bench-baseline ./bench/baseline

.PHONY: bench-peers
bench-peers: ## install the proxies that bench compares with, on Debian, as root; none is left running
	apt-get update
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends haproxy nginx libnginx-mod-stream stunnel4

.PHONY: bench-micro
bench-micro: bin/benchstat ## run the benchmarks matching BENCH, each BENCHCOUNT times, and sum them up
	@packages=$$(grep -rlE '^func Benchmark' --include='*_test.go' . | xargs -r -n1 dirname | sort -u); \
	[ -n "$$packages" ] || { echo 'no package has a benchmark' >&2; exit 1; }; \
	go test -run '^$$' -bench '$(BENCH)' -benchmem -count $(BENCHCOUNT) -timeout 60m $$packages | tee bin/bench.txt
	bin/benchstat bin/bench.txt

.PHONY: lint
lint: bin/golangci-lint ## check the sources, those of our tools too, against .golangci.yml
	bin/golangci-lint run ./...
	@for mod in tools/*/; do \
		[ -n "$$(find $$mod -name '*.go' -print -quit)" ] || continue; \
		echo "golangci-lint for $$mod"; (cd $$mod && ../../bin/golangci-lint run --config ../../.golangci.yml ./...); \
	done

.PHONY: fmt
fmt: ## format the sources
	gofmt -s -w .

# A tool is built once for each version that its module pins.
bin/golangci-lint: tools/lint/go.mod tools/lint/go.sum
	cd tools/lint && CGO_ENABLED=0 go build -o ../../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

bin/sbom: tools/sbom/go.mod tools/sbom/go.sum tools/sbom/main.go
	cd tools/sbom && CGO_ENABLED=0 go build -o ../../$@ .

bin/containerfile: tools/containerfile/go.mod tools/containerfile/go.sum tools/containerfile/main.go
	cd tools/containerfile && CGO_ENABLED=0 go build -o ../../$@ .

bin/xdsdump: $(wildcard tools/xds/xdsdump/*.go) tools/xds/go.mod tools/xds/go.sum
	cd tools/xds && CGO_ENABLED=0 go build -o ../../$@ ./xdsdump

bin/benchstat: tools/bench/go.mod tools/bench/go.sum
	cd tools/bench && CGO_ENABLED=0 go build -o ../../$@ golang.org/x/perf/cmd/benchstat

.PHONY: deploy-docs
deploy-docs: bin/tfcheck ## write the tables of variables in the READMEs of the Terraform modules
	bin/tfcheck docs -w deploy/terraform/modules/* deploy/terraform/examples/*

bin/tflint: tools/tflint/go.mod tools/tflint/go.sum
	cd tools/tflint && CGO_ENABLED=0 go build -o ../../$@ github.com/terraform-linters/tflint

bin/tfcheck: $(wildcard tools/tfcheck/*.go) tools/tfcheck/go.mod tools/tfcheck/go.sum
	cd tools/tfcheck && CGO_ENABLED=0 go build -o ../../$@ .

.PHONY: consul
consul: bin/consul ## build the Consul server that tests compare with; four minutes when nothing is cached
	@bin/consul version

# Its 1,700 packages are counted, because go build says nothing for minutes otherwise.
bin/consul: tools/consul/go.mod tools/consul/go.sum
	@cd tools/consul && packages=$$(go list -deps github.com/hashicorp/consul | wc -l) && \
	CGO_ENABLED=0 go build -v -ldflags '-s -w' -o ../../$@ github.com/hashicorp/consul 2>&1 | awk -v all="$$packages" \
		'/^[^ ]+$$/ { if (++built % 100 == 0) { printf "consul: %d of %d packages\n", built, all; fflush() } next } \
		!/^go: downloading/ { print; fflush() }'

##@ Check

CI_STEPS := check-format check-tidy vet check-size check-arm64 lint check-test test-faults check-fuzz demo check-calls dist-check deploy-check test-e2e

.PHONY: ci
ci: ## everything that a change must pass, cheapest first
	@table=; for step in $(CI_STEPS); do \
		printf '\n=== %s\n' $$step; start=$$SECONDS; \
		$(MAKE) --no-print-directory $$step || { printf '=== %s failed after %d s\n' $$step $$((SECONDS - start)); exit 1; }; \
		took=$$((SECONDS - start)); printf '=== %s passed in %d s\n' $$step $$took; \
		table+=$$(printf '%5d s  %s' $$took $$step)$$'\n'; \
	done; \
	printf '\n%s%5d s  in all, version %s\n' "$$table" $$SECONDS '$(VERSION)'

.PHONY: check-format
check-format: ## every Go file is as gofmt leaves it
	@files=$$(gofmt -s -l .); [ -z "$$files" ] || { printf 'run make fmt for:\n%s\n' "$$files" >&2; exit 1; }

.PHONY: check-tidy
check-tidy: ## go.mod and go.sum of every module say what the sources import
	@for mod in go.mod tools/*/go.mod; do echo "go mod tidy -diff for $$mod"; (cd "$$(dirname "$$mod")" && go mod tidy -diff); done

.PHONY: vet
vet: ## go vet
	go vet ./...

.PHONY: check-size
check-size: ## the stripped programs for amd64 are within EXTENSION_MAX_BYTES and OTHERS_MAX_BYTES
	@GOOS=linux GOARCH=amd64 $(GOBUILD) -o bin/linux_amd64/ ./cmd/...
	@failed=0; \
	for program in consul-lambda-extension consul-lambda-registrator consul-lambda; do \
		most=$(OTHERS_MAX_BYTES); [ $$program != consul-lambda-extension ] || most=$(EXTENSION_MAX_BYTES); \
		size=$$(wc -c <bin/linux_amd64/$$program); \
		printf '%s has %d bytes, %d are allowed\n' $$program $$size $$most; \
		[ $$size -le $$most ] || failed=1; \
	done; \
	exit $$failed

.PHONY: check-arm64
check-arm64: ## the commands build for arm64
	GOOS=linux GOARCH=arm64 $(GOBUILD) -o bin/linux_arm64/ ./cmd/...

.PHONY: check-test
check-test: ## make test, with nothing taken from the cache; and as shipped, what the race detector or a build tag changes
	@$(MAKE) --no-print-directory test TESTFLAGS=-count=1
	CGO_ENABLED=0 go test -count=1 -tags urfave_cli_no_template -run TestScripts/help ./cmd/consul-lambda
	CGO_ENABLED=0 go test -count=1 ./internal/sock

# A number of inputs, because a duration can end in a false alarm (see tools/fuzz.sh).
.PHONY: check-fuzz
check-fuzz: ## make fuzz, seconds for each target
	@$(MAKE) --no-print-directory fuzz FUZZTIME=1000x

.PHONY: deploy-check
deploy-check: bin/tflint bin/tfcheck ## check the Terraform modules; needs terraform 1.11 and the AWS provider (TF_PLUGIN_DIR, or the registry)
	deploy/terraform/check.sh

.PHONY: deploy-check-seeded
deploy-check-seeded: bin/tflint ## show that each of these checks finds its mistake; about eight minutes
	cd tools/tfcheck && go test -count=1 -timeout 20m ./...
