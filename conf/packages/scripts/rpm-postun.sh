# SPDX-License-Identifier: Apache-2.0
# %postun: $1 is how many versions stay.
if [ "$1" = 0 ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload || :
fi
