# SPDX-License-Identifier: Apache-2.0
# %post: $1 is the number of versions that are installed afterwards. As in deb-postinst.sh.
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || :
	systemctl try-restart sockmap-agent.service || echo "sockmap-cni: see: systemctl status sockmap-agent" >&2
fi
if [ "$1" = 1 ]; then
	echo "sockmap-cni: nothing is started yet. To begin: sockmapctl doctor; edit /etc/sockmap-cni/agent.yaml;"
	echo "sockmap-cni: systemctl enable --now sockmap-agent"
fi
