#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# postrm remove|purge: the unit is gone. dpkg removes the configuration file when it purges.
set -e

if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
