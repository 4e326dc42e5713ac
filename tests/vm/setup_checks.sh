#!/bin/bash
# The tests of setup.sh that run on a host (a guest of the lab, see setup_root.sh): setup_checks.sh PART [ARGUMENT...].
# eth0 and eth1 are PFs of two igb cards; 04:01.0 and 04:02.0 share a group. Each part ends as it began.
set -eEuo pipefail
trap 'echo "FAIL: line $LINENO of setup_checks.sh, in ${FUNCNAME[0]:-main}" >&2' ERR

setup=/opt/vitrine/tools/setup.sh
vm1=(--pf eth0 --vf 1 --vm vm1 --mac 52:54:00:ab:cd:01 --vlan 100 --test-any-vf)
vf=/sys/bus/pci/devices/0000:01:00.0/virtfn1
output=/tmp/output

# shellcheck source=tests/vm/setup_faults.sh
source "$(dirname "$0")/setup_faults.sh"

fail() {
    echo "FAIL: $*"
    echo "--- last output"
    tail -n 30 "$output"
    exit 1
}

passed() { echo "ok: $*"; }

# expect STATUS VERB ARGUMENT...: runs setup.sh; what it says is in $output.
expect() {
    local wanted=$1 status=0
    shift
    "$setup" "$@" >"$output" 2>&1 </dev/null || status=$?
    ((status == wanted)) || fail "setup.sh $* ended with $status and not $wanted"
}

says() {
    grep -qE -- "$1" "$output" || fail "it does not say: $1"
}

# refuses STATUS WORDS VERB ARGUMENT...: one line says why.
refuses() {
    expect "$1" "${@:3}"
    says "^setup.sh: .*$2"
}

