#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The registry of a CES as a dogu sees it: keys of its own below /ces/config, its state beside them. What is encrypted
# is not to be read by who looks at the file.
set -euo pipefail
# Root and the server's user both write here.
umask 000

die() { echo "doguctl: $*" >&2; exit 1; }
seal() { printf 'sealed:%s' "$(printf %s "$1" | base64 -w0 | rev)"; }
unseal() { printf %s "${1#sealed:}" | rev | base64 -d; }
write() {
	mkdir -p "$(dirname "$1")"
	printf %s "$2" >"$1.$$"
	mv "$1.$$" "$1"
}

config() {
	local encrypted= remove= default= has_default= words=() file
	while [ $# -gt 0 ]; do
		case $1 in
		-e | --encrypted) encrypted=1 ;;
		-d | --default)
			has_default=1 default=${2:-}
			# No script gives an empty one, so that nothing is known of what it would do.
			[ -n "$default" ] || die "config: --default wants a value"
			shift
			;;
		--rm) remove=1 ;;
		*) words+=("$1") ;;
		esac
		shift
	done
	[ ${#words[@]} -gt 0 ] || die "config wants a key"
	file=/ces/config/$DOGU/${words[0]}
	if [ -n "$remove" ]; then
		rm -f "$file"
	elif [ ${#words[@]} -gt 1 ]; then
		write "$file" "$([ -z "$encrypted" ] && printf %s "${words[1]}" || seal "${words[1]}")"
	elif [ -f "$file" ]; then
		if [ -n "$encrypted" ]; then unseal "$(<"$file")"; else printf %s "$(<"$file")"; fi
		echo
	elif [ -n "$has_default" ]; then
		echo "$default"
	else
		die "key ${words[0]} not found"
	fi
}

case ${1:-} in
config) shift; config "$@" ;;
state) if [ $# -gt 1 ]; then write "/ces/state/$DOGU" "$2"; else cat "/ces/state/$DOGU" 2>/dev/null || :; fi ;;
random) head -c 12 /dev/urandom | base64 -w0 | tr -d '+/=' && echo ;;
*) die "there are config, state and random" ;;
esac
