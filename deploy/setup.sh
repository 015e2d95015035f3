#!/bin/sh
# Make a virtual environment and install modelmill into it: setup.sh VENV WHAT
# Says in plain words what is missing where it cannot.
set -eu
venv=$1
what=$2

fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
python=
for candidate in python3 python3.13 python3.12 python3.11 python; do
    if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c "$fits" >/dev/null 2>&1; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "modelmill needs Python 3.11, 3.12 or 3.13 on PATH; found: $(python3 --version 2>&1 || echo none)." >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
    echo "$python has no venv module. On Debian or Ubuntu: apt-get install python3-venv" >&2
    exit 1
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
echo "Installing modelmill and what it needs into $venv (a minute or two the first time) …"
log=$venv/setup.log
# The pip that comes with Python takes three times as long to find out what is needed.
# Byte code is compiled when a module is first imported: most of the installed modules never are.
pip_install() {
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-compile \
        --constraint constraints.txt "$@"
}
if ! { pip_install pip && pip_install --editable "$what"; } >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    echo "The installation failed; the lines above say why (all of them: $log)." >&2
    echo "It needs the Python package index, or a mirror of it that pip is configured to use, and 3 GB of disk." >&2
    exit 1
fi
