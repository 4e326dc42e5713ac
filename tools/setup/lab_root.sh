#!/usr/bin/env bash
# The recipe of the lab: lab_root.sh DIRECTORY MIRROR, run by root in a mount namespace of its own (lab.sh does both).
# Fills DIRECTORY with `root/`, a Debian trixie with the programs that tests run in it, and `kernel-6.12/` and
# `kernel-backports/`, each with what kernel_image.sh makes. Whatever this file says is what the lab is: lab.sh builds it anew when
# the text changes.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
directory=$1
mirror=$2
suite=trixie
root=$directory/root

# From the suite itself. A name that ends in "-" gets the suite's version number (librte-net-ixgbe25).
stable_packages=(
    busybox-static iproute2 iputils-ping iperf3 ethtool tcpdump kmod pciutils procps util-linux python3 passwd jq systemd
    dpdk-dev librte-mempool-ring- librte-net-ixgbe- librte-net-vhost- librte-net-virtio- librte-net-null- librte-net-tap-
)
backports_packages=(qemu-system-x86)

# 9p: the guest's programs. The rest: drivers that a test may want, each with what it depends on.
guest_modules=(
    9p 9pnet_virtio virtio_pci virtio_net 8021q tun overlay bridge bonding vxlan geneve
    vfio vfio_iommu_type1 vfio-pci virtio-iommu igb kvm kvm_amd ixgbevf
)

in_root() {
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} chroot "$root" "$@"
}

# apt never needs its download user here, and could not give it a directory.
apt_get() {
    in_root apt-get -qq -o APT::Sandbox::User=root -o Dpkg::Use-Pty=0 "$@"
}

make_base() {
    debootstrap --variant=minbase "$suite" "$root" "$mirror"
    printf 'deb %s %s main\n' "$mirror" "$suite" "$mirror" "$suite-backports" >"$root/etc/apt/sources.list"
    # A root that is half on the disk is thrown away, so nothing need be flushed while it is made.
    echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/lab"
    # Neither read by a test nor wanted in a cache.
    printf 'path-exclude=%s\n' '/usr/share/doc/*' '/usr/share/man/*' '/usr/share/locale/*' '/usr/include/*' '*.a' \
        >>"$root/etc/dpkg/dpkg.cfg.d/lab"
    apt_get update
}

full_name() {
    local found=
    [[ $1 != *- ]] || found=$(in_root apt-cache pkgnames "${1%-}" | grep -xE "${1%-}[0-9]+" | sort -V | tail -n 1)
    printf '%s\n' "${found:-$1}"
}

install_programs() {
    local package names=()
    for package in "${stable_packages[@]}"; do
        names+=("$(full_name "$package")")
    done
    apt_get install --yes --no-install-recommends "${names[@]}"
    apt_get install --yes --no-install-recommends --target-release "$suite-backports" "${backports_packages[@]}"
}

# DPDK opens every driver of its directory when it starts, which takes a guest a minute; testpmd is linked with most of
# them, too. So the loader finds all of them elsewhere, and the directory has only the wanted ones.
choose_drivers() {
    local libraries=$root/usr/lib/x86_64-linux-gnu drivers name
    drivers=$(echo "$libraries"/dpdk/pmds-*)
    mv "$drivers" "$libraries/dpdk/all"
    find "$libraries" -maxdepth 1 -xtype l -name 'librte_*' -delete
    echo "${libraries#"$root"}/dpdk/all" >"$root/etc/ld.so.conf.d/dpdk.conf"
    in_root ldconfig
    mkdir "$drivers"
    for name in bus_pci bus_vdev mempool_ring net_ixgbe net_null net_tap net_vhost net_virtio; do
        ln -s "../all/librte_$name.so" "$drivers"
    done
}

# make_kernel SUITE NAME: the suite's current kernel, unpacked and not installed. It may be split over several packages.
make_kernel() {
    local from=$1 name=$2 packages release
    local unpacked=$directory/unpacked
    packages=$(apt_get install --yes --no-install-recommends --print-uris --target-release "$from" linux-image-amd64 |
        sed -nE "s/^'[^']*' (linux-(image|binary|modules|base)-[0-9][^_]*)_.*/\1/p" | sort -u)
    release=$(sed -nE 's/^linux-image-//p' <<<"$packages")
    [[ -n $release ]] || { echo "no kernel in $from" >&2; return 1; }
    mkdir "$root/kernel"
    # shellcheck disable=SC2016,SC2086  # the inner shell's words; a list of words
    in_root sh -c 'cd /kernel && apt-get -qq -o APT::Sandbox::User=root -t "$0" download "$@"' "$from" $packages
    mkdir "$unpacked"
    for package in "$root"/kernel/*.deb; do
        dpkg-deb --extract "$package" "$unpacked"
    done
    "$here/../../tests/vm/kernel_image.sh" "$unpacked" "$release" "$directory/$name" "${guest_modules[@]}"
    echo "$release" >"$directory/$name/release"
    rm -r "$root/kernel" "$unpacked"
}

# The guests see the root read only: what they need to write to must be there.
tidy() {
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}/*
    mkdir -p "$root/lab"
    chmod -R a+rX "$root/usr" "$root/etc"
}

make_base
install_programs
choose_drivers
make_kernel "$suite" kernel-6.12
make_kernel "$suite-backports" kernel-backports
tidy
