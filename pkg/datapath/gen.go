// SPDX-License-Identifier: Apache-2.0

package datapath

// `make generate` sets BPF_SYSTEM_INCLUDE to the directory where this machine keeps asm/types.h, and the compiler.
//go:generate go tool bpf2go -go-package datapath -target bpfel -type flow_record -type role -type mode -type reason -type result -type peers -type learn -type event -type tap_record -type tap_filter -type share -type coexist -type helpers_mode -type avoided -type known_end -type habit -type asked_hazard -type window_number -type tick bpf ../../bpf/sockmap.bpf.c -- -O2 -g -Wall -Wextra -Werror -mcpu=v3 -I../../bpf -I../../bpf/headers -idirafter $BPF_SYSTEM_INCLUDE
//go:generate go tool bpf2go -go-package datapath -target amd64,arm64 guard ../../bpf/guard.bpf.c -- -O2 -g -Wall -Wextra -Werror -mcpu=v3 -I../../bpf -I../../bpf/headers -idirafter $BPF_SYSTEM_INCLUDE
//go:generate go tool bpf2go -go-package datapath -target bpfel -type stays evict ../../bpf/evict.bpf.c -- -O2 -g -Wall -Wextra -Werror -mcpu=v3 -I../../bpf -I../../bpf/headers -idirafter $BPF_SYSTEM_INCLUDE
//go:generate go tool bpf2go -go-package datapath -target bpfel list ../../bpf/list.bpf.c -- -O2 -g -Wall -Wextra -Werror -mcpu=v3 -I../../bpf -I../../bpf/headers -idirafter $BPF_SYSTEM_INCLUDE
//go:generate go tool bpf2go -go-package datapath -target bpfel -no-global-types host ../../bpf/host.bpf.c -- -O2 -g -Wall -Wextra -Werror -mcpu=v3 -I../../bpf -I../../bpf/headers -idirafter $BPF_SYSTEM_INCLUDE
