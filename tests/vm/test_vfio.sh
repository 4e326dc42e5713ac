#!/usr/bin/env bash
# vitrine on the kernel's VFIO, as on a host: in a Debian guest with an emulated IOMMU, whose PCI bus has VFs of vf_sim.
# It runs as a user without rights who owns the group's node and nothing else; vitrine-guest, in the same guest, is the
# virtual machine. Frames both ways, what stands in the way of a start, and a VF that is reset, taken and given back.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/harness.sh
source "$here/../support/harness.sh"
# shellcheck source=tests/support/lab.sh
source "$here/../support/lab.sh"
# shellcheck source=tests/support/guest_programs.sh
source "$here/../support/guest_programs.sh"

frames=100000
offered=$((frames + frames / 10))  # some may find no buffer, which is counted
frames_per_second=20000
vf=0000:01:00.0
vf_path=/sys/bus/pci/devices/$vf
label=

ok() {
    passed "$label: $*"
}

wrong() {
    in_guest guest 'cat /tmp/vitrine.log; dmesg | tail -n 5' >"$work/guest.log" 2>&1 || true
    fail "$label: $*"
}

guest() {
    in_guest guest "$1"
}

ask_vf_sim() {
    "$source_root/tools/setup/ask.py" "$work/vf.control" "$1" >"$work/vf_sim.json"
}

# start_vf WIRE: with the link down, so that the wire waits for open_wire.
start_vf() {
    start vf_sim "$build/vf_sim" --socket "$work/vf.sock" --control "$work/vf.control" --mac 02:56:46:00:00:01 \
        --wire "$1" --strict
    wait_for_socket "$work/vf.sock" vf_sim
    ask_vf_sim "link down"
}

open_wire() {
    wait_until 60 "the front-end ($label)" front_end_ready
    ask_vf_sim "link up"
}

# start_vm KERNEL-OPTIONS QEMU-OPTION...: with the VF bound to vfio-pci, if there is an IOMMU, and its group's node given
# to the user.
start_vm() {
    local options=$1 devices
    shift
    mapfile -t devices < <(vf_options "$work/vf.sock")
    start_lab_guest guest kernel-6.12 1024 "$options" "$@" "${devices[@]}"
    guest 'mkdir -p /run/vitrine /dev/hugepages && chown vitrine:vitrine /run/vitrine' &&
        guest 'mount -t hugetlbfs -o uid=1001,gid=1001 none /dev/hugepages' || wrong "the guest has no huge pages"
}

bind_vf() {
    guest "echo vfio-pci >$vf_path/driver_override; echo $vf >/sys/bus/pci/drivers_probe" &&
        guest 'chown vitrine:vitrine /dev/vfio/[0-9]*' || wrong "vfio-pci took no VF"
}

# start_vitrine OPTION...: its log is /tmp/vitrine.log in the guest.
start_vitrine() {
    guest "su vitrine -c 'exec vitrine run --name vm --vf $vf $*' >/tmp/vitrine.log 2>&1 &"
    wait_until 60 "vitrine ($label)" vitrine_is_ready
}

vitrine_is_ready() {
    guest 'pidof vitrine >/dev/null' || wrong "vitrine ended early"
    take_status
}

take_status() {
    guest 'vitrinectl status vm --run-dir /run/vitrine --json' >"$work/vitrine.json" 2>/dev/null
}

said() {
    field "$work/vitrine.json" "$1"
}

front_end_ready() {
    take_status && [[ $(said front_end.features) != 0x0 ]]
}

stop_vitrine() {
    guest 'kill -TERM $(pidof vitrine); while pidof vitrine >/dev/null; do sleep 0.1; done' || wrong "vitrine does not end"
    [[ -z $(guest 'ls -A /run/vitrine') ]] || wrong "vitrine left $(guest 'ls /run/vitrine')"
}

# start_vitrine_guest MODE OPTION...: what it has to say is then in /tmp/guest.json.
start_vitrine_guest() {
    local command="vitrine-guest $1 --socket /run/vitrine/vm/vhost.sock --json --memory memfd --wait-seconds 120 ${*:2}"
    guest "$command >/tmp/guest.json 2>/tmp/guest.log &"
}

vitrine_guest_has_ended() {
    ! guest 'pidof vitrine-guest >/dev/null'
}

# finish_vitrine_guest: its report is then in $work/guest.json.
finish_vitrine_guest() {
    wait_until 120 "the end of vitrine-guest ($label)" vitrine_guest_has_ended
    guest 'cat /tmp/guest.log; cat /tmp/guest.json' >"$work/guest.json" || true
    guest 'grep -q . /tmp/guest.json' || wrong "vitrine-guest: $(<"$work/guest.json")"
}

reported() {
    field "$work/guest.json" "$1"
}

main() {
    need cpio python3
    need_lab
    need_built vf_sim
    enter_private_world "$@"
    pack_programs vitrine vitrinectl vitrine-guest
    label=try
    start_vf "gen:size=64,rate=$frames_per_second,count=$offered"
    start_vm intel_iommu=on -device intel-iommu,intremap=on,caching-mode=on,aw-bits=39
    guest 'echo 8 >/proc/sys/vm/nr_hugepages'
    bind_vf
    guest 'ls -l /dev/vfio; dmesg | grep -i -e dmar -e vfio | tail -3'
    start_vitrine
    cat "$work/vitrine.json"
    guest 'cat /tmp/vitrine.log; grep -E "Cap|VmLck|Uid|Pin" /proc/$(pidof vitrine)/status'
    start_vitrine_guest check --idle-seconds 10
    open_wire
    finish_vitrine_guest
    cat "$work/guest.json"
    take_status; ask_vf_sim status
    "$source_root/tools/setup/ledger.py" "$work/vf_sim.json" "$work/vitrine.json" || true
    time start_vitrine_guest tx --count $frames
    finish_vitrine_guest
    cat "$work/guest.json"
    take_status; ask_vf_sim status
    "$source_root/tools/setup/ledger.py" "$work/vf_sim.json" "$work/vitrine.json"
    cat "$work/vf_sim.json"
    stop_vitrine
}

main "$@"
