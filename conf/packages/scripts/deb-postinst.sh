#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# postinst configure [OLD-VERSION]: an agent that runs is replaced by the new one. Nothing is started that did not
# run: what it does to the network configuration is for the administrator to begin.
set -e

[ "$1" = configure ] || exit 0
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	# An agent that does not start again changes nothing for containers, and is no reason to leave the
	# package half done.
	systemctl try-restart sockmap-agent.service || echo "sockmap-cni: see: systemctl status sockmap-agent" >&2
fi
if [ -z "$2" ]; then
	echo "sockmap-cni: nothing is started yet. To begin: sockmapctl doctor; edit /etc/sockmap-cni/agent.yaml;"
	echo "sockmap-cni: systemctl enable --now sockmap-agent"
fi
