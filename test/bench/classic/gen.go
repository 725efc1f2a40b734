// SPDX-License-Identifier: Apache-2.0

package classic

// `make generate` sets BPF_SYSTEM_INCLUDE to the directory where this machine keeps asm/types.h, and the
// compiler.
//go:generate go tool -modfile=../../tools/go.mod bpf2go -go-package classic -target bpfel classic bpf/classic.bpf.c -- -O2 -g -Wall -Wextra -Werror -mcpu=v3 -idirafter $BPF_SYSTEM_INCLUDE
