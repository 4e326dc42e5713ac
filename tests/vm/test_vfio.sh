#!/usr/bin/env bash
# shellcheck disable=SC2016  # words in single quotes are the guest's
# vitrine on the kernel's VFIO, as on a host: in a Debian guest with an emulated IOMMU, whose PCI bus has VFs of vf_sim.
# It runs as a user without rights who owns the group's node and nothing else; vitrine-guest, in the same guest, is the
# virtual machine. Frames both ways behind each kind of IOMMU, addresses that are not mapped, a VF that is reset, taken
# and given back, and what stands in the way of a start.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/harness.sh
source "$here/../support/harness.sh"
# shellcheck source=tests/support/lab.sh
source "$here/../support/lab.sh"
# shellcheck source=tests/support/guest_programs.sh
source "$here/../support/guest_programs.sh"
# shellcheck source=tests/support/vfio_guest.sh
source "$here/../support/vfio_guest.sh"

frames=100000
is_long && frames=1000000
offered=$((2 * frames))  # on a busy machine many find no buffer, which is counted

intel_iommu=intel-iommu,intremap=on,caching-mode=on

# Without rights: no capability and none to be had, and no more locked memory than a Debian user may have.
check_rights() {
    guest 'cat /proc/$(pidof vitrine)/status' >"$work/rights.log"
    grep -qE '^Uid:\s1001\s1001\s1001\s1001' "$work/rights.log" || wrong "vitrine runs as $(grep Uid "$work/rights.log")"
    [[ $(grep -cE '^(Cap(Inh|Prm|Eff|Amb):\s0{16}|NoNewPrivs:\s1|Seccomp:\s2)$' "$work/rights.log") == 6 ]] ||
        wrong "vitrine has $(<"$work/rights.log")"
    [[ $(guest "su vitrine -c 'ulimit -l'") == 8192 ]] || wrong "the user may lock more than Debian allows"
    [[ $(guest 'stat -c %U:%a /dev/vfio/[0-9]*') == vitrine:600 ]] || wrong "the group's node is another's"
}

check_receive() {
    start_vitrine_guest check --idle-seconds 1000
    open_wire vf
    wait_until 300 "the last frame ($label)" all_received
    end_vitrine_guest
    [[ "$(reported bad) $(reported violations)" == "0 0" ]] || wrong "bad frames: $(<"$work/guest.json")"
    (($(reported received.frames) >= frames)) || wrong "the guest received $(reported received.frames) frames"
    received=$(reported received.frames)
}

# What the wire had to send has left the NIC and vitrine, to the guest or into a counter.
all_received() {
    take_status && ask vf status && [[ $(wire_says "done") == True ]] &&
        (($(wire_says wire.rx_delivered) == $(said pairs.0.receive.frames_from_nic)))
}

check_send() {
    start_vitrine_guest tx --count "$frames"
    finish_vitrine_guest
    sent=$(reported sent.frames)
    wait_until 60 "the frames at the wire ($label)" at_the_wire "$frames"
    [[ "$(wire_says tx_checked.bad) $(wire_says tx_checked.lost)" == "0 0" ]] || wrong "$(wire_says tx_checked)"
}

# at_the_wire FRAMES: checked there, and good.
at_the_wire() {
    ask vf status
    (($(wire_says tx_checked.good) == $1))
}

check_books() {
    wait_until 30 "balanced books ($label)" books_balance "$received" "$sent"
    guest 'vitrinectl audit vm --run-dir /run/vitrine' >"$work/audit.log" || wrong "vitrinectl audit"
    [[ $(wire_says violations) == "{}" ]] || wrong "the driver broke rules: $(wire_says violations)"
    ok "$received of $offered frames to the guest, $sent of $frames to the wire, 0 bad; $(paste -sd ';' "$work/books.log")"
}

check_traffic() {
    start_vitrine
    check_rights
    check_receive
    check_send
    check_books
}

# As soon as the old process has gone, which has its name until then.
check_restart() {
    guest 'kill -9 $(pidof vitrine)'
    wait_until 30 "the end of vitrine ($label)" vitrine_has_ended
    start_vitrine
    start_vitrine_guest tx --count 1000
    finish_vitrine_guest
    wait_until 60 "frames after a restart" at_the_wire $((frames + 1000))
    ok "killed and started again: frames flow"
}

