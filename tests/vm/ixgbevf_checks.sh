# shellcheck shell=bash disable=SC2034,SC2154  # sourced by test_ixgbevf.sh: variables are shared
# What Linux's ixgbevf has to do on a VF of vf_sim. Each check leaves the interface up, at its addresses and MTU 1500.

vlan=5
transfer_bytes=$((64 << 20))
pings=200
reloads=20
iperf3_port=5201

count_less() {
    transfer_bytes=$((8 << 20))
    pings=50
    reloads=4
}

guest() {
    in_guest guest "$1"
}

ask_vf_sim() {
    "$source_root/tools/setup/ask.py" "$work/vf.control" "$1"
}

make_file() {
    /usr/bin/python3 -c "import random, sys; sys.stdout.buffer.write(random.Random(1).randbytes($transfer_bytes))" >"$work/file"
    checksum=$(sha256sum <"$work/file")
    checksum=${checksum%% *}
}

ok() {
    passed "$label: $*"
}

wrong() {
    fail "$label: $*"
}

has_carrier() {
    [[ $(guest "cat /sys/class/net/$interface/carrier 2>/dev/null") == "$1" ]]
}

load_driver() {
    guest 'insmod /modules/ixgbevf.ko' || wrong "ixgbevf does not load"
    interface=$(guest network-up | tail -n 1)
    [[ -n $interface ]] || wrong "ixgbevf made no interface"
    wait_until 30 "the link ($label)" has_carrier 1
}

check_probe() {
    load_driver
    guest "lab ethtool $interface" >"$work/ethtool.log" || wrong "ethtool"
    grep -q 'Speed: 10000Mb/s' "$work/ethtool.log" || wrong "the link is not at 10 Gbit/s"
    guest "lab ethtool -i $interface" >"$work/ethtool.log" || wrong "ethtool -i"
    grep -q '^driver: ixgbevf$' "$work/ethtool.log" || wrong "ethtool -i names no ixgbevf"
    grep -q '^bus-info: 0000:01:00.0$' "$work/ethtool.log" || wrong "ethtool -i names another device"
    ok "probe, link up at 10 Gbit/s"
}

# pings_arrive COUNT WHAT OPTION... -- both ends run the same words, but for the address at the end.
pings_arrive() {
    local count=$1 host_address=$2 guest_address=$3 what=$4
    shift 4
    ping -q -c "$count" -i 0.01 -W 5 "$@" "$guest_address" >"$work/ping.log" || wrong "ping to the guest ($what)"
    grep -q ' 0% packet loss' "$work/ping.log" || wrong "pings to the guest were lost ($what)"
    guest "lab ping -q -c $count -i 0.01 -W 5 $* $host_address" >"$work/ping.log" || wrong "ping from the guest ($what)"
    grep -q ' 0% packet loss' "$work/ping.log" || wrong "pings from the guest were lost ($what)"
}

check_ping() {
    pings_arrive "$pings" 10.99.0.1 10.99.0.2 "IPv4"
    ok "$pings pings each way, none lost"
    pings_arrive 50 fd99::1 fd99::2 "IPv6"
    ok "50 IPv6 pings each way, none lost"
}

# Each end answers a connection with the checksum of what it received; the guest sends back the file it was sent.
tcp_arrives() {
    local answer
    answer=$(timeout 120 busybox nc 10.99.0.2 5001 <"$work/file") || wrong "TCP to the guest ($1)"
    [[ $answer == "$checksum"* ]] || wrong "TCP to the guest ($1): sent $checksum, the guest received $answer"
    answer=$(guest 'nc 10.99.0.1 5001 </tmp/received') || wrong "TCP from the guest ($1)"
    [[ $answer == "$checksum"* ]] || wrong "TCP from the guest ($1): sent $checksum, received $answer"
    guest 'rm /tmp/received'
}

check_tcp() {
    tcp_arrives "MTU 1500"
    ok "$transfer_bytes bytes by TCP each way, checksums equal"
}

