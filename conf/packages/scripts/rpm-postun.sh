# SPDX-License-Identifier: Apache-2.0
# %postun: $1 is the number of versions that stay.
if [ "$1" = 0 ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload || :
fi
