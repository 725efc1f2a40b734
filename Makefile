# SPDX-License-Identifier: Apache-2.0

CLANG      ?= clang-14
LLVM_STRIP ?= llvm-strip-14

.PHONY: generate
generate: ## rebuild the BPF objects and their Go bindings (needs clang 14, libbpf-dev)
	BPF_SYSTEM_INCLUDE=/usr/include/$(shell uname -m)-linux-gnu BPF2GO_CC=$(CLANG) BPF2GO_STRIP=$(LLVM_STRIP) go generate ./pkg/...
