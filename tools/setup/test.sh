# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# setup.sh test: every label of ctest in the build where it tells most, then one table.

test_huge_pages=512

# Of each only what run_label takes from there. One by g++, the other by clang.
build_for_tests() {
    build_variant build all -DVITRINE_TESTS=ON -DVITRINE_UNIT_TESTS=OFF
    build_variant build/sanitized "unit_tests fuzz_targets" -DCMAKE_CXX_COMPILER=clang++-19 -DVITRINE_FUZZERS=ON \
        -DVITRINE_SANITIZE=address,undefined -DVITRINE_VM_TESTS=OFF
}

# The build in which a label tells most. Tests of whole programs are not slowed down by sanitizers.
build_of_label() {
    case $1 in
        unit | sim | fuzz) echo build/sanitized ;;
        *) echo build ;;
    esac
}

# run_label LABEL: the verdict is read from the JUnit file, where a crash of ctest shows as well.
run_label() {
    local directory
    directory=$(build_of_label "$1")
    say "testing $1 in $directory"
    ctest --test-dir "$directory" --label-regex "^$1\$" --parallel "$(nproc)" --output-on-failure --no-tests=ignore \
        --test-output-size-passed 1000000 --test-output-size-failed 1000000 \
        --output-junit "$scratch/report/$1.xml" || true
}

verb_test() {
    local labels=(unit sim fuzz e2e peer vm bench)
    case ${1:-} in
        --long)
            export VITRINE_LONG=1
            require_packages "${packages_to_make_kernel[@]}"
            ;;
        '') ;;
        *) usage_error "test does not know $1" ;;
    esac
    require_packages "${packages_to_build[@]}" "${packages_to_test[@]}" "${packages_to_make_lab[@]}"
    build_for_tests
    # The tests of label vm run without a network and so cannot fetch it themselves.
    tests/vm/guest_image.sh >/dev/null || warn "no kernel for the test guest"
    require_lab || warn "there is no lab: the tests that need it will be skipped"
    [[ -z ${VITRINE_LONG:-} ]] || require_iommufd_kernel || warn "no kernel with /dev/iommu: its test will be skipped"
    reserve_huge_pages "$test_huge_pages"

    local status=0 label
    mkdir "$scratch/report"
    for label in "${labels[@]}"; do
        run_label "$label"
    done
    tools/setup/test_report.py "$scratch/report" "${labels[@]}" || status=1
    if [[ -n ${VITRINE_LONG:-} && -x tools/check.sh ]]; then
        tools/check.sh || status=1
    fi
    return "$status"
}
