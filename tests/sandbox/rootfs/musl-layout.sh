#!/bin/sh
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# musl-layout.sh IMAGE VOLUME: lays out around PostgreSQL what an Alpine has: musl's loader, busybox, bash, uid 70.
set -eu

cd "$1"
volume=$2
mkdir -p bin dev etc home lib proc root run sbin srv sys tmp usr/bin usr/sbin usr/local/sbin usr/share var/lib var/tmp
chmod 1777 tmp var/tmp
chmod 700 root
ln -s /run var/run

for loader in /lib/ld-musl-*.so.1; do
	cp -L "$loader" lib/
	ln -s "${loader##*/}" "lib/libc.musl-${loader##*/ld-musl-}"
done
cp "$(command -v busybox)" bin/busybox
for applet in $(busybox --list); do
	[ -e "bin/$applet" ] || ln -s busybox "bin/$applet"
done
ln -s /bin/env usr/bin/env
cp "$(command -v bash-static)" bin/bash
cp -a /usr/share/zoneinfo usr/share/

printf 'ID=alpine\nNAME="Alpine Linux"\nPRETTY_NAME="The sandbox in place of an Alpine Linux"\n' > etc/os-release
printf 'hosts: files dns\n' > etc/nsswitch.conf
printf '%s\n' root:x:0:0:root:/root:/bin/sh postgres:x:70:70::/var/lib/postgresql:/bin/sh > etc/passwd
printf '%s\n' root:x:0: postgres:x:70: > etc/group
# What the entrypoint asks for by these names, busybox has by others.
cat > usr/local/bin/setpriv <<- 'END'
	#!/bin/sh
	# setpriv --reuid NAME --regid NAME --init-groups PROGRAM ARGUMENTS
	user=$2 program=$6
	shift 6
	exec su -m -s "$program" -- "$user" "$@"
END
cat > usr/local/bin/mountpoint <<- 'END'
	#!/bin/sh
	# mountpoint -q PATH
	grep -q "^[^ ]* [^ ]* [^ ]* [^ ]* $2 " /proc/self/mountinfo
END
chmod 755 usr/local/bin/setpriv usr/local/bin/mountpoint

sed -ri "s/^#?listen_addresses *=.*/listen_addresses = '*'/" usr/local/share/postgresql/postgresql.conf.sample
mkdir docker-entrypoint-initdb.d
install -d -m 3775 -o 70 -g 70 run/postgresql
install -d -m 700 -o 70 -g 70 var/lib/postgresql
install -d -m 1777 -o 70 -g 70 ".$volume"