# The NIC reads in the virtual machine's memory, which counts as locked: first the user may not lock as much.
check_guest_dma() {
    local before
    start_vitrine --guest-dma on
    start_vitrine_guest tx --count 1000 --size 1518
    finish_vitrine_guest
    take_status
    (($(said pairs.0.transmit.zero_copy) == 0)) || wrong "guest memory was mapped beyond the limit"
    guest "grep -q 'Cannot allocate memory; its frames are copied' /tmp/vitrine.log" || wrong "the limit was not named"
    stop_vitrine
    ask vf status
    before=$(wire_says tx_checked.good)
    locked_kib=524288
    start_vitrine --guest-dma on
    start_vitrine_guest tx --count 20000 --size 1518
    finish_vitrine_guest
    locked_kib=8192
    wait_until 60 "the frames at the wire ($label)" at_the_wire $((before + 20000))
    take_status
    (($(said pairs.0.transmit.zero_copy) > 10000)) || wrong "only $(said pairs.0.transmit.zero_copy) frames without a copy"
    [[ "$(wire_says tx_checked.bad) $(wire_says violations)" == "0 {}" ]] || wrong "$(<"$work/vf_sim.json")"
    ok "--guest-dma on: $(said pairs.0.transmit.zero_copy) of 20000 frames sent from the VM's memory; with too low a limit, copied"
    stop_vitrine
}

check_dma_fault() {
    guest "su vitrine -c 'dma_fault $vf' 2>&1" >"$work/dma_fault.log" || wrong "$(<"$work/dma_fault.log")"
    ask vf status
    (($(wire_says tx.halted.dma) == 2 && $(wire_says faults.dma_unmapped) > 0)) || wrong "the model saw no fault"
    ok "addresses that are not mapped: $(grep -c '^ok: event: VF: tx_stuck' "$work/dma_fault.log") times a fault, named," \
        "and a reset of the VF that helped"
}

# expect_event COUNTER WHAT COMMAND...: in traffic. The counter is one of vitrinectl's; frames flow again afterwards.
expect_event() {
    local counter=$1 what=$2 before
    shift 2
    take_status
    before=$(said "vf.$counter")
    "$@" || wrong "$what could not be done"
    wait_until 60 "vitrine to notice $what" counts_more_than "$counter" "$before"
    wait_until 90 "the VF after $what" vf_is up
    expect_flow "$what"
    ok "$what in traffic: $counter went from $before to $(said "vf.$counter"), and frames flow again"
}

counts_more_than() {
    take_status && (($(said "vf.$1") > $2))
}

vf_is() {
    take_status && [[ $(said vf.state) == "$1" ]]
}

# expect_flow WHEN: a few hundred frames there and back, from now on.
expect_flow() {
    take_status
    ask vf status
    received=$(said pairs.0.receive_ring.frames)
    sent=$(wire_says tx.frames)
    wait_until 60 "traffic ($1)" flows
}

flows() {
    take_status && ask vf status &&
        (($(said pairs.0.receive_ring.frames) > received + 200 && $(wire_says tx.frames) > sent + 200))
}

reset_by_sysfs() {
    guest "echo 1 >$vf_path/reset"
}

# As if nothing of what the driver posts were mapped any more, until it has noticed.
break_dma() {
    ask vf "fault dma"
    wait_until 60 "vitrine to notice that DMA fails" counts_more_than troubles.tx_stuck "$(said vf.troubles.tx_stuck)"
    ask vf "fault clear"
}

# What an administrator does who wants the VF for something else, and what gives it back. The host waits for vitrine.
unbind_and_bind() {
    guest "echo $vf >/sys/bus/pci/drivers/vfio-pci/unbind" || return 1
    wait_until 30 "the release" vf_is absent
    [[ $(said vf.last_loss) == *"the host wants it back"* ]] || wrong "last loss: $(said vf.last_loss)"
    guest "test ! -e $vf_path/driver" || return 1
    ok "unbound in traffic: released; $(said vf.last_loss)"
    bind_vf
}