# iperf3_runs WHAT OPTION...: asked for from this end. Each run has a server of its own, on a port of its own: one that has
# not quite finished with its last client turns the next one away.
iperf3_runs() {
    local what=$1
    shift
    iperf3_port=$((iperf3_port + 1))
    guest "lab iperf3 -s -1 -p $iperf3_port --logfile /tmp/iperf3 >/dev/null 2>&1 &"
    wait_until 20 "iperf3 to listen ($label)" guest_listens "$iperf3_port"
    in_lab iperf3 -c 10.99.0.2 -p "$iperf3_port" --json "$@" >"$work/iperf3.log" ||
        wrong "iperf3 $what: $(grep '"error"' "$work/iperf3.log"); the guest says: $(guest 'cat /lab/tmp/iperf3')"
    [[ $(field "$work/iperf3.log" end.sum.packets 2>/dev/null || field "$work/iperf3.log" end.sum_received.bytes) != 0 ]] ||
        wrong "iperf3 $what: nothing arrived"
}

guest_listens() {
    guest 'netstat -ltn; ps | grep iperf3; cat /lab/tmp/iperf3' >"$work/listen.log"  # shown if the test fails here
    grep -q ":$1 " "$work/listen.log"
}

check_iperf3() {
    iperf3_runs "TCP to the guest" -t 2
    iperf3_runs "TCP from the guest" -t 2 -R
    iperf3_runs "UDP to the guest" -t 2 -u -b 20M
    iperf3_runs "UDP from the guest" -t 2 -u -b 20M -R
    ok "iperf3: TCP and UDP both ways"
}

# statistic NAME: of the last `ethtool -S` in $work/counters.log.
statistic() {
    sed -nE "s/^ *$1: //p" "$work/counters.log"
}

read_statistics() {
    guest "lab ethtool -S $interface" >"$work/counters.log" || wrong "ethtool -S"
}

# One hash and two processors: the driver asks for two queues on every part.
check_queues() {
    local queue
    iperf3_runs "eight connections" -t 2 -P 8
    iperf3_runs "eight connections back" -t 2 -P 8 -R
    read_statistics
    for queue in rx_queue_0 rx_queue_1 tx_queue_0 tx_queue_1; do
        (($(statistic "${queue}_packets") >= 100)) || wrong "$queue stayed idle"
    done
    ok "two queues each way, all in use"
}

# Counters that both sides keep, as pairs that must have grown by the same amount: what the driver counted, what its VF's
# registers say (read in the guest, past the driver), and what went over the wire. Registers wrap at 32 bits here.
# Fails if a frame crossed between the first of these reads and the last.
take_counters() {
    local base frames
    frames=$(frames_crossed)
    read_statistics
    base=$(guest "sed -n '1s/ .*//p' /sys/class/net/$interface/device/resource")
    counters=(
        "$(statistic rx_packets)" "$(hardware_register "$base" 101c)" "$(field "$work/vf_sim.json" wire.rx_delivered)"
        "$(statistic tx_packets)" "$(hardware_register "$base" 201c)" "$(field "$work/vf_sim.json" tx.frames)"
        "$(hardware_register "$base" 1020)"
        "$(($(field "$work/vf_sim.json" wire.rx_delivered_bytes) + 4 * $(field "$work/vf_sim.json" wire.rx_delivered)))"
        "$(hardware_register "$base" 2020)"
        "$(($(field "$work/vf_sim.json" tx.bytes) + 4 * $(field "$work/vf_sim.json" tx.frames)))"
        "$(statistic multicast)" "$(hardware_register "$base" 1034)"
    )
    [[ $(frames_crossed) == "$frames" ]]
}

# Leaves vf_sim's status behind.
frames_crossed() {
    ask_vf_sim status >"$work/vf_sim.json"
    echo "$(field "$work/vf_sim.json" wire.offered) $(field "$work/vf_sim.json" tx.frames)"
}

