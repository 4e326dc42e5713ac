# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# setup.sh demo: frames of three sizes from a simulated wire to a guest driver and back, then one table.

demo_huge_pages=256
demo_sizes=(64 1518 9018)  # bytes on the wire, with CRC
demo_seconds=3             # for each size, from the wire; the way back takes what it takes

build=${VITRINE_BUILD:-build}

# What two CPUs carry with the simulated card, vitrine and the guest on them; the wire does not wait for the guest.
demo_rate() {
    case $1 in
        64) echo 250000 ;;
        1518) echo 80000 ;;
        *) echo 15000 ;;
    esac
}

demo_frames() {
    echo $(($(demo_rate "$1") * demo_seconds))
}

ask_vf_sim() {
    tools/setup/ask.py "$scratch/vf.control" "$1"
}

vitrine_status() {
    "$build/vitrinectl" status demo --run-dir "$scratch/run" --json
}

# The link stays down until the guest is there: vitrine would drop, and count, what comes earlier.
start_demo_chain() {
    local size=$1 mtu=1500
    ((size <= 1518)) || mtu=9000
    start vf_sim "$build/vf_sim" --socket "$scratch/vf.sock" --control "$scratch/vf.control" \
        --wire "gen:size=$size,rate=$(demo_rate "$size"),count=$(demo_frames "$size")" --pf-mtu "$mtu" --doorbells poll
    wait_for_socket "$scratch/vf.sock" vf_sim
    ask_vf_sim "link down" >/dev/null
    start vitrine "$build/vitrine" run --allow-root --allow-same-uid --name demo --run-dir "$scratch/run" --mtu "$mtu" \
        --vf "vfio-user:$scratch/vf.sock" --socket-path "$scratch/vhost.sock"
    wait_for_socket "$scratch/vhost.sock" vitrine
}

guest_connected() {
    vitrine_status | grep -q '"features": "0x[0-9a-f]*[1-9a-f]'
}

# run_guest MODE SIZE: the front-end and the guest in one process; what it counted goes to a file.
run_guest() {
    local mode=$1 size=$2 deadline=$((SECONDS + 20)) status=0
    start guest timeout 120 "$build/vitrine-guest" "$mode" --socket "$scratch/vhost.sock" --size "$size" --json \
        --count "$(demo_frames "$size")"
    until guest_connected || ! running guest || ((SECONDS >= deadline)); do
        sleep 0.05
    done
    ask_vf_sim "link up" >/dev/null
    wait "${child[guest]}" || status=$?
    unset "child[guest]"
    mv "$scratch/guest.log" "$scratch/$size.$mode.json"
    ((status == 0)) || warn "vitrine-guest $mode ended with status $status: $(tail -n 1 "$scratch/guest.errors")"
}

demo_one_size() {
    local size=$1
    say "running $size byte frames: wire to guest, then guest to wire"
    start_demo_chain "$size"
    run_guest check "$size"
    run_guest tx "$size"
    vitrine_status >"$scratch/$size.vitrine.json"
    ask_vf_sim status >"$scratch/$size.vf_sim.json"
    stop vitrine || warn "vitrine did not end well: $(tail -n 1 "$scratch/vitrine.errors")"
    stop vf_sim || warn "vf_sim did not end well: $(tail -n 1 "$scratch/vf_sim.errors")"
    rm -f "$scratch/vf.sock" "$scratch/vf.control" "$scratch/vhost.sock"
}

verb_demo() {
    (($# == 0)) || usage_error "demo takes no options"
    require_packages "${packages_to_build[@]}"
    if [[ -z ${VITRINE_BUILD:-} ]]; then  # a test of the demo has its programs already
        build_variant build all -DVITRINE_TESTS=OFF
    fi
    reserve_huge_pages "$demo_huge_pages"
    local size
    for size in "${demo_sizes[@]}"; do
        demo_one_size "$size"
    done
    tools/setup/demo_table.py "$scratch" "${demo_sizes[@]}"
}