check_life() {
    start_vitrine
    start_vitrine_guest echo --idle-seconds 1000
    open_wire vf
    expect_flow "at first"
    expect_event resets "a reset of the PF" ask vf pf-reset
    expect_event resets "a reset of the function by the host (FLR)" reset_by_sysfs
    expect_event troubles.tx_stuck "DMA that faults" break_dma
    expect_event wanted_back "an unplug request" unbind_and_bind
    guest 'vitrinectl audit vm --run-dir /run/vitrine' >"$work/audit.log" || wrong "vitrinectl audit"
    end_vitrine_guest
    [[ "$(reported bad) $(reported violations)" == "0 0" ]] || wrong "the guest: $(<"$work/guest.json")"
    stop_vitrine
}

# refuses WHAT PATTERN [SHELL-WORDS] [OPTION...]: one line that names the cause and the command. PATTERN is extended.
refuses() {
    local what=$1 pattern=$2 before=${3:-} options=("${@:4}")
    ! guest "su vitrine -c '$before exec vitrine run --name other --vf $vf ${options[*]}' 2>&1" >"$work/refusal.log" ||
        wrong "vitrine started in spite of $what"
    [[ $(wc -l <"$work/refusal.log") == 1 ]] || wrong "$what: not one line: $(<"$work/refusal.log")"
    grep -qE -- "$pattern" "$work/refusal.log" || wrong "$what: $(<"$work/refusal.log")"
    ok "$what: $(<"$work/refusal.log")"
}

check_refusals() {
    local node
    node=$(guest "echo /dev/vfio/\$(basename \$(readlink $vf_path/iommu_group))")
    start_vitrine
    refuses "a second process" "open $node: another process has it \(fuser -v $node\)"
    stop_vitrine
    refuses "a low limit of locked memory" '8192 KiB needed, the limit is 4096 KiB \(LimitMEMLOCK=8192K' 'ulimit -l 4096;'
    guest 'echo 3 >/proc/sys/vm/nr_hugepages'
    refuses "too few huge pages" '4 huge pages of 2048 KiB needed, 3 free \(sysctl -w vm.nr_hugepages=4\)' '' --memory huge
    guest 'echo 8 >/proc/sys/vm/nr_hugepages'
    guest "chown root $node"
    refuses "a group of another user" "user 1001 may not \(chown 1001 $node\)"
    guest "chown vitrine $node"
    ask vf "fault mailbox-silent"
    refuses "a silent PF" 'is its PF up, and its driver loaded\? ip link set PF up'
    ask vf "fault clear"
    guest "insmod /modules/ixgbevf.ko; echo $vf >$vf_path/driver/unbind; echo ixgbevf >$vf_path/driver_override;" \
        "echo $vf >/sys/bus/pci/drivers_probe"
    refuses "a VF that the kernel's driver has" "but to ixgbevf \(echo vfio-pci >$vf_path/driver_override;"
}

# QEMU has no 82599 with SR-IOV, but an 82576: its VF is found by PF and number, opened, and recognised for what it is.
check_pf_and_index() {
    local pf=/sys/bus/pci/devices/0000:03:00.0
    vf=0000:03:10.0
    vf_path=/sys/bus/pci/devices/$vf
    guest "insmod /modules/igb.ko; echo 0 >$pf/sriov_drivers_autoprobe; echo 1 >$pf/sriov_numvfs" || wrong "no VF of igb"
    bind_vf
    vf=$(guest "ls $pf/net")/0
    refuses "a VF of another card, by PF and index" "--vf $vf: 8086:10ca is no virtual function of an 82599, X540 or X550"
    vf=${vf%/0}/1
    refuses "a VF that the PF has not" "has 1 VFs, so none with the number 1 \(tools/setup.sh apply --pf ${vf%/1} --vf 1 "
    vf=0000:03:10.0
    guest "echo $vf >$vf_path/driver/unbind"
    refuses "a VF without a driver" "to no driver \(tools/setup.sh apply --pf .* --vf 0 --vm NAME\)"
    vf=0000:01:00.0
    vf_path=/sys/bus/pci/devices/$vf
}

# Two functions in one group, of which one is a driver's of the guest.
check_viability() {
    vf=0000:02:00.0
    vf_path=/sys/bus/pci/devices/$vf
    bind_vf
    refuses "a group that is not viable" \
        'is not viable, .*: 0000:02:00.1 \(virtio-pci\) \(for each of them: echo ADDRESS >/sys/bus/pci/devices/ADDRESS/driver/unbind'
    vf=0000:01:00.0
    vf_path=/sys/bus/pci/devices/$vf
}