hardware_register() {
    echo $(($(guest "devmem $(printf '0x%x' $(($1 + 0x$2))) 32")))
}

# grown INDEX: since the snapshot in `before`.
grown() {
    echo $(((counters[$1] - before[$1]) & 0xffffffff))
}

counters_agree() {
    take_counters || return
    printf '%s\n' "${counters[*]}" >"$work/agree.log"
    (($(grown 0) == $(grown 1) && $(grown 1) == $(grown 2) && $(grown 3) == $(grown 4) && $(grown 4) == $(grown 5) &&
        $(grown 6) == $(grown 7) && $(grown 8) == $(grown 9) && counters[10] == counters[11]))
}

check_statistics() {
    local before
    wait_until 30 "a moment without a frame ($label)" take_counters
    before=("${counters[@]}")
    iperf3_runs "to be counted" -t 1
    iperf3_runs "to be counted back" -t 1 -R
    pings_arrive 20 fd99::1 fd99::2 "to be counted"
    printf '%s\n' "${before[*]}" >"$work/before.log"
    wait_until 30 "equal statistics of driver, registers and wire ($label)" counters_agree
    (($(grown 0) > 100 && $(grown 3) > 100)) || wrong "nothing was counted"
    [[ $(statistic rx_csum_offload_errors) == 0 ]] || wrong "the VF reported wrong checksums"
    ok "driver, VF registers and wire counted the same: $(grown 0) frames in, $(grown 3) out"
}

check_registers() {
    guest "lab ethtool -d $interface" >"$work/registers.log" || wrong "ethtool -d"
    # Up at 10 Gbit/s, and rings as long as the driver makes them: 512 and 1024 descriptors.
    grep -qE 'VFLINKS .*0x[7F]0000' "$work/registers.log" || wrong "ethtool -d: VFLINKS"
    grep -qE 'VFRDLEN\(1\) .*0x00002000$' "$work/registers.log" || wrong "ethtool -d: VFRDLEN(1)"
    grep -qE 'VFTDLEN\(1\) .*0x00004000$' "$work/registers.log" || wrong "ethtool -d: VFTDLEN(1)"
    ok "ethtool -d shows link and rings"
}

check_jumbo() {
    ip link set wire mtu 9000
    guest "ip link set $interface mtu 9000" || wrong "MTU 9000 was refused"
    wait_until 30 "the link at MTU 9000 ($label)" has_carrier 1
    ping -q -c 50 -i 0.01 -W 5 -M "do" -s 8972 10.99.0.2 >"$work/ping.log" || wrong "ping of 9000 bytes"
    grep -q ' 0% packet loss' "$work/ping.log" || wrong "pings of 9000 bytes were lost"
    tcp_arrives "MTU 9000"
    guest "ip link set $interface mtu 1500" || wrong "MTU 1500 was refused"
    ip link set wire mtu 1500
    wait_until 30 "the link at MTU 1500 again ($label)" has_carrier 1
    pings_arrive 20 10.99.0.1 10.99.0.2 "MTU 1500 again"
    ok "MTU 9000: 50 pings of full size, $transfer_bytes bytes by TCP each way; back to 1500"
}

check_vlan() {
    guest "lab ip link add link $interface name tagged type vlan id $vlan" || wrong "no VLAN interface"
    guest "ip address add 10.99.$vlan.2/24 dev tagged; ip link set tagged up" || wrong "the VLAN interface does not start"
    pings_arrive 50 "10.99.$vlan.1" "10.99.$vlan.2" "VLAN $vlan"
    guest 'ip link delete tagged' || wrong "the VLAN interface does not go"
    ok "VLAN $vlan: 50 pings each way, none lost"
}

# Frames in both directions that nobody counts, while something happens to the port.
start_traffic() {
    start to_guest ping -q -i 0.01 10.99.0.2
    # shellcheck disable=SC2016  # the guest's number
    guest 'lab ping -q -i 0.01 10.99.0.1 >/dev/null & echo $! >/tmp/ping'
}

