# SPDX-License-Identifier: Apache-2.0
# What the scripts in this folder share: where things are, how a package is
# fetched without being installed.  Knows nothing of any kernel or test.
#
# Copyright (c) 2026 The turbotap authors.

set -eu -o pipefail

vm_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$vm_dir/../.." && pwd)
BUILD=${BUILD:-$top/_build}
mkdir -p "$BUILD/vm"
BUILD=$(cd "$BUILD" && pwd)
work=$BUILD/vm
PATH=$PATH:/usr/sbin:/sbin

# Prints a line about the harness itself; TAP readers take it for a comment.
say() {
    echo "# vm: $*"
}

die() {
    echo "# vm: error: $*" >&2
    exit 1
}

need() {
    local command
    for command; do
        type "$command" >/dev/null 2>&1 ||
            die "'$command' is missing (see build-aux/dependencies)"
    done
}

# apt-get, apt-cache: the machine's own, or those that $apt_config describes.
apt() {
    env ${apt_config:+"APT_CONFIG=$apt_config"} "apt-$1" -qq \
        -o APT::Sandbox::User=root "${@:2}"
}

# The version of package $1 that apt would install, nothing if there is none.
candidate() {
    apt cache policy "$1" | sed -n '/(none)/!s/^  Candidate: //p'
}

# Unpacks packages $2... below folder $1, through a cache of downloads.
unpack() {
    local root=$1 cache=$work/packages package version deb
    shift
    mkdir -p "$cache" "$root"
    for package; do
        version=$(candidate "$package")
        [ -n "$version" ] ||
            die "apt knows no package '$package' (try: apt-get update)"
        deb=$(echo "$cache/${package}_${version//:/%3a}"_*.deb)
        if [ ! -f "$deb" ]; then
            say "fetching $package $version"
            (cd "$cache" && apt get download "$package") ||
                die "could not fetch $package $version"
            deb=$(echo "$cache/${package}_${version//:/%3a}"_*.deb)
        fi
        dpkg-deb -x "$deb" "$root"
    done
}
