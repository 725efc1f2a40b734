# SPDX-License-Identifier: Apache-2.0

SHELL      := /bin/bash
CLANG        ?= clang-14
LLVM_STRIP   ?= llvm-strip-14
CLANG_FORMAT ?= clang-format-14
C_FILES      := $(wildcard bpf/*.[ch] bpf/headers/*.h test/bench/classic/bpf/*.c)
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
GOBUILD    := CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X github.com/sockmap-cni/sockmap-cni/pkg/version.version=$(VERSION)'
# Builds and starts the benchmarks, which are in a module of their own.
BENCH      := cd test/bench && $(GOBUILD) -o ../../bin/bench . && cd ../.. && bin/bench
TOOLS      := go tool -modfile=test/tools/go.mod

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/sockmap and bin/sockmapctl, static
	$(GOBUILD) -o bin/ ./plugin/sockmap ./plugin/sockmapctl

.PHONY: demo
demo: ## two containers, real traffic, with and without sockmap (root)
	@test/setup.sh demo
	@go run ./test/show/demo

.PHONY: test
# test-host runs the same on this kernel. The conformance suite takes 15 minutes on two more kernels: make test-vm.
test: VM_RUN := -guests -leave-out 6.12/conformance,7/conformance
test: test-host test-bench test-speed test-race test-conformance test-packaging test-release test-runtimes test-containerd test-vm ## every test, group by group (root; installs the Debian packages that it needs)

.PHONY: test-host
test-host: ## the tests on this machine's kernel
	@test/setup.sh test
	go test -count=1 -timeout 25m $$(go list ./... | grep -v -e '/test/conformance$$' -e '/test/e2e/containerd$$' -e '/test/e2e/crio$$' -e '/test/cluster$$')
	@# Alone, because it measures the memory of the whole machine.
	go -C test/bench test -count=1 ./stopped
	go -C test/docs vet ./... && go -C test/docs test -count=1 ./...
	go -C test/cli test -count=1 -timeout 15m ./...

# Without packages whose tests measure times or load programs hundreds of times: the detector makes them too slow.
RACE := admit agent cgroup cniconf conntrack explain install lock metrics netns pods tap version

.PHONY: test-race
test-race: ## the packages that run several goroutines, under the race detector (root; installs gcc)
	@test/setup.sh race
	CGO_ENABLED=1 go test -race -count=1 -timeout 20m $(RACE:%=./pkg/%) ./test/lab/traffic

.PHONY: test-bench
test-bench: ## each benchmark once with its smallest setting, and the unit tests of the benchmarks: 1 minute (root; installs programs)
	@test/setup.sh bench
	@# One package after the other, because some measure.
	go -C test/bench test -p 1 -count=1 $$(go -C test/bench list ./... | grep -v '/stopped$$')

.PHONY: test-speed
test-speed: ## no traffic is slower than plain TCP: 2 minutes (root; an idle machine with two CPUs)
	@test/setup.sh test
	$(BENCH) micro -check

.PHONY: test-conformance
test-conformance: ## the socket API, plain against accelerated, on this machine's kernel (root)
	@test/setup.sh test
	@# Alone, because it compares times, too. On loopback with and without guards, elsewhere with guards.
	go test -count=1 -timeout 20m ./test/conformance
	go test -count=1 -timeout 20m ./test/conformance -run '^TestDifferencesAreKnownWithGuards$$' -places pod,pods,pods6,service

.PHONY: test-containerd
test-containerd: ## pods of the real containerd (root; installs runc, builds containerd: minutes the first time)
	@test/setup.sh containerd
	go test -count=1 -timeout 40m ./test/e2e/containerd

.PHONY: test-crio
test-crio: ## adoption of pods of the real CRI-O; keeps the results for docs/RUNTIMES.md (root; installs conmon and runc, builds CRI-O: minutes the first time)
	@test/setup.sh crio
	go test -count=1 -timeout 40m ./test/e2e/crio
	cp .cache/crio/rows/crio.json test/e2e/runtimes/seldom/

RUN := TestCluster
.PHONY: test-cluster
test-cluster: ## a real Kubernetes on this machine: the chart, real pods, upgrade, reboot, uninstall (root; builds Kubernetes: long the first time; RUN=TestCluster/upgrade)
	@test/setup.sh cluster
	go test -count=1 -v -timeout 75m -run '^$(RUN)' ./test/cluster

.PHONY: lint
lint: ## formatting, vet, staticcheck, layout rules (installs clang-format 14)
	@test/setup.sh lint
	@$(CLANG_FORMAT) --dry-run -Werror $(C_FILES) || { echo "run make format-c"; exit 1; }
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); [[ -z $$unformatted ]] || { echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	GOARCH=arm64 go vet ./...
	go -C test/bench vet ./...
	go -C test/cli vet ./...
	go vet -tags lean ./plugin/sockmapctl
	$(TOOLS) staticcheck ./...
	go test ./test/layout

.PHONY: format-c
format-c: ## format the C files, as lint checks it
	@test/setup.sh lint
	$(CLANG_FORMAT) -i $(C_FILES)

.PHONY: generate
generate: ## rebuild the BPF objects and their Go bindings (clang 14, libbpf-dev)
	BPF_SYSTEM_INCLUDE=/usr/include/$(shell uname -m)-linux-gnu BPF2GO_CC=$(CLANG) BPF2GO_STRIP=$(LLVM_STRIP) go generate ./pkg/...
	BPF_SYSTEM_INCLUDE=/usr/include/$(shell uname -m)-linux-gnu BPF2GO_CC=$(CLANG) BPF2GO_STRIP=$(LLVM_STRIP) go -C test/bench generate ./classic

.PHONY: check-generated
check-generated: ## the committed BPF objects are equal to a fresh build of bpf/ (installs clang 14)
	@test/setup.sh generate
	@$(MAKE) --no-print-directory generate
	@git diff --exit-code --stat -- '*_bpfel.go' '*_bpfel.o' || { echo "The committed objects differ from a fresh build: run 'make generate' with $(CLANG) and commit the result."; exit 1; }

ARCHITECTURES := amd64 arm64

.PHONY: cross
cross: ## bin/linux/{amd64,arm64}: both programs, for archives and packages
	@for arch in $(ARCHITECTURES); do GOOS=linux GOARCH=$$arch $(GOBUILD) -o bin/linux/$$arch/ ./plugin/sockmap ./plugin/sockmapctl || exit; done

.PHONY: image-binaries
image-binaries: ## bin/image/{amd64,arm64}: both programs without the commands for people at a terminal, for conf/Dockerfile
	@for arch in $(ARCHITECTURES); do \
		GOOS=linux GOARCH=$$arch $(GOBUILD) -o bin/image/$$arch/ ./plugin/sockmap && \
		GOOS=linux GOARCH=$$arch $(GOBUILD) -tags lean -o bin/image/$$arch/ ./plugin/sockmapctl || exit; \
	done

.PHONY: packages
packages: build cross ## bin/packages: deb and rpm packages for amd64 and arm64, the same bytes for the same commit
	@conf/packages/build.sh '$(VERSION)'

# The builder's environment changes no byte of a release. The commit that go and git record is a part of it.
release: export GOFLAGS := -buildvcs=true
release: export GOAMD64 := v1
release: export GOARM64 := v8.0
release: export GOEXPERIMENT :=
release: export GOFIPS140 := off
release: export GODEBUG :=
release: export GOWORK := off
release: export LC_ALL := C.UTF-8
release: export TZ := UTC
.PHONY: release
release: ## bin/release: archives, image, chart, packages, SBOM, manual pages, checksums (VERSION=v1.2.3, the tag of this commit; IMAGE=REGISTRY/NAME for the chart; ALLOW_DIRTY=1 for a trial)
	@version=$$(go -C conf/release run . check '$(VERSION)') && \
	$(MAKE) --no-print-directory VERSION="$$version" packages image-binaries man && \
	IMAGE='$(IMAGE)' go -C conf/release run . assemble "$$version"

.PHONY: release-push
release-push: ## the image of bin/release to a registry (VERSION=v1.2.3 IMAGE=REGISTRY/NAME, after docker login)
	@IMAGE='$(IMAGE)' go -C conf/release run . push '$(VERSION)'

.PHONY: manifests
manifests: ## conf/kubernetes/manifests from the Helm chart, and the Grafana dashboard
	go -C test/packaging run ./generate $(CURDIR)/conf

.PHONY: test-packaging
test-packaging: build cross image-binaries ## chart, manifests, image, deb and rpm packages, alert rules and dashboard (root; installs buildah, rpm, mmdebstrap)
	@test/setup.sh packaging
	go -C conf/packages test -count=1 ./...
	go -C test/packaging vet ./...
	go -C test/packaging test -count=1 ./...

.PHONY: test-release
test-release: ## two builds of a release in different directories are equal, and the content of each artefact is right: 3 minutes (root; installs buildah, rpm)
	@test/setup.sh packaging
	go -C conf/release vet ./...
	go -C conf/release test -count=1 -timeout 20m ./...

.PHONY: bench-add
bench-add: ## the time that sockmap adds to ADD and DEL (root; installs iptables)
	@test/setup.sh bench
	$(BENCH) scale -run '^add/'

.PHONY: bench-scale
bench-scale: ## many flows, a full map, a full node, ADD and DEL; into .cache/bench/scale.json (root; installs iptables; FLAGS=-quick)
	@test/setup.sh bench
	$(BENCH) scale $(FLAGS)

.PHONY: bench-guards
bench-guards: ## the cost of the guards for each system call: in ns on this kernel, in instructions on Debian's in QEMU (root)
	$(BENCH) guards
	go run ./test/vm run -icount -- $(CURDIR)/bin/bench guards -rounds 3 -batches 40 -stats=false -json '$$VM_OUT/guards.json'

INSTRUCTIONS := .cache/bench/instructions
.PHONY: bench-instructions
bench-instructions: ## instructions per request on Debian's kernels in QEMU with all guards, plain TCP against sockmap: 20 minutes (root; installs QEMU and programs)
	@test/setup.sh bench
	@test/setup.sh test-vm
	$(BENCH) instructions build
	go run ./test/vm run -icount -manifest test/bench/instructions/manifest.json -kernel 6.1,6.12,7 -out $(INSTRUCTIONS)
	bin/bench instructions keep $(INSTRUCTIONS)
	bin/bench instructions table -into docs/PERFORMANCE.md

.PHONY: bench-programs
bench-programs: ## redis, nginx, PostgreSQL and others, without and with sockmap: 6 minutes (root; installs them)
	@test/setup.sh bench
	$(BENCH) programs

.PHONY: bench-tap
bench-tap: ## the cost of a tap for each message, with and without a listener (root)
	$(BENCH) tap

.PHONY: bench
bench: ## all performance measurements, then docs/PERFORMANCE.md with their results (root; installs programs; an idle machine, 20 minutes)
	@test/setup.sh bench
	$(BENCH) micro
	bin/bench programs
	bin/bench scale
	@$(MAKE) --no-print-directory bench-report

.PHONY: bench-quick
bench-quick: ## the small measurements only, within two minutes and with wider intervals (root)
	@test/setup.sh bench
	$(BENCH) micro -quick -o .cache/bench-quick/micro.json

.PHONY: bench-report
bench-report: ## keep the results of the last measurements, and write docs/PERFORMANCE.md, its pictures and README's ratios
	test ! -d .cache/bench || { $(BENCH) report -keep test/bench/results .cache/bench; }
	$(BENCH) report -into docs/PERFORMANCE.md -images docs/images -range README.md test/bench/results

.PHONY: conformance
conformance: ## the socket API, plain against accelerated (root; installs the Debian packages that it needs)
	@test/setup.sh test
	go run ./test/conformance/cmd/conformance

.PHONY: test-vm
test-vm: ## data path, probes, guards and conformance under Debian's kernels in QEMU, and under this machine's (root; installs QEMU)
	@test/setup.sh test-vm
	go run ./test/vm fetch
	go run ./test/vm run $(VM_RUN)

.PHONY: test-vm-all
test-vm-all: ## the same under every kernel of test/vm/kernels.txt: arm64, 16 KiB pages, PREEMPT_RT, lockdown; 2 hours, VM_RUN=-whole: every test of the data path (root; installs QEMU)
	@test/setup.sh test-vm
	go run ./test/vm fetch -kernel all
	go run ./test/vm run -kernel all $(VM_RUN) -out .cache/vm/all -limit 6h
	go run ./test/vm keep .cache/vm/all
	go run ./test/vm table -seldom -into docs/KERNELS.md

PROGRAMS_RUN := go run ./test/vm run -kernel 6.1,6.12,7 -out .cache/programs
.PHONY: test-programs
test-programs: ## real programs in pods, with the guards, under Debian's kernels in QEMU: those that start quickly (root; installs QEMU, mmdebstrap)
	@test/setup.sh test-programs
	go run ./test/programs build
	$(PROGRAMS_RUN) -manifest test/programs/manifest.json

.PHONY: test-programs-all
test-programs-all: ## the same with the slow ones (Java, RabbitMQ); keeps the results for docs/PROGRAMS.md: 20 minutes
	@test/setup.sh test-programs
	go run ./test/programs build
	$(PROGRAMS_RUN) -manifest test/programs/manifest-all.json
	go run ./test/programs keep .cache/programs

.PHONY: test-runtimes
test-runtimes: ## the calls of each container runtime, by its library or by the runtime itself (root; installs podman and runc)
	@test/setup.sh runtimes
	cd test/e2e/runtimes && go vet ./... && go test -count=1 -timeout 20m ./...

.PHONY: docs
docs: ## the tables of docs/KERNELS.md, docs/TRANSPARENCY.md, docs/PROGRAMS.md and docs/RUNTIMES.md, from the results of the last tests
	go run ./test/vm table -into docs/KERNELS.md
	go run ./test/conformance/report -into docs/TRANSPARENCY.md .cache/vm/results
	go run ./test/programs table -into docs/PROGRAMS.md
	cd test/e2e/runtimes && go run ./report -into ../../../docs/RUNTIMES.md ../../../.cache/runtimes seldom

.PHONY: man
man: build ## manual pages of sockmapctl, in bin/man
	@rm -rf bin/man
	bin/sockmapctl docs tree | go -C conf/packages run ./man $(CURDIR)/bin/man

.PHONY: picture
picture: ## docs/images/top.svg, from sockmapctl top and real traffic (root; installs tmux)
	@test/setup.sh test
	go run ./test/show/picture -o docs/images/top.svg

.PHONY: soak
soak: ## an hour of random traffic between 16 pods while the node changes, each byte checked (root)
	go run ./test/soak -duration 1h

.PHONY: clean
clean: ## remove everything that make built
	rm -rf bin .cache