# All that apply may touch. Not in it: what useradd keeps as a copy of the old files, and the lock of this boot.
snapshot() {
    cd /sys/bus/pci
    echo drivers/*
    find devices/*/ -maxdepth 1 -type l '(' -name driver -o -name iommu_group ')' -printf '%p %l\n' | sort
    grep -H '' devices/*/{driver_override,sriov_numvfs,sriov_drivers_autoprobe,enable} /sys/devices/system/node/node*/hugepages/*/nr_hugepages
    cd /
    cut -d ' ' -f 1 /proc/modules | sort
    cat /proc/mounts
    stat -c '%n %U %G %a' /dev/vfio/* /dev/vitrine /dev/vitrine/* 2>/dev/null || true
    ip -o link show | sed -E 's/^[0-9]+: //; s/<[^>]*>//; s/ state [A-Z]+//; s/ qdisc [a-z_]+//' | grep -v '^bond0' | sort
    ip -o -4 address
    { find /etc/vitrine /etc/systemd/system /var/lib/vitrine /run/vitrine -printf '%p %M %u %g\n' 2>/dev/null || true; } | sort
    { find /etc/vitrine /etc/systemd/system -type f -exec sha256sum {} + 2>/dev/null || true; } | sort
    sha256sum /etc/passwd /etc/group /etc/shadow /etc/gshadow
}

begin() {
    snapshot >/tmp/at_first
}

same_as_at_first() {
    snapshot | diff /tmp/at_first - >>"$output" || fail "$1: it is not as it was before"
}

part_refusals() {
    begin
    refuses 4 '8086:10ca is none that vitrine drives' apply --pf eth0 --vf 0 --vm vm1
    ip address add 10.9.9.1/24 dev eth0
    refuses 4 'eth0 has the address 10.9.9.1/24.*--force' apply "${vm1[@]}"
    ip address flush dev eth0
    ip route add 10.8.0.0/16 dev eth0
    refuses 4 'eth0 carries the route 10.8.0.0/16' apply "${vm1[@]}"
    ip route add default dev eth0
    refuses 4 'eth0 carries the default route' plan "${vm1[@]}"
    ip route flush dev eth0
    ip link add bridge9 type bridge
    ip link set eth0 master bridge9
    refuses 4 'eth0 is a port of bridge bridge9' apply "${vm1[@]}"
    ip link set eth0 nomaster
    ip link delete bridge9
    ip link set eth1 down
    ip link set bond0 down
    ip link set eth1 master bond0
    ip link set eth1 up
    refuses 4 'eth1 is a part of bond bond0' apply --pf eth1 --vf 0 --vm vm1 --test-any-vf
    ip link set eth1 nomaster
    ip link add link eth0 name eth0.7 type vlan id 7
    refuses 4 'eth0 carries eth0.7' apply "${vm1[@]}"
    ip link delete eth0.7
    ip address add 10.9.9.2/24 dev eth1
    refuses 4 'VF 0000:02:00.0: eth1 has the address 10.9.9.2/24' apply --vf 0000:02:00.0 --vm vm1 --test-any-vf --force
    ip address flush dev eth1
    ip netns add elsewhere
    ip link set eth1 netns elsewhere
    refuses 4 'interface in another network namespace' apply --vf 0000:02:00.0 --vm vm1 --test-any-vf --force
    ip -n elsewhere link set eth1 netns 1
    ip netns delete elsewhere
    umount /run/netns
    ip link set eth1 up
    same_as_at_first refusals
    passed "refuses a function with an address, a route, a bridge, a bond, a VLAN, or in a container; nothing changed"

    ip link set eth0 down
    refuses 3 'PF eth0: is down.*ip link set dev eth0 up' apply "${vm1[@]}"
    ip link set eth0 up
    refuses 3 'there is no network interface eth7' apply --pf eth7 --vf 0 --vm vm1
    refuses 2 'eth0 has VFs 0 to 6' apply --pf eth0 --vf 9 --vm vm1
    refuses 3 'group [0-9]*: not viable: 0000:04:02.0 .* is bound to virtio-pci' apply --vf 0000:04:01.0 --vm vm1 --test-any-vf
    same_as_at_first "what is missing"
    passed "says what is missing, with the command that helps; nothing changed"
}

# The plan's lines, run by a shell, come to the same as apply.
part_plan() {
    begin
    snapshot >/tmp/before
    expect 0 plan "${vm1[@]}"
    cp "$output" /tmp/plan
    expect 0 plan "${vm1[@]}" --json
    jq -e '.steps[-1].old == "absent" and ([.steps[].commands] | index("modprobe vfio-pci"))' <"$output" >/dev/null || fail "plan --json"
    (($(jq '.steps | length' "$output") == $(grep -cE '^# [0-9]+  ' /tmp/plan))) || fail "plan --json has not all steps"
    snapshot | diff /tmp/before - || fail "plan changed something"
    expect 0 apply "${vm1[@]}"
    sed -nE 's/^# ([0-9]+  .*): .*/\1/p' /tmp/plan >/tmp/planned
    sed -nE 's/^  ([0-9]+  .*): .*/\1/p' "$output" | diff /tmp/planned - || fail "apply did other steps than planned"
    snapshot | grep -v /var/lib/vitrine >/tmp/applied
    expect 0 rollback --vm vm1
    mkdir -p /var/lib/vitrine/vm1
    bash -e /tmp/plan >"$output" 2>&1 || fail "the plan's lines do not run"
    snapshot | grep -v /var/lib/vitrine | diff /tmp/applied - || fail "the plan's lines did something else than apply"
    rm -r /var/lib/vitrine
    passed "the $(wc -l </tmp/planned) steps of the plan are those of apply, and its lines do what apply does"

    # What was done by hand is found as it is; what is undone then is what apply found.
    snapshot >/tmp/before
    expect 0 apply "${vm1[@]}"
    expect 0 rollback --vm vm1
    snapshot | diff /tmp/before - >>"$output" || fail "rollback undid what apply had found done"
    undo_by_hand
    userdel vitrine-vm1
    rm -r /etc/vitrine /etc/systemd/system/vitrine@vm1.service.d
    modprobe -r vfio-pci
    modprobe -r vfio_iommu_type1
    same_as_at_first "undone by hand"
    passed "what is there already is neither done nor undone"
}

