#!/usr/bin/env bash
# What a reviewer would otherwise have to look for: format, layers, line budget, a clang build without a warning,
# clang-tidy, the thread sanitizer, shellcheck. `tools/check.sh quick` stops after the checks that need no build.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly build="${VITRINE_CHECK_BUILD:-build/check}"
failures=0

say() { printf '== %s\n' "$*"; }
fail() {
    printf 'check: %s\n' "$*" >&2
    failures=$((failures + 1))
}

sources() { git ls-files -- '*.cpp' '*.hpp'; }

check_format() {
    say "format"
    sources | xargs clang-format-19 --dry-run --Werror || fail "format: clang-format-19 -i the files above"
}

# FOLDER may include only what the pattern allows.
only_includes() {
    local folder=$1 allowed=$2 found
    found=$(git grep -nE '#include "(mem|driver|virtio|apps|tools|tests)/' -- "$folder" |
        grep -vE "#include \"($allowed)" || true)
    [[ -z $found ]] || fail "layers: $folder includes what it must not know:
$found"
}

check_layers() {
    say "layers"
    only_includes mem 'mem/'
    only_includes driver 'mem/|driver/'
    only_includes virtio 'mem/|virtio/'
    only_includes tools/vf_sim \
        'mem/|tools/vf_sim/|driver/(register|registers|descriptors|mailbox_messages)\.hpp'
    only_includes apps 'mem/|driver/|virtio/|apps/'
    only_includes apps/frame 'mem/|apps/frame/'
}

# What the model does not do as silicon does is on a list, and so is every rule that strict mode knows.
check_ledger() {
    say "vf_sim's ledger"
    local words
    while read -r words; do
        grep -qF -- "$words" docs/vf_sim.md || fail "docs/vf_sim.md lacks: $words"
    done < <(
        git grep -ohE 'MODEL:( [^ ]+){1,4}' -- tools/vf_sim
        sed -nE 's/^ *\{"([0-9]\.[0-9] [^"]+)", .*/\1/p' tools/vf_sim/rules.hpp
    )
}

# A budget is a question, so it warns.
code_lines() { git ls-files -- "$1/*.cpp" "$1/*.hpp" | xargs -r cat | grep -cvE '^\s*(//.*)?$' || true; }

check_budget() {
    say "lines of code without comments and blanks"
    local folder budget lines question
    while read -r folder budget; do
        lines=$(code_lines "$folder")
        question=
        if ((lines > budget)); then question='   over: what would the reader lose if this were shorter?'; fi
        printf '   %-14s %5d of %5d%s\n' "$folder" "$lines" "$budget" "$question"
    done <<'BUDGET'
mem 800
driver 2500
virtio 3500
apps 4000
tools/vf_sim 4000
BUDGET
    sources | xargs wc -l | awk '$2 != "total" && $1 > 400 {print "   over 400 lines: " $2 " " $1}'
}

check_scripts() {
    say "shellcheck"
    git ls-files -- '*.sh' .ci/run | xargs shellcheck -x || fail "shellcheck"
}

check_clang_build() {
    say "clang 19 build, warnings as errors"
    cmake -S . -B "$build/clang" -G Ninja -DCMAKE_CXX_COMPILER=clang++-19 >/dev/null
    cmake --build "$build/clang" || fail "clang build"
}

check_tidy() {
    say "clang-tidy"
    git ls-files -- 'mem/*.cpp' 'driver/*.cpp' 'virtio/*.cpp' 'apps/*.cpp' 'tools/*.cpp' |
        xargs -P "$(nproc)" -n 4 clang-tidy-19 -p "$build/clang" --quiet || fail "clang-tidy"
}

check_threads() {
    say "thread sanitizer"
    # By clang: g++ refuses memory fences under the thread sanitizer.
    cmake -S . -B "$build/tsan" -G Ninja -DCMAKE_CXX_COMPILER=clang++-19 -DVITRINE_SANITIZE=thread >/dev/null
    cmake --build "$build/tsan" || fail "thread sanitizer build"
    ctest --test-dir "$build/tsan" -L 'unit|sim' --output-on-failure || fail "thread sanitizer"
}

check_format
check_layers
check_ledger
check_budget
check_scripts
if [[ ${1:-} != quick ]]; then
    check_clang_build
    check_tidy
    check_threads
fi
((failures == 0)) || { printf 'check: %d failed\n' "$failures" >&2; exit 1; }
say "all good"
