#!/usr/bin/env bash
# shellcheck disable=SC2016  # words in single quotes are the guest's
# The NIC's pages in a virtual machine: vf_sim <- vitrine <- QEMU's vhost-user <- vitrine-guest, which drives the
# virtio-net device inside a Debian guest and reads the frames in the read-only BAR of an ivshmem device, in the end in
# the memory of a pmem device. Frames in pages and by copy and the other way, with their books; a guest that writes to pages; its driver killed; vitrine killed and
# the whole machine reset while the guest holds pages; and the kernel's driver on the same device afterwards.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/harness.sh
source "$here/../support/harness.sh"
# shellcheck source=tests/support/lab.sh
source "$here/../support/lab.sh"
# shellcheck source=tests/support/guest_programs.sh
source "$here/../support/guest_programs.sh"
# shellcheck source=tests/support/chain.sh
source "$here/../support/chain.sh"

frames=5000
is_long && frames=200000

nic=0000:00:10.0
region=0000:00:11.0
nic_path=/sys/bus/pci/devices/$nic
region_path=/sys/bus/pci/devices/$region
in_pages=(--pages pci)
received=0  # by the guest, as it says, since vitrine started
sent=0
boots=1
held=256 # pages by a driver that has stopped

guest() {
    in_guest guest "$*"
}

wrong() {
    guest 'tail -n 5 /tmp/guest.log; dmesg | tail -n 5' >"$work/guest.log" 2>&1 || true
    fail "$*"
}

# What shows the region to the guest: ivshmem, or what cloud-hypervisor has, a persistent memory device whose file is
# mapped privately.
region_options() {
    local backend bytes
    bytes=$(stat -c %s "$work_in_memory/pages")
    backend="memory-backend-file,id=pages,mem-path=$work_in_memory/pages,size=$bytes,readonly=on"
    case $1 in
        ivshmem) printf '%s\n' -object "$backend,share=on" -device ivshmem-plain,memdev=pages,addr=11 ;;
        pmem) printf '%s\n' -m slots=1,maxmem=1G -object "$backend,share=off,rom=off" -device virtio-pmem-pci,memdev=pages,addr=11 ;;
    esac
}

# start_vm WAY
start_vm() {
    local options
    mapfile -t options < <(region_options "$1")
    # Not ended by a reset, as other guests are: this one is to boot again.
    start_lab_guest guest kernel-6.12 512 "loglevel=7" -action reboot=reset \
        -chardev "socket,id=vhost,path=$work/vhost.sock,reconnect-ms=200" -netdev vhost-user,id=net,chardev=vhost \
        -device "virtio-net-pci,netdev=net,mac=$vf_mac,romfile=,packed=on,addr=10" \
        "${options[@]}"
    prepare_guest
}

# What an operator does in the guest: huge pages, and no driver on the device.
prepare_guest() {
    guest 'mkdir -p /dev/hugepages; mount -t hugetlbfs none /dev/hugepages; echo 8 >/proc/sys/vm/nr_hugepages'
    guest "echo $nic >$nic_path/driver/unbind" || wrong "virtio-pci does not let go of the device"
}

# start_driver MODE OPTION...: vitrine-guest in the guest.
start_driver() {
    guest "rm -f /tmp/guest.ended; (vitrine-guest $1 --pci $nic --json --idle-seconds 1000 --wait-seconds 1000 ${*:2}" \
        ">/tmp/guest.json 2>/tmp/guest.log; echo \$? >/tmp/guest.ended) &"
}

driver_has_ended() {
    guest 'test -e /tmp/guest.ended'
}

# finish_driver WHAT: its report is then in $work/guest.json, and in the sums.
finish_driver() {
    wait_until 300 "the end of vitrine-guest ($1)" driver_has_ended
    guest 'cat /tmp/guest.json' >"$work/guest.json"
    [[ $(guest 'cat /tmp/guest.ended') == 0 ]] || wrong "$1: vitrine-guest ended badly: $(<"$work/guest.json")"
    [[ "$(reported bad) $(reported violations)" == "0 0" ]] || wrong "$1: $(<"$work/guest.json")"
    received=$((received + $(reported received.frames)))
    sent=$((sent + $(reported sent.frames)))
}

end_driver() {
    guest 'kill -TERM $(pidof vitrine-guest)'
    finish_driver "$1"
}

reported() {
    field "$work/guest.json" "$1"
}

said() {
    field "$work/vitrine.json" "$1"
}

# more_than COUNTER NUMBER: vitrine's.
more_than() {
    take_status && (($(said "pairs.0.$1") > $2))
}

# expect_more COUNTER [FRAMES]: from now on.
expect_more() {
    local before
    take_status
    before=$(said "pairs.0.$1")
    wait_until 120 "frames ($1)" more_than "$1" $((before + ${2:-500}))
}

# The wire is silent, and all that was on its way has come through.
silence() {
    ask_vf_sim "link down" >/dev/null
    wait_until 60 "silence" nothing_moves
}