# What a reboot would do.
undo_by_hand() {
    umount /dev/vitrine/*
    rm -r /dev/vitrine
    echo 0 >/sys/bus/pci/devices/0000:01:00.0/sriov_numvfs
    echo 1 >/sys/bus/pci/devices/0000:01:00.0/sriov_drivers_autoprobe
    echo 0 >/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages
}

as_user() {
    setpriv --reuid "$1" --clear-groups bash -c "$2" 2>/dev/null
}

part_apply() {
    local group
    begin
    expect 0 apply "${vm1[@]}"
    [[ $(readlink "$vf/driver") == */vfio-pci && $(readlink "${vf%1}0/driver") == '' ]] || fail "the wrong VF is bound"
    ip link show eth0 | grep -q 'vf 1 .*52:54:00:ab:cd:01.*vlan 100, spoof checking on.*trust off' || fail "the VF's policy"
    group=$(basename "$(readlink "$vf/iommu_group")")
    as_user vitrine-vm1 ": <>/dev/vfio/$group" || fail "vitrine-vm1 cannot open the group"
    ! as_user nobody ": <>/dev/vfio/$group" || fail "nobody can open the group"
    as_user vitrine-vm1 ": >/dev/vitrine/vm1/file" || fail "vitrine-vm1 cannot use its huge pages"
    rm /dev/vitrine/vm1/file
    expect 0 doctor --vm vm1
    expect 0 doctor --vm vm1 --json
    jq -e '.verdict != "FAIL" and ([.checks[].check] | index("memlock of vm1"))' <"$output" >/dev/null || fail "doctor --json"
    expect 0 status --json
    jq -e '.[0] | .vm == "vm1" and .state == "as set up" and .address == "0000:01:10.2"' <"$output" >/dev/null || fail "status --json"
    passed "apply: bound, owned by the user of the VM alone, policy set; doctor and status are content"

    snapshot >/tmp/before
    cp /var/lib/vitrine/vm1/journal /tmp/journal
    expect 0 apply "${vm1[@]}"
    says 'nothing to change'
    expect 0 apply --pf eth0 --vf 1 --vm vm1
    says 'nothing to change'
    snapshot | diff /tmp/before - >>"$output" || fail "a second apply changed something"
    cmp /tmp/journal /var/lib/vitrine/vm1/journal || fail "a second apply wrote to the journal"
    passed "a second apply changes nothing"

    exec 7<>"/dev/vfio/$group"  # as a running vitrine has it
    refuses 4 'in use by a running program' rollback --vm vm1
    refuses 4 'eth0/1 belongs to vm1' apply --pf eth0 --vf 1 --vm vm2 --test-any-vf
    expect 0 apply "${vm1[@]}"
    exec 7>&-
    refuses 4 'eth0 has 4 VFs' apply --pf eth0 --vf 5 --vm vm2 --test-any-vf
    refuses 4 'vm1 has eth0/1 already' apply --pf eth0 --vf 2 --vm vm1 --test-any-vf
    ip address add 10.9.9.1/24 dev eth0
    expect 0 apply "${vm1[@]}"
    refuses 4 'address 10.9.9.1/24 by now.*--force' rollback --vm vm1
    ip address flush dev eth0
    passed "a VF that is in use stays; so do the VFs of a PF that has come to carry an address"

    guest_memory_is_set_aside "$group"

    echo 7 >/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages
    usermod --append --groups vitrine-vm1 nobody  # as the VMM's user
    expect 0 rollback --vm vm1
    read -r pages </sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages
    ((pages == 3)) || fail "rollback took back huge pages of others: $pages are left"
    echo 0 >/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages
    same_as_at_first "apply and rollback"
    expect 0 rollback --vm vm1
    says 'nothing to undo'
    passed "rollback: all as it was before"
}

pages_are() {
    local now
    read -r now </sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages
    ((now == $1)) || fail "$2: $now huge pages and not $1"
}

# guest_memory_is_set_aside GROUP: once, although vitrine is started again while the VMM has it. vm1 has 4 pages of its own.
guest_memory_is_set_aside() {
    expect 0 apply "${vm1[@]}" --guest-memory 64
    pages_are 36 "64 MiB for the guest"
    mkdir /tmp/vmm
    mount -t hugetlbfs -o pagesize=2M none /tmp/vmm
    fallocate -l 64M /tmp/vmm/guest
    expect 0 bind vm1
    pages_are 36 "the service is started again"
    fallocate -l 8M /dev/vitrine/vm1/own
    exec 7<>"/dev/vfio/$1"
    expect 0 apply "${vm1[@]}" --guest-memory 96
    pages_are 52 "32 MiB more while all runs"
    exec 7>&-
    rm /dev/vitrine/vm1/own
    umount /tmp/vmm
    rmdir /tmp/vmm
    expect 0 rollback --vm vm1
    rmdir /run/vitrine
    pages_are 0 "all rolled back"
    expect 0 apply "${vm1[@]}"
    passed "the guest's memory is set aside once, and not again when vitrine is started again"
}

