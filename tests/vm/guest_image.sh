#!/usr/bin/env bash
# Fetches Debian's kernel for the test guest, once, without installing it: prints the directory that holds
# `vmlinux`, and `modules/` with the modules of the guest and their order of loading.
# The initramfs is not kept: it is built from here in a fraction of a second (guest_initramfs.sh).
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
cache=${VITRINE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vitrine}
wanted_modules=(virtio_pci virtio_net)

# The cloud kernel is the smallest that has virtio; the meta package always depends on the current one.
current_kernel_package() {
    local architecture
    architecture=$(dpkg --print-architecture)
    apt-cache depends --important "linux-image-cloud-$architecture" 2>/dev/null |
        sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1
}

unpack_package() {
    local package=$1 options=()
    # As root, apt would warn that its download user cannot write here.
    ((EUID != 0)) || options=(-o APT::Sandbox::User=root)
    apt-get "${options[@]}" -qq download "$package" >&2
    dpkg-deb --extract "$package"_*.deb unpacked
}

# In a subshell, so that its scratch directory goes whatever happens.
make_image() (
    package=$1
    release=${package#linux-image-}
    scratch=$(mktemp -d "$cache/new.XXXXXX")
    trap 'rm -rf "$scratch"' EXIT
    cd "$scratch"
    unpack_package "$package"
    "$here/kernel_image.sh" unpacked "$release" image "${wanted_modules[@]}"
    mv image "$cache/$package"
)

main() {
    local package
    package=$(current_kernel_package)
    [[ -n $package ]] || { echo "no linux-image-cloud package in the apt lists (apt-get update?)" >&2; return 1; }
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
    [[ -d $cache/$package ]] || make_image "$package"
    echo "$cache/$package"
}

main
