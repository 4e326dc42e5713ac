# shellcheck shell=bash disable=SC2034,SC2154  # sourced after harness.sh: variables are shared
# Guests of the lab (tools/setup.sh lab): Debian's newer kernels in its newer QEMU, with VFs of vf_sim.

lab=${VITRINE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vitrine}/lab

lab_guest_seconds=900  # a hang guard for the life of one guest; a test that is longer sets its own

need_lab() {
    [[ -f $lab/recipe ]] || skip "there is no lab in $lab (./tools/setup.sh lab builds it)"
}

# kernel_directory KERNEL: one of the lab's, or the one that test --long builds beside it.
kernel_directory() {
    if [[ $1 == kernel-iommufd ]]; then
        echo "${lab%/*}/$1"
    else
        echo "$lab/$1"
    fi
}

# in_lab PROGRAM ARGUMENT...: one of the lab's programs on this machine, by the lab's own loader and libraries.
in_lab() {
    "$lab/root/lib64/ld-linux-x86-64.so.2" --library-path "$lab/root/usr/lib/x86_64-linux-gnu" \
        "$lab/root/usr/bin/$1" "${@:2}"
}

run_lab_qemu() {
    # exec'ed by its loader, QEMU does not find what lies beside it.
    export QEMU_MODULE_DIR=$lab/root/usr/lib/x86_64-linux-gnu/qemu
    exec timeout "$lab_guest_seconds" "$lab/root/lib64/ld-linux-x86-64.so.2" --library-path "$lab/root/usr/lib/x86_64-linux-gnu" \
        "$lab/root/usr/bin/qemu-system-x86_64" -L "$lab/root/usr/share/qemu" -L "$lab/root/usr/share/seabios" "$@"
}

# start_lab_guest NAME KERNEL MEMORY-MIB KERNEL-OPTIONS QEMU-OPTION...: two processors, the root at /lab, our programs
# at /ours (see guest_programs.sh). Waits for it.
# no_timer_check: on a busy machine the kernel's test of its timer may fail, which it takes for broken hardware.
start_lab_guest() {
    local name=$1 kernel=$2 memory_mib=$3 options=$4
    shift 4
    [[ -f $work/$kernel.initramfs ]] ||
        "$source_root/tests/vm/lab_initramfs.sh" "$lab" "$(kernel_directory "$kernel")" "$work/$kernel.initramfs"
    [[ ! -d $work/ours ]] ||
        set -- -virtfs "local,path=$work/ours,mount_tag=ours,security_model=none,readonly=on" "$@"
    : >"$work/$name.console.log"
    rm -f "$work/$name.command"
    start "$name" run_lab_qemu \
        -M q35,memory-backend=ram,kernel-irqchip=split -accel tcg,thread=multi -cpu max -m "$memory_mib" -smp 2 \
        -object "memory-backend-memfd,id=ram,size=${memory_mib}M,share=on" \
        -virtfs "local,path=$lab/root,mount_tag=lab,security_model=none,readonly=on" \
        -kernel "$(kernel_directory "$kernel")/vmlinux" -initrd "$work/$kernel.initramfs" \
        -append "console=ttyS0 panic=-1 quiet mitigations=off no_timer_check iomem=relaxed $options" \
        -nodefaults -no-user-config -nographic -no-reboot \
        -serial "file:$work/$name.console.log" -serial "unix:$work/$name.command,server=on,wait=off" "$@"
    wait_until 300 "the guest $name to boot" lab_guest_ready "$name"
}

lab_guest_ready() {
    running "$1" || fail "QEMU of $1 ended while the guest booted"
    grep -q READY "$work/$1.console.log"
}

# vf_options SOCKET...: the QEMU options that give a guest these VFs, one to a line. They sit at 01:00.0, 02:00.0, ...
vf_options() {
    local socket number=0
    for socket in "$@"; do
        number=$((number + 1))
        printf '%s\n' -device "pcie-root-port,id=port$number,chassis=$number" -device \
            '{"driver":"vfio-user-pci","bus":"port'"$number"'","socket":{"type":"unix","path":"'"$socket"'"}}'
    done
}

# in_guest NAME COMMAND: prints its output, returns its status. Two minutes are a guard against a hang.
in_guest() {
    "$source_root/tests/vm/guest_command.py" "$work/$1.command" 120 "$2"
}

stop_lab_guest() {
    "$source_root/tests/vm/guest_command.py" "$work/$1.command" 1 'poweroff -f' >/dev/null 2>&1 || true
    wait_until 30 "the end of $1" not_running "$1"
    stop "$1" || true
}

# kernel_is_content NAME: fails the test if the guest's kernel complained.
kernel_is_content() {
    local complaints='WARNING:|BUG:|Call Trace|Oops|hung task|Tx Unit Hang|NETDEV WATCHDOG|timed out|rcu.*stall|soft lockup|PF still in'
    in_guest "$1" dmesg >"$work/$1.dmesg.log" || fail "dmesg in $1"
    # A busy host stops the guest's processors for longer than its clocks like; that says nothing about a driver.
    ! grep -v 'clocksource: ' "$work/$1.dmesg.log" | grep -E "$complaints" || fail "the kernel of $1 complained (above)"
}
