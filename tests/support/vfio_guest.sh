# shellcheck shell=bash disable=SC2034,SC2154  # sourced after harness.sh and lab.sh: variables are shared
# A lab guest that is the host of vitrine: a VF of vf_sim on its PCI bus, bound to vfio-pci, vitrine as a user without
# rights, and vitrine-guest as its virtual machine.

vf=0000:01:00.0
vf_path=/sys/bus/pci/devices/$vf
host_kernel=kernel-6.12
label=          # of what is tested, for messages
runs=0          # of vitrine: each has a file of its own for its end
locked_kib=8192 # that the user may lock: Debian's default

ok() {
    passed "$label: $*"
}

wrong() {
    in_guest guest 'tail -n 5 /tmp/vitrine.log /tmp/guest.log; dmesg | tail -n 5' >"$work/guest.log" 2>&1 || true
    fail "$label: $*"
}

guest() {
    in_guest guest "$*"
}

# start_vf NAME WIRE: with the link down, so that the wire waits for open_wire.
start_vf() {
    start "vf_sim_$1" "$build/vf_sim" --socket "$work/$1.sock" --control "$work/$1.control" --mac 02:56:46:00:00:01 \
        --wire "$2" --strict
    wait_for_socket "$work/$1.sock" "vf_sim_$1"
    ask "$1" "link down"
}

# ask NAME COMMAND: its answer is then in $work/vf_sim.json.
ask() {
    "$source_root/tools/setup/ask.py" "$work/$1.control" "$2" >"$work/vf_sim.json"
}

wire_says() {
    field "$work/vf_sim.json" "$1"
}

open_wire() {
    wait_until 60 "the front-end ($label)" front_end_ready
    ask "$1" "link up"
}

# start_vm KERNEL-OPTIONS VF-NAME QEMU-OPTION...: that VF is at $vf.
start_vm() {
    local options=$1 devices
    mapfile -t devices < <(vf_options "$work/$2.sock")
    shift 2
    start_lab_guest guest "$host_kernel" 1024 "$options" "${devices[@]}" "$@"
    guest 'mkdir -p /run/vitrine /dev/hugepages; chown vitrine:vitrine /run/vitrine; echo 8 >/proc/sys/vm/nr_hugepages'
    guest 'mount -t hugetlbfs -o uid=1001,gid=1001 none /dev/hugepages' || wrong "the guest has no huge pages"
}

bind_vf() {
    guest "echo vfio-pci >$vf_path/driver_override; echo $vf >/sys/bus/pci/drivers_probe"
    # The node of this VF's group alone, whatever others there are.
    guest "chown vitrine:vitrine /dev/vfio/\$(basename \$(readlink $vf_path/iommu_group))" || wrong "vfio-pci took no VF"
}

# start_vitrine [OPTION...]: its log is /tmp/vitrine.log in the guest.
# shellcheck disable=SC2120
start_vitrine() {
    local command="exec vitrine run --name vm --vf $vf --seccomp kill $*"
    runs=$((runs + 1))
    guest "(ulimit -l $locked_kib; su vitrine -c '$command' >/tmp/vitrine.log 2>&1; echo \$? >/tmp/vitrine.ended.$runs) &"
    wait_until 60 "vitrine ($label)" vitrine_is_ready
}

vitrine_is_ready() {
    guest "test ! -e /tmp/vitrine.ended.$runs" || wrong "vitrine ended early"
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
    # shellcheck disable=SC2016  # the guest's words
    guest 'kill -TERM $(pidof vitrine)'
    wait_until 30 "the end of vitrine ($label)" vitrine_has_ended
    [[ $(guest "cat /tmp/vitrine.ended.$runs; find /run/vitrine ! -type d") == 0 ]] || wrong "vitrine does not end tidily"
}

vitrine_has_ended() {
    guest "test -e /tmp/vitrine.ended.$runs"
}

# start_vitrine_guest MODE OPTION...
start_vitrine_guest() {
    local command="vitrine-guest $1 --socket /run/vitrine/vm/vhost.sock --json --memory memfd --wait-seconds 120 ${*:2}"
    guest "rm -f /tmp/guest.ended; ($command >/tmp/guest.json 2>/tmp/guest.log; echo \$? >/tmp/guest.ended) &"
}

# finish_vitrine_guest: its report is then in $work/guest.json.
finish_vitrine_guest() {
    wait_until 300 "the end of vitrine-guest ($label)" vitrine_guest_has_ended
    guest 'cat /tmp/guest.json' >"$work/guest.json"
    [[ $(guest 'cat /tmp/guest.ended') == 0 ]] || wrong "vitrine-guest: $(<"$work/guest.json")"
}

end_vitrine_guest() {
    # shellcheck disable=SC2016  # the guest's words
    guest 'kill -TERM $(pidof vitrine-guest)'
    finish_vitrine_guest
}

vitrine_guest_has_ended() {
    guest 'test -e /tmp/guest.ended'
}

reported() {
    field "$work/guest.json" "$1"
}

# books_balance RECEIVED SENT: see ledger.py.
books_balance() {
    take_status && ask vf status
    "$source_root/tools/setup/ledger.py" "$work/vf_sim.json" "$work/vitrine.json" "$@" >"$work/books.log"
}
