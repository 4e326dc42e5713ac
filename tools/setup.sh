#!/usr/bin/env bash
# The commands of the README: `demo` shows the main job at work, `test` proves it. For a real network card: `doctor`,
# `plan`, `apply`, `rollback`, `status`, and `bind` for the service. Each verb is a function verb_NAME in tools/setup/.
set -euo pipefail

# An installed copy has the verbs for a network card only.
source_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

usage() {
    cat <<'TEXT'
usage: tools/setup.sh VERB

Without a network card, in the source tree:
  demo            Builds vitrine and runs it: a simulated network card's virtual function receives 64, 1518 and
                  9018 byte frames, vitrine hands them to a guest driver, and the guest's frames go back to the
                  wire. Ends with a table. Needs no network card, no KVM and no virtual machine.
  test [--long]   Builds with and without sanitizers and runs all tests: unit, simulator, fuzz targets, DPDK's
                  testpmd and a Linux guest in QEMU as peers. Ends with a table and the skipped tests with reasons.
                  --long: full counts, longer fuzzing, and tools/check.sh (clang, format, tidy, thread sanitizer).
  lab             Builds what the tests with newer drivers run in: a Debian trixie root with QEMU 11, DPDK, Linux 6.12
                  and 7.x. Once, from the archive that apt uses (VITRINE_MIRROR=URL for another); test does it, too.
All three install the Debian packages that are missing (they print the line first, and use sudo unless run by root). demo
and test reserve huge pages while they run, and take back at the end what they changed on the machine, also after Ctrl-C.
The build goes to build/, the lab and the kernel for the test guest to VITRINE_CACHE, or else $XDG_CACHE_HOME/vitrine,
or else ~/.cache/vitrine.

With an 82599, X540 or X550 (docs/hardware.md):
  doctor          Looks, and changes nothing: a table of what is right, and for the rest the command that sets it right.
                  [--pf PF --vf NUMBER | --vf ADDRESS] [--vm NAME] [--json]
  plan            Prints what apply would do, as shell lines, each with the value that is there now. [--json]
  apply           Gives a virtual function to a VM: creates and binds it, reserves memory, makes a user and the files of
                  the service. Notes each old value first, looks after each step, undoes all of it if one fails.
                  --pf PF --vf NUMBER (or --vf ADDRESS) --vm NAME
                  [--mac MAC] [--vlan ID] [--spoofchk on|off] [--trust on|off]   what the PF lets the VF do
                  [--vfs NUMBER]            how many VFs to create if there are none (4)
                  [--mtu BYTES] [--queues 1|2|4] [--guest-dma on|off]            as for vitrine run
                  [--guest-memory MIB]      huge pages for the guest's own memory as well (0)
                  [--yes]                   asks nothing
                  [--force]                 although the PF carries an address, a route, a bridge or a bond
  rollback        --vm NAME: undoes what apply did, latest first; also what a killed apply or a power cut left behind.
  status          [--vm NAME] [--json]: the VMs that are set up, and what has changed since.
  bind NAME       For vitrine@NAME.service: does again what a reboot has undone, and writes /run/vitrine/NAME.env.
                  --undo: undoes just that.
Exit status: 0 done, 1 failed and undone, 2 wrong usage, 3 something is missing, 4 refused because it is not safe.
TEXT
}

# Sources NAME.sh... of tools/setup/.
load() {
    local name
    for name in "$@"; do
        # shellcheck disable=SC1090  # one of the files beside this one
        source "$source_root/tools/setup/$name.sh"
    done
}

for_developers() {
    if [[ ! -f $source_root/CMakeLists.txt ]]; then
        printf 'setup.sh: %s needs the source tree; this is an installed copy (setup.sh help)\n' "$1" >&2
        exit 2
    fi
    cd "$source_root"
    load session packages huge_pages build lab demo test
    begin_session
    "verb_$1" "${@:2}"
}

for_hosts() {
    umask 022
    cd /
    load host_options host_facts host_journal host_steps host_kinds host_memory host_files host_list host_needs host_prepare \
        host_checks host_safety host_apply
    case $1 in
        doctor | status | bind) load "host_$1" ;;
    esac
    "verb_$1" "${@:2}"
}

main() {
    case ${1:-} in
        demo | test | lab)
            for_developers "$@"
            ;;
        doctor | plan | apply | rollback | status | bind)
            for_hosts "$@"
            ;;
        help | -h | --help)
            usage
            ;;
        *)
            [[ -z ${1:-} ]] || printf 'setup.sh: unknown verb: %s\n' "$1" >&2
            usage >&2
            exit 2
            ;;
    esac
}

main "$@"