# Two functions of the same PF, one VF without its PF, and files that the operator has edited.
part_others() {
    begin
    expect 0 apply "${vm1[@]}"
    expect 0 apply --pf eth0 --vf 0 --vm vm2 --test-any-vf
    expect 0 rollback --vm vm1
    says 'vm2 needs it'
    expect 0 status --vm vm2
    says 'as set up'
    expect 0 rollback --vm vm2
    same_as_at_first "two VMs on one PF"
    passed "two VMs on one PF: what the other needs stays until the last goes"

    local neighbour
    expect 0 apply "${vm1[@]}"
    neighbour=$(basename "$(readlink "${vf%1}0")")
    echo vfio-pci >"/sys/bus/pci/devices/$neighbour/driver_override"
    echo "$neighbour" >/sys/bus/pci/drivers_probe
    refuses 1 "VF $neighbour is bound to vfio-pci, so somebody uses it" rollback --vm vm1
    [[ -e $vf ]] || fail "the VFs went"
    echo "$neighbour" >/sys/bus/pci/drivers/vfio-pci/unbind
    expect 0 rollback --vm vm1
    modprobe -r vfio-pci vfio_iommu_type1 vfio
    same_as_at_first "a neighbour"
    passed "VFs stay as long as somebody else has one of them"

    expect 0 apply --vf 0000:02:00.0 --vm vm3 --test-any-vf
    [[ $(readlink /sys/bus/pci/devices/0000:02:00.0/driver) == */vfio-pci ]] || fail "not bound"
    expect 0 rollback --vm vm3
    ip link set eth1 up
    same_as_at_first "a function with a driver"
    passed "a function that had a driver gets it back"

    expect 0 apply "${vm1[@]}"
    expect 0 apply --pf eth0 --vf 1 --vm vm1 --mac 52:54:00:ab:cd:02 --mtu 2000
    ip link show eth0 | grep -q 'vf 1 .*52:54:00:ab:cd:02' || fail "the VF's other address"
    grep -q 'mtu = 2000' /etc/vitrine/vm1.toml || fail "the other MTU"
    VITRINE_SETUP_FAIL=changed:2 expect 1 apply "${vm1[@]}" --mtu 1500 --trust on
    expect 0 status
    says 'as set up'
    expect 0 rollback --vm vm1
    same_as_at_first "two applies"
    passed "another apply changes what is different; if it fails, the VM is as it was set up before"

    expect 0 apply "${vm1[@]}"
    echo '# mine' >>/etc/vitrine/vm1.toml
    expect 0 apply "${vm1[@]}"
    says 'nothing to change'
    expect 0 rollback --vm vm1
    grep -q '# mine' /etc/vitrine/vm1.toml.edited || fail "an edited configuration was lost"
    rm -r /etc/vitrine
    same_as_at_first "an edited configuration"
    passed "an edited configuration is kept"
}

