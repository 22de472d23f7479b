#!/bin/sh
# A minimal Debian or Ubuntu root with the host's own release and mirror.
# builder: mmdebstrap
#
# Runs on the host; writes the root as a tar to $TINE_ROOT_TAR.
set -eu

. /etc/os-release
suite=${VERSION_CODENAME:?the host is not a Debian or Ubuntu release}

sources=
for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list.d/ubuntu.sources /etc/apt/sources.list; do
    if grep -qsE '^(deb |Types:)' "$file"; then
        sources=$file
        break
    fi
done
[ -n "$sources" ] || { echo "no apt sources of the distribution found in /etc/apt" >&2; exit 1; }

exec mmdebstrap --quiet --variant=minbase --architectures=amd64 --mode=root \
    --include=ca-certificates,curl,iproute2,less,netbase,procps \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    "$suite" "$TINE_ROOT_TAR" "$sources"
