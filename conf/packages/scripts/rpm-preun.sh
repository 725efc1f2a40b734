# SPDX-License-Identifier: Apache-2.0
# %preun: $1 is the number of versions that stay. As in deb-prerm.sh, the package stays if the uninstall fails.
if [ "$1" != 0 ]; then
	exit 0
fi
if command -v systemctl >/dev/null; then
	if [ -d /run/systemd/system ]; then
		systemctl stop sockmap-agent.service || :
	fi
	systemctl --quiet disable sockmap-agent.service || :
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
