#!/usr/bin/env bash
# The recipe of a kernel that has /dev/iommu, as no Debian kernel does: iommufd_kernel.sh DIRECTORY MIRROR. Debian's own
# source, configured for the tests' guests and nothing else, everything built in. Fills DIRECTORY with `vmlinux` and an
# empty `modules/`, as kernel_image.sh does from a package.
set -euo pipefail

directory=$1
mirror=$2
suite=trixie
package=linux-source-6.12
scratch=$(mktemp -d "$directory.build.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

# What a guest needs to boot, to reach its shared directories, and to hand a PCI function to a program.
options=(
    64BIT SMP HYPERVISOR_GUEST PARAVIRT KVM_GUEST PVH PRINTK BLK_DEV_INITRD RD_GZIP BINFMT_ELF BINFMT_SCRIPT MULTIUSER
    PROC_FS PROC_SYSCTL SYSFS DEVTMPFS TMPFS SHMEM MEMFD_CREATE HUGETLBFS FILE_LOCKING
    EPOLL FUTEX EVENTFD SIGNALFD TIMERFD AIO POSIX_TIMERS HIGH_RES_TIMERS NO_HZ_IDLE ADVISE_SYSCALLS MEMBARRIER SECCOMP
    TTY SERIAL_8250 SERIAL_8250_CONSOLE ACPI X86_X2APIC X86_IO_APIC PCI PCI_MSI PCIEPORTBUS PCI_IOV PCI_MMCONFIG
    IOMMU_SUPPORT INTEL_IOMMU IRQ_REMAP IOMMUFD
    VFIO VFIO_GROUP VFIO_CONTAINER VFIO_IOMMU_TYPE1 VFIO_DEVICE_CDEV VFIO_PCI
    NET INET PACKET UNIX VIRTIO_MENU VIRTIO_PCI NET_9P NET_9P_VIRTIO NETWORK_FILESYSTEMS 9P_FS
)

# The archive's signature is checked as for any package; the machine's own lists stay as they are.
download() {
    local apt=(-qq -o APT::Sandbox::User=root -o "Dir::Etc::SourceList=$scratch/sources.list" -o Dir::Etc::SourceParts=-
        -o "Dir::State::Lists=$scratch/lists" -o "Dir::Cache=$scratch/cache")
    echo "deb $mirror $suite main" >"$scratch/sources.list"
    mkdir -p "$scratch"/{lists,cache/archives}/partial
    apt-get "${apt[@]}" update
    (cd "$scratch" && apt-get "${apt[@]}" download "$package")
}

unpack() {
    dpkg-deb --fsys-tarfile "$scratch/$package"_*.deb |
        tar --extract --to-stdout "./usr/src/$package.tar.xz" | tar --extract --xz --directory "$scratch"
}

configure() {
    local option
    printf 'CONFIG_%s=y\n' "${options[@]}" >"$scratch/wanted.config"
    printf '# CONFIG_%s is not set\n' MODULES CPU_MITIGATIONS >>"$scratch/wanted.config"
    echo 'CONFIG_NR_CPUS=8' >>"$scratch/wanted.config"
    make --silent tinyconfig
    scripts/kconfig/merge_config.sh -m .config "$scratch/wanted.config" >/dev/null
    make --silent olddefconfig
    for option in "${options[@]}"; do
        grep -qx "CONFIG_$option=y" .config || { echo "this kernel has no CONFIG_$option" >&2; return 1; }
    done
}

download
unpack
cd "$scratch/$package"
configure
make --silent --jobs "$(nproc)" vmlinux
mkdir -p "$directory/modules"
: >"$directory/modules/order"
make --silent kernelrelease >"$directory/release"
strip -o "$directory/vmlinux" vmlinux
