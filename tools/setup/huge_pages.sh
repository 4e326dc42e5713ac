# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# Huge pages of 2 MiB for the length of a run. Without them everything works on small pages, so nothing here is fatal.

huge_page_pool=/sys/kernel/mm/hugepages/hugepages-2048kB

pool_value() {
    cat "$huge_page_pool/$1"
}

set_pool_size() {
    echo "$1" | as_root tee "$huge_page_pool/nr_hugepages" >/dev/null
}

# Takes back what we added, not to what the number was: another program may have changed it meanwhile.
lower_huge_pages() {
    local size
    size=$(($(pool_value nr_hugepages) - $1))
    set_pool_size "$((size > 0 ? size : 0))"
    say "huge pages: back to $(pool_value nr_hugepages)"
}

raise_huge_pages() {
    local needed=$1 free before added
    free=$(($(pool_value free_hugepages) - $(pool_value resv_hugepages)))
    ((free < needed)) || return 0
    before=$(pool_value nr_hugepages)
    set_pool_size "$((before + needed - free))" 2>/dev/null || true
    added=$(($(pool_value nr_hugepages) - before))
    if ((added > 0)); then
        at_exit lower_huge_pages "$added"
        say "huge pages: $free of $before were free and $needed are needed: raised to $((before + added)) for this run"
    fi
    ((added >= needed - free)) || warn "only $((free + added)) of $needed huge pages can be had: small pages will do, slower"
}

unmount_huge_pages() {
    as_root umount "$1"
    say "huge pages: unmounted $1"
}

# libhugetlbfs takes any mount of the right page size; we add one only if there is none.
mount_huge_pages() {
    local mount_point=/dev/hugepages options
    ! awk '$3 == "hugetlbfs" { found = 1 } END { exit !found }' /proc/mounts || return 0
    options="pagesize=2M,mode=0755,uid=$(id -u),gid=$(id -g)"
    if [[ ! -d $mount_point ]]; then
        as_root mkdir "$mount_point" || return 0
        at_exit as_root rmdir "$mount_point"
    fi
    if as_root mount -t hugetlbfs -o "$options" hugetlbfs "$mount_point"; then
        at_exit unmount_huge_pages "$mount_point"
        say "huge pages: mounted a hugetlbfs at $mount_point for this run"
    else
        warn "cannot mount a hugetlbfs: small pages will do, slower"
    fi
}

# reserve_huge_pages NUMBER
reserve_huge_pages() {
    if [[ ! -d $huge_page_pool ]]; then
        warn "this kernel has no 2 MiB huge pages: small pages will do, slower"
        return 0
    fi
    raise_huge_pages "$1"
    mount_huge_pages
}
