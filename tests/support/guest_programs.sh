# shellcheck shell=bash disable=SC2154  # sourced after harness.sh: variables are shared
# Our own programs in a guest of the lab. What pack_programs was given, start_lab_guest shares with the guest, which
# mounts it at /ours and runs it like its own: `in_guest guest 'vitrine --version'`. In the lab's root inside the guest
# (chroot /lab) it is at /run/ours, and `lab-ours PROGRAM ARGUMENT...` runs it there, on that root's own C library.
#
#   bin/     the programs, stripped
#   system/  the loader, the C and the C++ library of this machine: a newer Debian has newer ones that do as well
#   lib/     every other library that they need

ours=           # the share, once there is one

# pack_programs PROGRAM...: of the build directory; more of them may follow later.
pack_programs() {
    local program
    need ldd strip
    ours=$work/ours
    mkdir -p "$ours"/{bin,lib,system}
    for program in "$@"; do
        need_built "$program"
        strip -o "$ours/bin/$program" "$build/$program"
        pack_libraries "$build/$program"
    done
    chmod -R a+rX "$ours"
}

# Every line of ldd's that names a file: "libx.so.1 => /path (address)", and the loader by its path alone.
pack_libraries() {
    local library place
    while read -r library; do
        case ${library##*/} in
            ld-linux* | libc.so* | libm.so* | libdl.so* | librt.so* | libpthread.so* | libresolv.so* | libgcc_s.so* | libstdc++.so*)
                place=system ;;
            *) place=lib ;;
        esac
        [[ -e $ours/$place/${library##*/} ]] || cp -L "$library" "$ours/$place"
    done < <(ldd "$1" | awk '$2 == "=>" && $3 ~ "^/" { print $3 } $1 ~ "^/" { print $1 }')
}
