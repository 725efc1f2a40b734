#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# prerm remove: undoes what the agent, or sockmapctl install, has done on this machine. An upgrade undoes nothing.
# If the uninstall fails, this fails and the package stays, because sockmapctl is needed to remove the rest.
set -e

[ "$1" = remove ] || exit 0
if command -v systemctl >/dev/null; then
	if [ -d /run/systemd/system ]; then
		systemctl stop sockmap-agent.service || true
	fi
	systemctl --quiet disable sockmap-agent.service || true
fi
config=/etc/sockmap-cni/agent.yaml
if [ -e "$config" ]; then
	set -- --config-file "$config"
else
	set --
fi
sockmapctl uninstall "$@" || {
	echo "sockmap-cni: sockmapctl uninstall failed, so the package stays (remove it again without the cause)" >&2
	exit 1
}
