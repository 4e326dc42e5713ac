# shellcheck shell=bash disable=SC2034,SC2154  # one program with setup.sh: variables are shared
# setup.sh demo: frames of three sizes from a simulated wire to a guest driver and back, then one table.

demo_huge_pages=256
demo_sizes=(64 1518 9018)  # bytes on the wire, with CRC

demo_frames() {
    case $1 in
        64) echo 2000000 ;;
        1518) echo 1000000 ;;
        *) echo 200000 ;;
    esac
}

start_demo_chain() {
    local size=$1 mtu=1500
    ((size <= 1518)) || mtu=9000
    start vf_sim build/vf_sim --socket "$scratch/vf.sock" --control "$scratch/vf.control" \
        --wire "gen:size=$size,count=$(demo_frames "$size")" --pf-mtu "$mtu" --doorbells poll
    wait_for_socket "$scratch/vf.sock" vf_sim
    start vitrine build/vitrine run --name "demo-$size" --run-dir "$scratch/run" --mtu "$mtu" \
        --vf "vfio-user:$scratch/vf.sock" --socket-path "$scratch/vhost.sock"
    wait_for_socket "$scratch/vhost.sock" vitrine
}

# run_guest MODE SIZE: the front-end and the guest in one process; leaves what it counted in a file.
run_guest() {
    local mode=$1 size=$2 status=0
    timeout 120 build/vitrine-guest "$mode" --socket "$scratch/vhost.sock" --size "$size" --json \
        --count "$(demo_frames "$size")" >"$scratch/$size.$mode.json" 2>"$scratch/guest.log" || status=$?
    ((status == 0)) || warn "vitrine-guest $mode ended with $status: $(tail -n 1 "$scratch/guest.log")"
}

demo_one_size() {
    local size=$1
    say "running $size byte frames: wire to guest, then guest to wire"
    start_demo_chain "$size"
    run_guest check "$size"
    run_guest tx "$size"
    build/vitrinectl status "demo-$size" --run-dir "$scratch/run" --json >"$scratch/$size.vitrine.json"
    tools/setup/ask.py "$scratch/vf.control" status >"$scratch/$size.vf_sim.json"
    stop vitrine || warn "vitrine did not end well: $(tail -n 1 "$scratch/vitrine.log")"
    stop vf_sim || warn "vf_sim did not end well: $(tail -n 1 "$scratch/vf_sim.log")"
    rm -f "$scratch/vf.sock" "$scratch/vf.control" "$scratch/vhost.sock"
}

verb_demo() {
    (($# == 0)) || usage_error "demo takes no options"
    require_packages "${packages_to_build[@]}"
    build_variant build -DVITRINE_TESTS=OFF
    reserve_huge_pages "$demo_huge_pages"
    local size
    for size in "${demo_sizes[@]}"; do
        demo_one_size "$size"
    done
    tools/setup/demo_table.py "$scratch" "${demo_sizes[@]}"
}
