// SPDX-License-Identifier: Apache-2.0

// Package bpf holds the compiled BPF programs, and Go types, constants and names of what crosses to user
// space. All but this file and objects.go is generated from bpf/ in the root of the repository. Only
// pkg/datapath uses it.
package bpf

// `make generate` sets BPF_SYSTEM_INCLUDE to the directory where this machine keeps asm/types.h, and the
// compiler.
//go:generate -command bpf2go go tool -modfile=../../../../test/tools/go.mod bpf2go -go-package bpf -cflags "-O2 -g -Wall -Wextra -Werror -mcpu=v3 -I../../../../bpf -I../../../../bpf/headers -idirafter $BPF_SYSTEM_INCLUDE"
//go:generate bpf2go -target bpfel -output-stem sockmap -type flow_record -type role -type mode -type reason -type result -type peers -type learn -type event -type tap_record -type tap_filter -type share -type coexist -type helpers_mode -type avoided -type end_flag -type habit -type asked_hazard -type window_number -type tick -type abi -type avoid_time -type call_bucket -type tap_size -type stays Sockmap ../../../../bpf/sockmap.bpf.c
//go:generate bpf2go -target amd64,arm64 -output-stem guard -no-global-types Guard ../../../../bpf/guard.bpf.c
//go:generate bpf2go -target bpfel -output-stem evict -no-global-types Evict ../../../../bpf/evict.bpf.c
//go:generate bpf2go -target bpfel -output-stem list -no-global-types List ../../../../bpf/list.bpf.c
//go:generate bpf2go -target bpfel -output-stem host -no-global-types Host ../../../../bpf/host.bpf.c