nothing_moves() {
    local before
    before=$(counts)
    sleep 0.3
    [[ $before == "$(counts)" ]]
}

counts() {
    take_status
    echo "$(field "$work/vf_sim.json" wire.rx_delivered) $(said pairs.0.receive.frames_from_nic) $(said pairs.0.receive_ring.frames)"
}

audit() {
    "$build/vitrinectl" audit "$chain" --run-dir "$work/run" --json >"$work/audit.json" || wrong "vitrinectl audit"
    field "$work/audit.json" packets.guest
}

all_pages_are_back() {
    (($(audit) == 0))
}

check_pages_and_books() {
    start_driver check "${in_pages[@]}"
    open_wire
    expect_more receive.lent "$frames"
    silence
    end_driver "in pages"
    take_status
    [[ $(said pairs.0.receive.lent) == "$(reported received.frames)" ]] || wrong "not what vitrine lent: $(<"$work/guest.json")"
    [[ $(said pairs.0.receive.copied) == 0 ]] || wrong "$(said pairs.0.receive.copied) frames were copied"
    passed "in pages: $(reported received.frames) frames, 0 bad, 0 copied"

    open_wire
    start_driver tx --count "$frames" --size 1518
    finish_driver "tx"
    wait_until 60 "the frames at the wire" at_the_wire "$frames"
    start_driver check
    expect_more receive.copied
    silence
    end_driver "by copy"
    wait_until 60 "balanced books" books_balance "$received" "$sent"
    wait_until 60 "all pages to be back" all_pages_are_back
    passed "$sent frames to the wire, and $(reported received.frames) by copy to the same driver; $(paste -sd ';' "$work/books.log")"
}

at_the_wire() {
    take_status
    [[ $(field "$work/vf_sim.json" tx_checked.bad) == 0 ]] || wrong "bad frames at the wire"
    (($(field "$work/vf_sim.json" tx_checked.good) == $1))
}

# The guest's driver may have either kind of ring; on packed ones QEMU lets no pages through.
check_packed() {
    start_driver check --packed on --queue-size 100
    open_wire
    expect_more receive.copied
    [[ $(rings_agreed) == packed ]] || wrong "the rings are $(rings_agreed), not packed"
    silence
    end_driver "by copy, packed"
    wait_until 60 "balanced books" books_balance "$received" "$sent"
    passed "on packed rings of 100: $(reported received.frames) frames by copy, 0 bad; $(paste -sd ';' "$work/books.log")"
}

# The library's port, and a process that reads from it: each way and size of the table once.
check_applications() {
    local before
    take_status
    before=$(said pairs.0.receive.copied)
    open_wire
    guest "vitrine-guest perf --pci $nic ${in_pages[*]} --bytes 64k --wait-seconds 100 --json >/tmp/guest.json 2>/tmp/guest.log" ||
        wrong "perf: $(guest 'cat /tmp/guest.json')"
    guest 'cat /tmp/guest.json' >"$work/guest.json"
    (($(reported rows.17.frames) > 0 && $(reported rows.0.bad) == 0)) || wrong "perf: $(<"$work/guest.json")"
    guest "test ! -e /dev/hugepages/vitrine-guest-$nic" || wrong "a clean end leaves memory behind"
    take_status
    [[ $(said pairs.0.receive.copied) == "$before" ]] || wrong "frames were copied to a port of pages"
    silence
    passed "an application reads what a port on PCI receives, three ways, six sizes: 0 bad, 0 copied"
}

# Whatever becomes of the writes in the guest, they reach no byte of the file.
check_writes() {
    local before after answer
    before=$(sha256sum <"$work_in_memory/pages")
    answer=$(guest "write_pages $region_path/resource2; echo status \$?")
    after=$(sha256sum <"$work_in_memory/pages")
    [[ $before == "$after" ]] || wrong "a write in the guest reached the region: $answer"
    passed "root in the guest writes to the BAR: ${answer//$'\n'/, }; the region is unchanged"

    start_driver check "${in_pages[@]}"
    open_wire
    expect_more receive.lent
    guest "for i in 1 2 3 4 5; do write_pages $region_path/resource2; done" >/dev/null
    expect_more receive.lent
    end_driver "writes in traffic"
    passed "the same in traffic: frames go on, 0 bad"
}

# The device is not told of such an end, and goes on writing to the rings.
check_driver_killed() {
    start_driver check "${in_pages[@]}"
    expect_more receive.lent
    guest 'kill -9 $(pidof vitrine-guest)'
    wait_until 30 "the end of vitrine-guest" driver_has_ended
    guest "test -e /dev/hugepages/vitrine-guest-$nic" || wrong "the rings' memory went away under the device"
    start_driver check "${in_pages[@]}"
    expect_more receive.lent
    end_driver "after kill -9"
    guest "test ! -e /dev/hugepages/vitrine-guest-$nic" || wrong "a clean end leaves memory behind"
    passed "vitrine-guest killed in traffic and started again: frames go on, 0 bad"
}

