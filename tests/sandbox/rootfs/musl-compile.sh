#!/bin/sh
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# musl-compile.sh SOURCES BUILD IMAGE: compiles PostgreSQL against musl, to run below /usr/local.
set -eu

sources=$1 build=$2 image=$3

# Without its link, which only a merged /usr has in place, musl would be linked into each program and library.
for libc in /lib/*-linux-musl/libc.so; do
	[ -e "/usr$libc" ] || ln -s "$libc" "/usr$libc"
done
# musl-gcc sees musl's headers alone, and some programs ask for the kernel's.
mkdir -p "$build/kernel" "$build/source" "$build/zlib"
for name in linux asm asm-generic; do
	for place in /usr/include/"$name" /usr/include/*-linux-gnu/"$name"; do
		[ ! -d "$place" ] || ln -sfn "$place" "$build/kernel/$name"
	done
done
tar -xf "$sources"/zlib_*.orig.tar.* -C "$build/zlib" --strip-components 1
cd "$build/zlib"
CC=musl-gcc CFLAGS="-O1 -fPIC" ./configure --static > /dev/null
make -s libz.a > /dev/null
tar -xf "$sources"/postgresql-*.orig.tar.* -C "$build/source" --strip-components 1
cd "$build/source"
# It takes longer than anything else, and nobody here embeds SQL in C.
sed -i '/^SUBDIRS/s/ ecpg//' src/interfaces/Makefile
# Where the official images have it, too.
sed -i '/define DEFAULT_PGSOCKET_DIR/s#"/tmp"#"/var/run/postgresql"#' src/include/pg_config_manual.h
# Unoptimised: to wait for the compiler is what costs.
./configure -q --prefix=/usr/local --with-includes="$build/zlib" --with-libraries="$build/zlib" \
	--without-icu --without-readline --disable-nls \
	CC=musl-gcc CFLAGS="-O0 -w -idirafter $build/kernel" > /dev/null
make -s -j "$(nproc)" world-bin > /dev/null
make -s install-world-bin DESTDIR="$image" > /dev/null
cd "$image/usr/local"
rm -rf include lib/*.a lib/pkgconfig lib/postgresql/pgxs share/doc share/man
strip --strip-unneeded bin/* lib/*.so.* lib/postgresql/*.so
