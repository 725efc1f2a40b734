#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# build.sh VERSION [DIR]: writes the deb and rpm packages of amd64 and arm64 into DIR (bin/packages), from
# bin/sockmapctl and bin/linux, which make has built. The same commit gives the same bytes: SOURCE_DATE_EPOCH is
# the commit's time unless it is set.
set -euo pipefail
cd "$(dirname "$0")/../.."
umask 022

version=$1
out=$(realpath -m "${2:-bin/packages}")
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

# Versions in their order: 0~git... of a commit without a tag; 1.2.3~rc1 of a tag with a name after the
# numbers; 1.2.3; 1.2.3+4.gabcdef, 4 commits after it.
case "$version" in
v[0-9]*)
	[[ $version =~ ^v([0-9.]+)(-[a-z][a-z0-9.]*)?(-[0-9]+-g[0-9a-f]+)?(-dirty)?$ ]] || {
		echo "build.sh: $version is no version such as v1.2.3, v1.2.3-rc1 or v1.2.3-4-gabcdef" >&2
		exit 1
	}
	PACKAGE_VERSION=${BASH_REMATCH[1]}
	name=${BASH_REMATCH[2]} commits=${BASH_REMATCH[3]} dirty=${BASH_REMATCH[4]}
	if [[ $name == -dirty ]]; then
		name='' dirty=-dirty
	fi
	behind=${commits#-}${dirty}
	behind=${behind#-}
	PACKAGE_VERSION+=${name:+"~${name#-}"}${behind:+"+${behind//-/.}"}
	;;
*) PACKAGE_VERSION="0~git$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).${version//-/.}" ;;
esac
export PACKAGE_VERSION
if [[ -n ${ONLY_VERSION:-} ]]; then # for the test of their order
	echo "$PACKAGE_VERSION"
	exit
fi

# One source for both: nfpm.yaml has the reason for this address.
maintainer=$(sed -n 's/^maintainer: //p' conf/packages/nfpm.yaml)
homepage=$(sed -n 's/^homepage: //p' conf/packages/nfpm.yaml)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
export PACKAGE_FILES=$stage
mkdir -p "$stage/man" "$stage/completion" "$out"
bin/sockmapctl docs tree | go -C conf/packages run ./man "$stage/man"
gzip -9n "$stage"/man/*
for shell in bash zsh fish; do
	bin/sockmapctl completion "$shell" >"$stage/completion/$shell"
done
day=$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
go -C conf/packages run ./changelog "$PACKAGE_VERSION" "$maintainer" "$day" <CHANGELOG.md | gzip -9n >"$stage/changelog.gz"
# Links to what a package does not have lead to the commit that it was built from.
go -C conf/packages run ./documents "$PWD" "$stage/doc" "$homepage/blob/$(git rev-parse HEAD)"
find "$stage" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

nfpm=(go tool -modfile=conf/packages/go.mod nfpm)
rm -f "$out"/*.deb "$out"/*.rpm
for arch in amd64 arm64; do
	for format in deb rpm; do
		PACKAGE_ARCH=$arch "${nfpm[@]}" package -f conf/packages/nfpm.yaml -p "$format" -t "$out/" >"$stage/log" || { # errors are there, too
			cat "$stage/log" >&2
			exit 1
		}
	done
done
(cd "$out" && sha256sum ./*.deb ./*.rpm)
