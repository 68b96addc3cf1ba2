#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Make the virtual environment of the checkout: make_venv.sh DIRECTORY REQUIREMENTS
#
# Takes the best Python that is there. Where none has venv and we are root on a
# Debian, the distribution's packages are installed.

set -o errexit -o nounset -o pipefail

venv=$1
requirements=$2

# A pyenv shim is on PATH for every version and answers only for the active one,
# so a candidate counts when it runs, not when it is found.
works() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 9 if sys.argv[1] else 11))' "${PYTHON:-}" >/dev/null 2>&1; }

has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

candidates() {
    if [ -n "${PYTHON:-}" ]; then
        echo "$PYTHON"
        return
    fi
    # 3.12 first: the oldest that the newest ansible-core runs on, so the one that
    # keeps the code honest; 3.11 still works, with an older ansible-core.
    local version
    for version in 3.12 3.13 3.14 3.11; do
        command -v "python$version" || true
        ls -1d "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python 2>/dev/null | sort -rV || true
    done
    echo /usr/bin/python3
    command -v python3 || true
}

pick() {
    local candidate
    while read -r candidate; do
        if works "$candidate" && has_venv "$candidate"; then
            echo "$candidate"
            return
        fi
    done < <(candidates)
}

# An environment that still runs is brought up to date in place: others may be using it.
if ! works "$venv/bin/python"; then
    python=$(pick)
    if [ -z "$python" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "No Python >= 3.11 with venv here: installing the distribution's" >&2
        apt-get update -qq </dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv </dev/null >&2
        python=$(pick)
    fi
    if [ -z "$python" ]; then
        echo "Python 3.11 or newer with its venv module is needed: install it, or name one: make venv PYTHON=..." >&2
        exit 1
    fi
    echo "Virtual environment $venv with $("$python" --version) ($python)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

# uv does in seconds what takes pip a minute, but it does not read pip's configuration:
# where an index or a certificate is named only there, pip is the one that gets through.
if [ -z "${SSL_CERT_FILE:-}" ] && [ -n "${PIP_CERT:-}" ]; then
    export SSL_CERT_FILE=$PIP_CERT
fi
if ! { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv \
    && "$venv/bin/python" -m uv pip install --quiet --python "$venv/bin/python" -r "$requirements"; }; then
    echo "uv did not get through: pip does it" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
fi