stop_traffic() {
    wait_until 30 "traffic after $1 ($label)" traffic_flows
    stop to_guest || true
    # shellcheck disable=SC2016  # the guest's number
    guest 'kill $(cat /tmp/ping)'
    pings_arrive 20 10.99.0.1 10.99.0.2 "after $1"
}

traffic_flows() {
    local received sent
    ask_vf_sim status >"$work/vf_sim.json"
    received=$(field "$work/vf_sim.json" wire.rx_delivered)
    sent=$(field "$work/vf_sim.json" tx.frames)
    sleep 0.5
    ask_vf_sim status >"$work/vf_sim.json"
    (($(field "$work/vf_sim.json" wire.rx_delivered) >= received + 20 && $(field "$work/vf_sim.json" tx.frames) >= sent + 20))
}

check_link_flap() {
    local count
    start_traffic
    for count in 1 2 3; do
        ask_vf_sim "link down" >"$work/vf_sim.json"
        wait_until 30 "the driver to see the link go ($label)" has_carrier 0
        ask_vf_sim "link up" >"$work/vf_sim.json"
        wait_until 30 "the driver to see the link come ($label)" has_carrier 1
    done
    stop_traffic "the link flaps"
    ok "$count link flaps under traffic"
}

has_queues() {
    ask_vf_sim status >"$work/vf_sim.json"
    [[ $(field "$work/vf_sim.json" vf.rx_queues_enabled) == "$1" ]]
}

# resets_under_traffic WHAT COMMAND: the PF takes the VF's queues at once, and the driver has to notice and start again.
resets_under_traffic() {
    start_traffic
    ask_vf_sim "$2" >"$work/vf_sim.json"
    [[ $(field "$work/vf_sim.json" vf.rx_queues_enabled) == 0 ]] || wrong "$1 left the queues alone"
    wait_until 60 "the driver to start again after $1 ($label)" has_queues 2
    wait_until 30 "the link after $1 ($label)" has_carrier 1
    stop_traffic "$1"
    ok "$1 under traffic"
}

check_pf_reset() {
    resets_under_traffic "PF reset" "pf-reset 300"
}

# The driver's own MTU is 1500 here, so it goes on; a Linux PF resets for the change.
check_pf_mtu() {
    resets_under_traffic "change of the PF's MTU" "mtu 1500"
    [[ $(field "$work/vf_sim.json" vf.longest_frame) == 1518 ]] || wrong "the PF's MTU is not 1500"
}

# It writes wild values into the registers and expects most of them back; docs/vf_sim.md has the table.
check_self_test() {
    guest "lab ethtool -t $interface offline" >"$work/selftest.log" || wrong "ethtool -t: $(<"$work/selftest.log")"
    grep -q 'The test result is PASS' "$work/selftest.log" || wrong "ethtool -t: $(<"$work/selftest.log")"
    [[ $(grep -cE '^(Register test +\(offline\)|Link test +\(on/offline\))[[:space:]]+0$' "$work/selftest.log") == 2 ]] ||
        wrong "ethtool -t: $(<"$work/selftest.log")"
    wait_until 30 "the link after the self test ($label)" has_carrier 1
    pings_arrive 20 10.99.0.1 10.99.0.2 "after the self test"
    ok "ethtool -t offline: each line as expected, and frames after it"
}

check_reload() {
    local count
    for ((count = 0; count < reloads; ++count)); do
        guest 'rmmod ixgbevf' || wrong "ixgbevf does not unload"
        load_driver
    done
    pings_arrive 20 10.99.0.1 10.99.0.2 "after $reloads times rmmod and insmod"
    ok "$reloads times rmmod and insmod, link up each time"
}

check_kernel() {
    kernel_is_content guest
    ok "no complaint in the kernel's log"
}

all_checks=(
    check_probe check_ping check_tcp check_iperf3 check_queues check_statistics check_registers check_jumbo check_vlan
    check_link_flap check_self_test check_pf_reset check_pf_mtu check_reload check_kernel
)
