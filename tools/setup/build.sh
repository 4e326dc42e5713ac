# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# Configures and builds one variant; what is up to date costs nothing.

# build_variant DIRECTORY TARGETS OPTION...
build_variant() {
    local directory=$1 targets=$2
    shift 2
    say "building $directory"
    mkdir -p "$directory"
    cmake -S . -B "$directory" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo "$@" >"$directory/configure.log" 2>&1 || {
        tail -n 20 "$directory/configure.log" >&2
        die "cmake could not configure $directory (all of it: $directory/configure.log)"
    }
    # shellcheck disable=SC2086  # words
    cmake --build "$directory" --target $targets >"$directory/build.log" 2>&1 || {
        tail -n 40 "$directory/build.log" >&2
        die "the build in $directory failed (all of it: $directory/build.log)"
    }
}
