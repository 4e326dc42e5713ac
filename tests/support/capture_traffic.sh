#!/usr/bin/env bash
# Captures real kernel traffic as a wire would carry it: capture_traffic.sh VF-MAC TO-VF.pcap FROM-VF.pcap
#
# Two namespaces, joined by a veth pair without any offload, talk TCP, UDP, ICMP, ARP, IPv6, fragments, multicast,
# broadcast and VLANs 10 and 20. One end owns VF-MAC. TO-VF holds what reaches that end, with frames to somebody
# else's address among them; FROM-VF holds what that end sends. Prints the frames of each kind.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/harness.sh
source "$here/harness.sh"

peer_mac=02:56:54:00:77:01
stranger_mac=02:56:54:00:77:99  # nobody's: the filters of a VF must keep frames to it away
vlans=(10 20)

# The VF's end lives in a second namespace, which exists as long as its keeper sleeps.
at_vf_end() {
    nsenter --target "${child[keeper]}" --net "$@"
}

# join_network INTERFACE MAC NUMBER COMMAND-PREFIX...: addresses 10.77.VLAN.NUMBER and fd77:VLAN::NUMBER.
join_network() {
    local interface=$1 mac=$2 number=$3 vlan
    shift 3
    "$@" ethtool -K "$interface" tx off rx off sg off tso off gso off gro off txvlan off rxvlan off >/dev/null
    "$@" ip link set dev "$interface" address "$mac" up
    start "tagger_$interface" "$@" "$here/vlan_tap.py" "$interface" "${vlans[@]}"
    wait_until 5 "the taps of $interface" grep -q READY "$work/tagger_$interface.log"
    add_addresses "$interface" 0 "fd77:" "$number" "$@"
    for vlan in "${vlans[@]}"; do
        "$@" ip link set dev "vlan$vlan" address "$mac" mtu 1500 up
        add_addresses "vlan$vlan" "$vlan" "fd77:$vlan:" "$number" "$@"
    done
    "$@" ip route add 224.0.0.0/4 dev "$interface"
}

add_addresses() {
    local interface=$1 third_byte=$2 prefix=$3 number=$4
    shift 4
    "$@" ip address add "10.77.$third_byte.$number/24" broadcast + dev "$interface"
    "$@" ip address add "$prefix:$number/64" dev "$interface" nodad
}

make_ends() {
    start keeper unshare --net sleep infinity
    wait_until 5 "the second namespace" own_network "${child[keeper]}"
    ip link add peer type veth peer name vf netns "${child[keeper]}"
    at_vf_end ip link set lo up
    join_network peer "$peer_mac" 1 env
    join_network vf "$vf_mac" 2 nsenter --target "${child[keeper]}" --net
    ip neighbour add 10.77.0.3 lladdr "$stranger_mac" dev peer
    ip neighbour add fd77::3 lladdr "$stranger_mac" dev peer
}

own_network() {
    [[ $(readlink "/proc/$1/ns/net") != "$(readlink /proc/self/ns/net)" ]]  # quoted: its brackets are no pattern
}

# capture NAME DIRECTION FILE: at the VF's end; to a pipe, because tcpdump gives up its rights before it opens files.
capture() {
    # shellcheck disable=SC2016  # expanded by the inner shell, which only redirects
    start "$1" sh -c 'file=$1; shift; exec "$@" >"$file"' sh "$3" \
        nsenter --target "${child[keeper]}" --net tcpdump -i vf -Q "$2" -n -B 32768 -w -
    wait_until 10 "tcpdump" grep -q 'listening on' "$work/$1.log"
}

end_capture() {
    stop "$1" || true
    grep -q '^0 packets dropped by kernel' "$work/$1.log" || fail "tcpdump lost frames: the capture is not whole"
}

talk() {
    start server nsenter --target "${child[keeper]}" --net "$here/traffic.py" serve
    wait_until 10 "the server" grep -q READY "$work/server.log"
    "$here/traffic.py" talk
    local target
    for target in 10.77.0.2 10.77.10.2 10.77.20.2 fd77::2; do
        ping -q -f -c 40 -s 56 "$target" >/dev/null
        ping -q -f -c 40 -s 4000 "$target" >/dev/null  # three fragments each way
    done
    ping -q -f -c 20 -w 2 10.77.0.3 >/dev/null || true  # nobody answers
}

main() {
    (($# == 3)) || { sed -n '2,6s/^# //p' "$0" >&2; exit 2; }
    need ip ethtool tcpdump ping python3 nsenter
    vf_mac=$1
    enter_private_world "$@"
    make_ends
    capture to_vf in "$2"
    capture from_vf out "$3"
    talk
    sleep 0.5  # what is still under way
    end_capture to_vf
    end_capture from_vf
    "$here/pcap_kinds.py" "$2" "$3"
}

main "$@"
