#!/usr/bin/env bash
# The commands of the README: `demo` shows the main job at work, `test` proves it. Each verb is one file in
# tools/setup/ with one function, verb_NAME.
set -euo pipefail

source_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$source_root"
# shellcheck source=tools/setup/session.sh
source tools/setup/session.sh
# shellcheck source=tools/setup/packages.sh
source tools/setup/packages.sh
# shellcheck source=tools/setup/huge_pages.sh
source tools/setup/huge_pages.sh
# shellcheck source=tools/setup/build.sh
source tools/setup/build.sh
# shellcheck source=tools/setup/lab.sh
source tools/setup/lab.sh
# shellcheck source=tools/setup/demo.sh
source tools/setup/demo.sh
# shellcheck source=tools/setup/test.sh
source tools/setup/test.sh

usage() {
    cat <<'TEXT'
usage: tools/setup.sh VERB

  demo            Builds vitrine and runs it: a simulated network card's virtual function receives 64, 1518 and
                  9018 byte frames, vitrine hands them to a guest driver, and the guest's frames go back to the
                  wire. Ends with a table. Needs no network card, no KVM and no virtual machine.
  test [--long]   Builds with and without sanitizers and runs all tests: unit, simulator, fuzz targets, DPDK's
                  testpmd and a Linux guest in QEMU as peers. Ends with a table and the skipped tests with reasons.
                  --long: full counts, longer fuzzing, and tools/check.sh (clang, format, tidy, thread sanitizer).
  lab             Builds what the tests with newer drivers run in: a Debian trixie root with QEMU 11, DPDK, Linux 6.12
                  and 7.x. Once, from the archive that apt uses (VITRINE_MIRROR=URL for another); test does it, too.

All install the Debian packages that are missing (they print the line first, and use sudo unless run by root). demo and
test reserve huge pages while they run, and take back at the end what they changed on the machine, also after Ctrl-C.
The build goes to build/, the lab and the kernel for the test guest to VITRINE_CACHE, or else $XDG_CACHE_HOME/vitrine,
or else ~/.cache/vitrine.
TEXT
}

main() {
    case ${1:-} in
        demo | test | lab)
            begin_session
            "verb_$1" "${@:2}"
            ;;
        help | -h | --help)
            usage
            ;;
        *)
            usage_error "${1:+unknown verb: $1}"
            ;;
    esac
}

main "$@"
