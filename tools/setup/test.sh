# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# setup.sh test: every label of ctest in the build where it tells most, then one table.

test_huge_pages=512

build_for_tests() {
    build_variant build -DVITRINE_TESTS=ON
    build_variant build/asan -DVITRINE_SANITIZE=address,undefined -DVITRINE_VM_TESTS=OFF
    build_variant build/fuzz -DCMAKE_CXX_COMPILER=clang++-19 -DVITRINE_FUZZERS=ON -DVITRINE_SANITIZE=address,undefined \
        -DVITRINE_VM_TESTS=OFF
}

# run_label DIRECTORY LABEL JOBS: the verdict is read from the JUnit file, where a crash of ctest shows as well.
run_label() {
    say "testing $2 in $1"
    ctest --test-dir "$1" --label-regex "^$2\$" --parallel "$3" --output-on-failure --no-tests=ignore \
        --test-output-size-passed 1000000 --test-output-size-failed 1000000 \
        --output-junit "$scratch/report/$2.xml" || true
}

verb_test() {
    case ${1:-} in
        --long) export VITRINE_LONG=1 ;;
        '') ;;
        *) usage_error "test does not know $1" ;;
    esac
    require_packages "${packages_to_build[@]}" "${packages_to_test[@]}"
    build_for_tests
    # The tests of label vm run without a network and so cannot fetch it themselves.
    tests/vm/guest_image.sh >/dev/null || warn "no kernel for the test guest"
    reserve_huge_pages "$test_huge_pages"

    local status=0 jobs
    jobs=$(nproc)
    mkdir "$scratch/report"
    run_label build/asan unit "$jobs"
    run_label build/asan sim "$jobs"
    run_label build/fuzz fuzz "$jobs"
    run_label build e2e 1
    run_label build peer 1
    run_label build vm 1
    tools/setup/test_report.py "$scratch/report" unit sim fuzz e2e peer vm || status=1
    if [[ -n ${VITRINE_LONG:-} && -x tools/check.sh ]]; then
        tools/check.sh || status=1
    fi
    return "$status"
}
