#!/usr/bin/env bash
# tools/setup.sh lab without a network: a lab that fails half way leaves nothing, one that is there is not built again,
# one of another recipe is. What a real one is good for, the tests that run in it show.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/harness.sh
source "$here/../support/harness.sh"

# A debootstrap that notes where it was to make which suite from what, and then fails as one without a network does.
make_debootstrap() {
    mkdir "$work/programs" "$work/cache"
    cat >"$work/programs/debootstrap" <<TEXT
#!/bin/sh
echo "\$@" >>"$work/calls"
mkdir -p "\$3/etc"
exit 1
TEXT
    chmod +x "$work/programs/debootstrap"
    : >"$work/calls"
}

setup_lab() {
    PATH=$work/programs:$PATH VITRINE_CACHE=$work/cache VITRINE_MIRROR=http://mirror.invalid/debian \
        "$source_root/tools/setup.sh" lab >"$work/setup.log" 2>&1
}

main() {
    need debootstrap
    enter_private_world "$@"
    make_debootstrap

    ! setup_lab || fail "a failing debootstrap made a lab"
    grep -q 'trixie .*/root http://mirror.invalid/debian$' "$work/calls" || fail "VITRINE_MIRROR was not asked"
    [[ -z $(find "$work/cache" -mindepth 1 ! -name lab.lock) ]] || fail "a failed build left $(ls "$work/cache")"
    passed "a lab that cannot be built leaves nothing"

    mkdir -p "$work/cache/lab/root/var/lib/dpkg" "$work/cache/lab/kernel-6.12"
    echo 6.12 >"$work/cache/lab/kernel-6.12/release"
    echo other >"$work/cache/lab/recipe"
    ! setup_lab || fail "a lab of another recipe was taken for this one"
    (($(wc -l <"$work/calls") == 2)) || fail "a lab of another recipe was not built again"
    [[ -d $work/cache/lab ]] || fail "the old lab went before there was a new one"
    passed "a lab of another recipe is built again"

    (cd "$source_root" && source tools/setup/lab.sh && lab_recipe) >"$work/cache/lab/recipe"
    setup_lab || true  # no packages in this one, so the versions at the end are missing
    (($(wc -l <"$work/calls") == 2)) || fail "the lab was built although it was there"
    grep -q '^lab: ' "$work/setup.log" || fail "the lab that is there was not named"
    passed "a lab that is there is taken"
}

main "$@"