# bind after a reboot: other boot id, no VFs, no huge pages, nothing below /dev.
part_reboot() {
    local folder=/etc/systemd/system/vitrine@vm1.service.d
    mkdir -p "$folder"
    echo '# mine' >"$folder/limits.conf"
    begin
    expect 0 apply "${vm1[@]}"
    snapshot >/tmp/before
    undo_by_hand
    modprobe -r vfio-pci
    modprobe -r vfio_iommu_type1
    echo 00000000-0000-0000-0000-000000000001 >/tmp/boot_id
    mount --bind /tmp/boot_id /proc/sys/kernel/random/boot_id
    expect 3 doctor --vm vm1
    says '^ vm1 +WARN +not as apply left it.*bind vm1'
    expect 0 bind vm1
    umount /proc/sys/kernel/random/boot_id
    [[ $(</run/vitrine/vm1.env) == VITRINE_VF=0000:01:10.2 ]] || fail "vm1.env"
    mount --bind /tmp/boot_id /proc/sys/kernel/random/boot_id
    rm -r /run/vitrine
    snapshot | grep -v "boot_id" | diff /tmp/before - >>"$output" || fail "bind did not do all again"
    expect 0 apply "${vm1[@]}" --queues 2
    expect 0 bind vm1
    expect 0 bind vm1 --undo
    [[ ! -e $vf ]] || fail "bind --undo left the VFs"
    expect 0 bind vm1
    expect 0 rollback --vm vm1
    umount /proc/sys/kernel/random/boot_id
    rmdir /run/vitrine
    same_as_at_first "after a reboot"
    rm -r "$folder"
    passed "bind does again what a reboot has undone; rollback undoes it"

    refuses 3 'vm1.toml is not there' bind vm1
    mkdir /etc/vitrine
    echo 'vf = "eth0/0"' >/etc/vitrine/vm1.toml
    refuses 3 'no user vitrine-vm1' bind vm1
    useradd --system --no-create-home vitrine-vm1
    # shellcheck disable=SC2016  # that it stays words is what is tested
    echo 'vf = "eth0/a[$(touch ran)]"' >/etc/vitrine/vm1.toml
    refuses 2 'the number of a VF' bind vm1
    [[ ! -e /ran ]] || fail "what stands in vm1.toml was run"
    userdel vitrine-vm1
    rm -r /etc/vitrine
    passed "bind says what is missing"
}

# finds CHECK WORDS OPTION...: doctor does, and has a command for it.
finds() {
    expect 3 doctor "${@:3}"
    says "^ $1 +FAIL .*$2"
}

part_doctor() {
    local limits=/etc/systemd/system/vitrine@vm1.service.d/limits.conf
    local hugetlb=/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages
    begin
    finds card 'no network interface of an 82599.*modprobe ixgbe'
    finds 'huge pages' 'need 4 x 2048 KiB .* free 0 of 0 .*apply' --pf eth0 --vf 1 --test-any-vf
    ip link set eth0 down
    finds 'PF eth0' 'is down.*ip link set dev eth0 up' --pf eth0 --vf 1 --test-any-vf
    ip link set eth0 up
    finds 'VF 0000:01:10.2' '8086:10ca is none that vitrine drives' --pf eth0 --vf 1
    finds 'VF 0000:02:00.0' 'bound to igb, so the kernel has it .*unbind' --vf 0000:02:00.0 --test-any-vf
    finds 'group [0-9]+' 'not viable: 0000:04:02.0 .* is bound to virtio-pci' --vf 0000:04:01.0 --test-any-vf
    finds 'VF 0000:77:00.0' 'there is no PCI function 0000:77:00.0.*lspci' --vf 0000:77:00.0
    expect 0 apply "${vm1[@]}"
    expect 0 doctor --vm vm1
    sed -i.kept 's/^LimitMEMLOCK=.*/LimitMEMLOCK=65536/' "$limits"
    finds 'memlock of vm1' 'allows 65536 bytes.*are needed' --vm vm1
    mv "$limits.kept" "$limits"
    chmod 600 /dev/vfio/vfio
    finds /dev/vfio/vfio 'mode 600: only root.*chmod 666' --vm vm1
    chmod 666 /dev/vfio/vfio
    chown root: "/dev/vfio/$(basename "$(readlink "$vf/iommu_group")")"
    finds 'VF 0000:01:10.2' 'belongs to root.*and not to vitrine-vm1.*bind vm1' --vm vm1
    echo 0 >"$hugetlb"
    finds 'huge pages' 'free 0 of 0' --vm vm1
    expect 0 status
    says 'changed since'
    expect 0 apply "${vm1[@]}"
    expect 0 doctor --vm vm1
    expect 0 rollback --vm vm1
    same_as_at_first "doctor's problems"
    passed "doctor finds each planted problem and names the remedy; apply sets right what was changed since"
}

part_no_iommu() {
    begin
    expect 3 doctor
    says '^ IOMMU +FAIL .*intel_iommu=on'
    refuses 3 'IOMMU: VT-d is there and off: add intel_iommu=on' apply "${vm1[@]}"
    same_as_at_first "no IOMMU"
    passed "IOMMU off: doctor and apply name the switch; nothing changed"
}

"part_$1" "${@:2}"
