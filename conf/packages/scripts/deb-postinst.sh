#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# postinst configure [OLD-VERSION]: the new agent replaces one that runs. An agent that did not run is not started,
# because it changes the network configuration, which is the administrator's decision.
set -e

[ "$1" = configure ] || exit 0
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	# Containers do not need the agent, so an agent that does not start again is no reason to leave the package
	# half configured.
	systemctl try-restart sockmap-agent.service || echo "sockmap-cni: see: systemctl status sockmap-agent" >&2
fi
if [ -z "$2" ]; then
	echo "sockmap-cni: nothing is started yet. To begin: sockmapctl doctor; edit /etc/sockmap-cni/agent.yaml;"
	echo "sockmap-cni: systemctl enable --now sockmap-agent"
fi
