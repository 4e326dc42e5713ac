#!/usr/bin/env bash
# Makes what a test guest boots from an unpacked Debian kernel package: kernel_image.sh UNPACKED RELEASE TARGET MODULE...
# TARGET then holds `vmlinux`, and `modules/` with those modules, what they depend on, and their order of loading.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
unpacked=$1
release=$2
target=$3
wanted_modules=("${@:4}")

# Since 7.x Debian keeps the kernel beside its modules.
find_kernel() {
    local kernel
    for kernel in "$unpacked/boot/vmlinuz-$release" "$unpacked/usr/lib/modules/$release/vmlinuz"; do
        [[ ! -f $kernel ]] || { echo "$kernel"; return; }
    done
    echo "no kernel $release in $unpacked" >&2
    return 1
}

# Copies the wanted modules and what they depend on, and writes the order in which insmod must see them.
collect_modules() {
    local module path
    [[ -d $unpacked/lib ]] || ln -s usr/lib "$unpacked/lib"  # depmod looks there
    mkdir "$target/modules"
    depmod -b "$unpacked" "$release"
    for module in "${wanted_modules[@]}"; do
        modprobe -d "$unpacked" -S "$release" --show-depends "$module"
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$target/modules/paths"
    while read -r path; do
        cp "$path" "$target/modules"
    done <"$target/modules/paths"
    xz --decompress --quiet "$target"/modules/*.xz 2>/dev/null || true  # newer Debian releases compress them
    sed -e 's|.*/||' -e 's|\.xz$||' "$target/modules/paths" >"$target/modules/order"
    rm "$target/modules/paths"
}

mkdir -p "$target"
kernel=$(find_kernel)
"$here/extract_kernel.py" "$kernel" "$target/vmlinux"
collect_modules
