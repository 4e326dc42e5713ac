#!/usr/bin/env bash
# vitrine@.service under a real systemd, that of Debian 13 with its C library, in a guest of the lab: installed by cmake
# --install, started on the kernel's VFIO, killed, reset, and stopped.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/support/harness.sh
source "$here/../support/harness.sh"
# shellcheck source=tests/support/lab.sh
source "$here/../support/lab.sh"
# shellcheck source=tests/support/guest_programs.sh
source "$here/../support/guest_programs.sh"

frames=20000
! is_long || frames=500000
frames_per_second=5000
vf=0000:01:00.0
most_exposure=1.5

# service COMMAND: a shell command in systemd's world, where on a busy machine a start of a program can take seconds.
service() {
    local command=${1//$'\n'/;}
    "$here/guest_command.py" "$work/guest.command" 600 "in-systemd '${command//\'/\'\\\'\'}'"
}

wrong() {
    service 'systemctl status vitrine@vm1; journalctl --no-pager | tail -n 20; vitrinectl status vm1 --json | tr -d "\\n "' \
        >"$work/service.log" 2>&1 || true
    fail "$*"
}

start_world() {
    local devices
    pack_programs vitrine vitrinectl vitrine-guest
    DESTDIR=$work/ours/installed cmake --install "$build" --prefix /usr --strip >"$work/install.log"
    install -m 755 "$here/guest_systemd.sh" "$work/ours/bin/guest-systemd"
    start vf_sim "$build/vf_sim" --socket "$work/vf.sock" --control "$work/vf.control" --mac 02:56:46:00:00:01 \
        --wire "gen:size=64,rate=$frames_per_second" --strict
    wait_for_socket "$work/vf.sock" vf_sim
    mapfile -t devices < <(vf_options "$work/vf.sock")
    start_lab_guest guest kernel-6.12 1024 intel_iommu=on -device intel-iommu,intremap=on,caching-mode=on "${devices[@]}"
    in_guest guest guest-systemd || fail "the guest has no systemd"
    wait_until 120 "systemd to have started" systemd_has_started
}

systemd_has_started() {
    service 'systemctl is-system-running' 2>/dev/null | grep -qE 'running|degraded'
}

# As an operator would. The unit's own privileged step then finds all of it done.
prepare_vm() {
    service "systemd-sysusers; systemd-tmpfiles --create /usr/lib/tmpfiles.d/vitrine.conf
        /usr/libexec/vitrine/tools/setup.sh apply --vf $vf --vm vm1 --yes" >"$work/apply.log" 2>&1 || fail "setup.sh apply"
    passed "setup.sh apply: $(tail -n 1 "$work/apply.log")"
}

# property NAME: of the unit, as systemd sees it.
property() {
    service "systemctl show vitrine@vm1 --property $1 --value"
}

start_service() {
    service 'systemctl start vitrine@vm1' >"$work/start.log" 2>&1 || wrong "the service does not start"
    passed "systemd $(service 'systemctl --version' | sed -n '1s/systemd \([0-9]*\).*/\1/p') starts the service: $(property StatusText)"
}

check_exposure() {
    local complaints exposure
    complaints=$(service 'systemd-analyze verify vitrine@vm1.service 2>&1' | grep vitrine || true)
    [[ -z $complaints ]] || wrong "systemd complains of the unit: $complaints"
    exposure=$(service 'systemd-analyze security --no-pager vitrine@vm1' | sed -nE 's/.*exposure level .*: ([0-9.]+) .*/\1/p')
    awk "BEGIN { exit !(${exposure:-10} < $most_exposure) }" ||
        wrong "systemd-analyze security says ${exposure:-nothing}, more than $most_exposure"
    passed "systemd-analyze security: exposure $exposure"
}

check_walls() {
    service 'vitrinectl status vm1 --json' >"$work/vitrine.json" || wrong "vitrinectl does not reach it"
    [[ $(field "$work/vitrine.json" sandbox.seccomp) == kill ]] || wrong "its list of system calls is not enforced"
    (($(field "$work/vitrine.json" sandbox.landlock) > 0)) || wrong "it runs without Landlock"
    [[ $(field "$work/vitrine.json" summary) == "$(property StatusText)" ]] || wrong "the status line is not that of vitrinectl"
    passed "system calls and files are on lists, with Debian 13's C library"
}

# check_traffic WHEN OPTION-OF-THE-RECEIVER...
check_traffic() {
    wait_until 60 "the link ($1)" link_is_up
    service "timeout 110 vitrine-guest check --socket /run/vitrine/vm1/vhost.sock --count $frames --memory memfd \
        --wait-seconds 60 ${*:2} --json" >"$work/guest.json" 2>"$work/guest.log" || wrong "$1: traffic: $(<"$work/guest.json")"
    [[ $(field "$work/guest.json" bad) == 0 ]] || wrong "$1: bad frames"
    service "timeout 110 vitrine-guest tx --socket /run/vitrine/vm1/vhost.sock --count $frames --memory memfd \
        --json" >"$work/guest.json" 2>"$work/guest.log" || wrong "$1: sending: $(<"$work/guest.json")"
    service 'vitrinectl audit vm1' >"$work/audit.log" || wrong "$1: audit"
    passed "$1: $frames frames to a guest and $frames from it, 0 bad, every page in one hand"
}

link_is_up() {
    [[ $(property StatusText) == *"link 10G" ]]
}

kill_service() {
    local before
    before=$(property MainPID)
    service "kill -KILL $before"
    wait_until 60 "the next vitrine" restarted_since "$before"
    [[ $(property NRestarts) == 1 ]] || wrong "it was started again $(property NRestarts) times"
}

restarted_since() {
    [[ $(property ActiveState) == active && $(property MainPID) != "$1" ]]
}

reset_pf() {
    "$source_root/tools/setup/ask.py" "$work/vf.control" "pf-reset 500" >/dev/null
    wait_until 60 "vitrine to notice the PF's reset" has_reset
}

has_reset() {
    service 'vitrinectl status vm1 --json' >"$work/vitrine.json" && (($(field "$work/vitrine.json" vf.resets) > 0))
}

# Pages for the guest, where the service finds a place for them itself; killed, it finds them again.
serve_pages() {
    local pages=/dev/vitrine/vm1/pages place inode pid
    service "systemctl stop vitrine@vm1; echo 'rx = \"pages\"' >>/etc/vitrine/vm1.toml
        /usr/libexec/vitrine/tools/setup.sh apply --vf $vf --vm vm1 --yes && systemctl start vitrine@vm1" \
        >"$work/pages.log" 2>&1 || wrong "it does not start with rx = pages: $(tail -n 2 "$work/pages.log")"
    place=$(service "stat -c '%U:%G %a %m' $pages")
    [[ $place == "vitrine-vm1:vitrine-vm1 640 /dev/vitrine/vm1" ]] || wrong "its packet pages are $place"
    check_traffic "in pages at $pages" --pages "$pages"
    inode=$(service "stat -c %i $pages")
    pid=$(property MainPID)
    service 'systemctl kill --signal=KILL vitrine@vm1'
    wait_until 60 "the next vitrine" restarted_since "$pid"
    [[ $(service "stat -c %i $pages") == "$inode" ]] || wrong "killed and started again it has other packet pages"
    check_traffic "killed, on the same pages" --pages "$pages"
}

stop_service() {
    local left
    service 'systemctl stop vitrine@vm1' || wrong "it does not stop"
    [[ $(property ActiveState) == inactive && $(property Result) == success ]] || wrong "it did not end well"
    left=$(service 'ls -A /run/vitrine /dev/vitrine/vm1 | grep -v :; ps -u vitrine-vm1 -o pid=,args=; grep vitrine /proc/net/unix' || true)
    [[ -z $left ]] || wrong "it left behind: $left"
    in_guest guest "awk '/^HugePages_(Total|Free)/ { print \$2 }' /proc/meminfo" | uniq | wc -l | grep -qx 1 ||
        wrong "it left huge pages behind"
    ! service 'journalctl --no-pager --unit vitrine@vm1' | grep -E 'seccomp|critical|small pages' || wrong "its log complains (above)"
    passed "stopped: no process, no file, no socket, no huge page is left"
}

roll_back() {
    service '/usr/libexec/vitrine/tools/setup.sh rollback --vm vm1' >"$work/rollback.log" 2>&1 || fail "setup.sh rollback"
    [[ -z $(service 'ls -d /etc/vitrine/vm1.toml /dev/vitrine 2>/dev/null; getent passwd vitrine-vm1') ]] ||
        fail "setup.sh rollback left something"
    passed "setup.sh rollback: user, configuration and huge pages are gone"
}

main() {
    need cmake cpio python3 strip
    need_lab
    need_built vf_sim
    [[ -f $build/cmake_install.cmake ]] || skip "$build is no build directory"
    enter_private_world "$@"
    start_world
    prepare_vm
    start_service
    check_exposure
    check_walls
    check_traffic "after the start"
    kill_service
    check_traffic "killed and started again"
    reset_pf
    check_traffic "after a reset by the PF"
    serve_pages
    stop_service
    roll_back
    kernel_is_content guest
    stop_lab_guest guest
}

main "$@"
