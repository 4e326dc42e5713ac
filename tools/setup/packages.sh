# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# The Debian packages that the demo and the tests need: the one list.

packages_to_build=(
    cmake ninja-build g++ pkg-config
    libhugetlbfs-dev libboost-dev libspdlog-dev libfmt-dev libcli11-dev libtomlplusplus-dev nlohmann-json3-dev
    libpcap-dev libcap-ng-dev libseccomp-dev libdeflate-dev python3
)

# clang: fuzz targets and tools/check.sh. A name that ends in "-" gets its suite's version number (librte-net-virtio23).
packages_to_test=(
    doctest-dev clang-19 clang-tidy-19 clang-format-19 libclang-rt-19-dev shellcheck
    dpdk-dev librte-mempool-ring- librte-net-virtio- librte-net-vhost- librte-net-null-
    qemu-system-x86 busybox-static cpio kmod xz-utils lz4 zstd
    iproute2 iputils-ping tcpdump ethtool util-linux
)

# Without them there is no lab, and the tests that need one are skipped.
packages_to_make_lab=(debootstrap ca-certificates kmod xz-utils lz4 zstd python3 util-linux)

# For the kernel that has /dev/iommu, which only test --long builds.
packages_to_make_kernel=(make gcc flex bison bc libelf-dev xz-utils)

is_installed() {
    if [[ $1 == *- ]]; then
        dpkg-query -W -f '${db:Status-Status}\n' "${1%-}[0-9]*" 2>/dev/null | grep -qx installed
    else
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
    fi
}

# The name in this suite: librte-net-virtio- becomes librte-net-virtio23. Unknown names stay as they are.
full_name() {
    local found=
    if [[ $1 == *- ]]; then
        found=$(apt-cache pkgnames "${1%-}" 2>/dev/null | grep -xE "${1%-}[0-9]+" | sort -V | tail -n 1)
    fi
    printf '%s\n' "${found:-$1}"
}

# Says the line before it asks for a password.
run_apt() {
    say "+ $( ((EUID == 0)) || echo 'sudo ')apt-get $*"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "$@" >"$scratch/apt.log" 2>&1
}

install_packages() {
    local package names=()
    for package in "$@"; do
        names+=("$(full_name "$package")")
    done
    run_apt install --yes --no-install-recommends "${names[@]}"
}

# require_packages NAME...: installs what is missing; asks for fresh package lists only if that fails.
require_packages() {
    local package missing=()
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    ((${#missing[@]} > 0)) || return 0
    command -v apt-get >/dev/null || die "this is not Debian; please install the equivalents of: ${missing[*]}"
    install_packages "${missing[@]}" && return
    run_apt update || true
    install_packages "${missing[@]}" && return
    tail -n 5 "$scratch/apt.log" >&2
    die "apt-get could not install the packages above"
}