# hold_pages: the guest's driver stops with all its credits used; it holds that many pages.
hold_pages() {
    start_driver check "${in_pages[@]}"
    expect_more receive.lent
    guest 'kill -STOP $(pidof vitrine-guest)'
    wait_until 60 "a guest that holds pages" holds_pages
}

# It has emptied no slot since, so what it holds are as many pages as its ring has slots.
holds_pages() {
    (($(audit) == held))
}

check_vitrine_killed() {
    hold_pages
    # Pages that are lent keep their bytes: what the guest reads when it goes on must be what it was lent.
    kill -9 "${child[vitrine]}"
    stop vitrine || true
    rm "$work/vhost.sock"
    start_daemon "${pages_options[@]}"
    wait_until 60 "QEMU to come back" front_end_ready
    wait_until 60 "the pages to be lent still" holds_pages
    sleep 1
    holds_pages || wrong "of $held pages $(audit) are lent after the restart"
    guest 'kill -CONT $(pidof vitrine-guest)'
    expect_more receive.lent "$frames"
    [[ $(said pairs.0.receive.copied) == 0 ]] || wrong "frames were copied after the restart"
    end_driver "vitrine killed"
    passed "vitrine killed with $held pages in the guest's hands: the ring lives on, and of $(reported received.frames) frames 0 are bad"
}

check_machine_reset() {
    local before
    hold_pages
    take_status
    before=$(said pairs.0.receive_ring.rx_reclaimed)
    guest_reset
    prepare_guest
    holds_pages || wrong "a reset gave pages back: of $held $(audit) are lent"
    start_driver check "${in_pages[@]}"
    expect_more receive.lent
    (($(said pairs.0.receive_ring.rx_reclaimed) == before + held)) || wrong "not all pages came back with the next start"
    end_driver "after a reset"
    passed "the machine reset with $held pages held: all back with the next start, frames go on, 0 bad"
}

guest_reset() {
    boots=$((boots + 1))
    "$here/guest_command.py" "$work/guest.command" 1 'reboot -f' >/dev/null 2>&1 || true
    wait_until 300 "the guest to boot again" booted_again
}

booted_again() {
    running guest || fail "QEMU ended at the reset"
    (($(grep -c READY "$work/guest.console.log") == boots))
}

check_kernel_driver() {
    local interface
    guest "echo $nic >/sys/bus/pci/drivers/virtio-pci/bind" || wrong "virtio-pci does not take the device back"
    interface=$(guest network-up | tail -n 1)
    open_wire
    expect_more receive.copied 1000
    (($(guest "cat /sys/class/net/$interface/statistics/rx_packets") > 500)) || wrong "virtio_net received nothing"
    passed "the kernel's virtio_net on the same device: frames by copy"
}

# What the guest writes to such a device, it writes to a copy that it alone has.
check_persistent_memory() {
    local registers low high word before copied
    take_status
    copied=$(said pairs.0.receive.copied)  # by the kernel's driver
    guest "test ! -e $region_path/driver || echo $region >$region_path/driver/unbind" || wrong "no pmem device"
    start_driver check "${in_pages[@]}"
    open_wire
    expect_more receive.lent
    silence
    end_driver "a pmem device"
    take_status
    [[ $(said pairs.0.receive.copied) == "$copied" ]] || wrong "$(said pairs.0.receive.copied) frames were copied, $copied before"
    passed "by a pmem device: $(reported received.frames) frames in pages, 0 bad, 0 copied"

    before=$(sha256sum <"$work_in_memory/pages")
    registers=$(guest "sed -n '5s/ .*//p' $region_path/resource")
    low=$(guest "devmem $(printf '0x%x' $((registers + 0x2000))) 32")
    high=$(guest "devmem $(printf '0x%x' $((registers + 0x2004))) 32")
    word=$(printf '0x%x' $(((high << 32 | low) + 4096)))
    [[ $(guest "devmem $word 32 0x12345678; devmem $word 32") == 0x12345678 ]] || wrong "root in the guest cannot write at $word"
    [[ $(sha256sum <"$work_in_memory/pages") == "$before" ]] || wrong "a write in the guest reached the region"
    passed "root in the guest writes to it: it reads what it wrote; the region is unchanged"
}

main() {
    need cpio python3
    need_lab
    need_built vf_sim vitrine vitrinectl vitrine-guest write_pages
    enter_private_world "$@"
    pack_programs vitrine-guest write_pages
    pages_options=(--packed on --rx pages --pages-path "$work_in_memory/pages")
    start_chain pages gen:size=512,rate=5000 "${pages_options[@]}"
    start_vm ivshmem
    check_pages_and_books
    check_packed
    check_applications
    check_writes
    check_driver_killed
    check_vitrine_killed
    check_machine_reset
    check_kernel_driver
    kernel_is_content guest
    stop_lab_guest guest
    start_vm pmem
    check_persistent_memory
    kernel_is_content guest
    stop_lab_guest guest
    stop_chain
}

main "$@"