end_vm() {
    kernel_is_content guest
    stop_lab_guest guest
    stop vf_sim_vf || fail "vf_sim ended with status $?"
}

with_39_bits() {
    label="intel-iommu, 39 bits"
    start_vf vf "gen:size=64,rate=20000,count=$offered"
    start_vm intel_iommu=on vf -device "$intel_iommu,aw-bits=39"
    bind_vf
    check_traffic
    check_restart
    stop_vitrine
    check_guest_dma
    check_dma_fault
    end_vm
}

with_48_bits() {
    label="intel-iommu, 48 bits"
    start_vf vf "gen:size=1518,rate=20000,count=$offered"
    start_vm intel_iommu=on vf -device "$intel_iommu,aw-bits=48"
    bind_vf
    check_traffic
    stop_vitrine
    end_vm

    start_vf vf "gen:size=64,rate=2000"
    start_vm intel_iommu=on vf -device "$intel_iommu,aw-bits=48"
    bind_vf
    check_life
    end_vm
}

with_amd() {
    label="amd-iommu"
    start_vf vf "gen:size=64,rate=20000,count=$offered"
    start_vf second null
    start_vm "" vf -device amd-iommu,intremap=on,dma-remap=on -device pcie-root-port,id=shared,chassis=2 \
        -device '{"driver":"vfio-user-pci","bus":"shared","addr":"0.0","multifunction":true,"socket":{"type":"unix","path":"'"$work/second.sock"'"}}' \
        -device virtio-rng-pci,bus=shared,addr=0.1 \
        -device pcie-root-port,id=card,chassis=3 -device igb,bus=card,netdev=none,romfile= -netdev user,id=none
    bind_vf
    check_traffic
    stop_vitrine
    check_viability
    check_pf_and_index
    check_refusals
    end_vm
    stop vf_sim_second || fail "vf_sim ended with status $?"
}

without_iommu() {
    label="no IOMMU"
    start_vf vf null
    start_vm "" vf
    guest "echo vfio-pci >$vf_path/driver_override; echo $vf >/sys/bus/pci/drivers_probe" || true
    refuses "an IOMMU that is off" 'the IOMMU is off \(enable VT-d or AMD-Vi in the firmware, boot .* intel_iommu=on'
    end_vm
}

# It remaps no interrupts, which the administrator has to accept.
with_virtio() {
    label="virtio-iommu"
    start_vf vf "gen:size=64,rate=20000,count=$offered"
    start_vm "" vf -device virtio-iommu-pci
    bind_vf
    refuses "interrupts that are not remapped" 'echo 1 >/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts'
    guest 'echo 1 >/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts'
    check_traffic
    stop_vitrine
    end_vm
}

# The other way to the same device, which Debian's kernels do not have. The group's container would do here, too.
with_iommufd() {
    label="iommufd"
    if [[ ! -d $(kernel_directory kernel-iommufd) ]]; then
        printf 'SKIP: no kernel with /dev/iommu (./tools/setup.sh test --long builds it)\n'
        return
    fi
    host_kernel="kernel-iommufd"
    start_vf vf "gen:size=64,rate=20000,count=$offered"
    start_vm intel_iommu=on vf -device "$intel_iommu,aw-bits=39"
    bind_vf
    guest 'chown vitrine /dev/iommu /dev/vfio/devices/vfio0' || wrong "the kernel offers no iommufd"
    check_traffic
    [[ $(said vf.door) == "vfio, iommufd" ]] || wrong "vitrine took the door \"$(said vf.door)\""
    check_restart
    stop_vitrine
    end_vm
}

main() {
    local kind kinds=("$@")
    need cpio python3
    need_lab
    need_built vf_sim
    enter_private_world "$@"
    pack_programs vitrine vitrinectl vitrine-guest dma_fault
    if ((${#kinds[@]} == 0)); then
        kinds=(39_bits 48_bits amd)
        ! is_long || kinds+=(virtio iommufd)
    fi
    for kind in "${kinds[@]}"; do
        "with_$kind"
    done
    (($# > 0)) || without_iommu
}

main "$@"
