#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# setup.sh demo|bench|test|race|test-vm|test-programs|runtimes|containerd|crio|cluster|packaging|lint|generate:
# installs the Debian packages that the target needs, if they are missing. It prints nothing if none is.
set -euo pipefail

die() {
	echo "setup: $*" >&2
	exit 1
}

case "$1" in
demo) packages=() ;;
bench) packages=(iptables redis-server redis-tools nginx-light wrk postgresql memcached haproxy) ;;
test) packages=(iproute2 iptables procps redis-server redis-tools nginx-light postgresql haproxy python3 nodejs tshark tmux) ;;
race) packages=(gcc libc6-dev iproute2 procps) ;;
test-vm) packages=(qemu-system-x86 qemu-system-arm cpio kmod dpkg libc-bin xz-utils zstd debian-archive-keyring) ;;
test-programs) packages=(qemu-system-x86 cpio kmod dpkg libc-bin xz-utils zstd debian-archive-keyring mmdebstrap e2fsprogs) ;;
runtimes) packages=(runc conmon podman containernetworking-plugins iptables util-linux) ;;
containerd) packages=(runc iptables util-linux) ;;
crio) packages=(runc conmon iptables gcc libc6-dev) ;;
cluster) packages=(runc iptables nftables mount util-linux) ;;
packaging) packages=(buildah cpio debian-archive-keyring dpkg dpkg-dev mmdebstrap rpm util-linux) ;;
lint) packages=(clang-format-14) ;;
generate) packages=(clang-14 llvm-14 libbpf-dev libc6-dev) ;;
*) die "unknown target $1" ;;
esac

command -v go >/dev/null || die "Go is not installed (1.26 or newer)"
[[ $1 == lint || $1 == generate || $(id -u) == 0 ]] || die "root is needed: network namespaces, cgroups and BPF (try: sudo make $1)"

missing=()
for p in "${packages[@]}"; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
((${#missing[@]} == 0)) && exit 0
command -v apt-get >/dev/null || die "these packages are missing, and there is no apt-get to install them: ${missing[*]}"
[[ $(id -u) == 0 ]] || die "these packages are missing: ${missing[*]} (try: apt-get install ${missing[*]})"
echo "setup: installing ${missing[*]}"
# The packages must not start their servers. The tests start them, on their own sockets.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod +x "$policy"
	trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || die "the package sources cannot be read; these packages are needed: ${missing[*]}"
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || die "these packages cannot be installed: ${missing[*]}"
