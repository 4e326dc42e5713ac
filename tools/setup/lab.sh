# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# setup.sh lab: a Debian root outside the tree with the programs and kernels that the VM tests need and Debian 12 has not
# (QEMU 11 with vfio-user-pci, newer DPDK, Linux 6.12 and 7.x). Built once, by the recipe in lab_root.sh.

lab_directory=${VITRINE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vitrine}/lab

# A lab of another recipe is not this lab. Comments do not make another one.
lab_recipe() {
    sed '/^ *#/d' tools/setup/lab_root.sh tests/vm/kernel_image.sh tests/vm/extract_kernel.py | sha256sum | cut -d ' ' -f 1
}

lab_is_current() {
    [[ -f $lab_directory/recipe && $(<"$lab_directory/recipe") == "$(lab_recipe)" ]]
}

# The archive from which this machine gets its own packages also has the newer suites.
lab_mirror() {
    local codename
    if [[ -n ${VITRINE_MIRROR:-} ]]; then
        echo "$VITRINE_MIRROR"
        return
    fi
    # shellcheck disable=SC1091
    codename=$(source /etc/os-release && echo "${VERSION_CODENAME:-}")
    # shellcheck disable=SC2016  # apt fills in the words with a dollar
    apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
        awk -v suite="$codename" '$1 == suite { print $2; exit }'
}

remove_lab() {
    as_root rm -rf --one-file-system "$1"
}

# Into a directory of its own, which takes the lab's name only when all of it is there.
make_lab() {
    local mirror new log=$scratch/lab.log start=$SECONDS
    mirror=$(lab_mirror)
    [[ -n $mirror ]] || { warn "no Debian archive in apt's sources (VITRINE_MIRROR=URL names one)"; return 1; }
    new=$(mktemp -d "$lab_directory.new.XXXXXX")
    at_exit remove_lab "$new"
    chmod 755 "$new"
    say "building the lab in $lab_directory from $mirror (once; some minutes)"
    # In a mount namespace of its own, debootstrap's mounts end with it, whatever happens.
    if ! as_root env ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
        unshare --mount "$source_root/tools/setup/lab_root.sh" "$new" "$mirror" >"$log" 2>&1; then
        warn "the lab could not be built; the end of its log:"
        tail -n 10 "$log" >&2
        remove_lab "$new"
        return 1
    fi
    lab_recipe >"$new/recipe"
    [[ ! -e $lab_directory ]] || remove_lab "$lab_directory"
    mv "$new" "$lab_directory"
    say "built in $((SECONDS - start)) s"
}

# require_lab: fails with a warning if there is none and none can be built.
require_lab() {
    mkdir -p "${lab_directory%/*}"
    # The lock goes with the process; two runs at once must not build twice.
    exec 8>"$lab_directory.lock"
    flock 8
    lab_is_current || make_lab || { exec 8>&-; return 1; }
    exec 8>&-
}

# A kernel with /dev/iommu, which Debian's have not, lies beside the lab. Some minutes of compiling, once.
require_iommufd_kernel() {
    local directory=${lab_directory%/*}/kernel-iommufd recipe mirror new
    recipe=$(sed '/^ *#/d' tools/setup/iommufd_kernel.sh | sha256sum | cut -d ' ' -f 1)
    [[ ! -f $directory/recipe || $(<"$directory/recipe") != "$recipe" ]] || return 0
    mirror=$(lab_mirror)
    new=$(mktemp -d "$directory.new.XXXXXX")
    at_exit remove_lab "$new"
    say "building a kernel with /dev/iommu in $directory (once; some minutes)"
    if ! tools/setup/iommufd_kernel.sh "$new" "$mirror" >"$scratch/kernel.log" 2>&1; then
        tail -n 10 "$scratch/kernel.log" >&2
        return 1
    fi
    echo "$recipe" >"$new/recipe"
    rm -rf "$directory"
    mv "$new" "$directory"
}

verb_lab() {
    (($# == 0)) || usage_error "lab takes no options"
    local start=$SECONDS
    require_packages "${packages_to_make_lab[@]}"
    require_lab || die "there is no lab: the tests that need it will be skipped"
    say "lab: $lab_directory, $(du -sh "$lab_directory" 2>/dev/null | cut -f 1), ready after $((SECONDS - start)) s"
    say "  Linux $(cat "$lab_directory"/kernel-*/release | paste -sd ' ')"
    # shellcheck disable=SC2016  # dpkg-query fills in the words with a dollar
    dpkg-query --admindir "$lab_directory/root/var/lib/dpkg" --show --showformat '  ${Package} ${Version}\n' \
        qemu-system-x86 dpdk-dev
}
