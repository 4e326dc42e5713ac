#pragma once

#include <cstddef>
#include <cstdint>
#include <fcntl.h>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unistd.h>

#include "apps/guest/guest_ram.hpp"
#include "apps/guest/net_port.hpp"
#include "apps/guest/page_region.hpp"
#include "apps/guest/pages_port.hpp"
#include "apps/vitrine/nic.hpp"
#include "apps/vitrine/receive_path.hpp"
#include "tests/bench/null_nic.hpp"
#include "virtio/device.hpp"
#include "virtio/features.hpp"

namespace vitrine::bench {

/// How frames reach the guest, and what the NIC puts them into: pages of 2 KiB, or of 16 KiB of which it uses 10; or
/// buffers of the guest's that hold as much.
struct Way {
    std::string_view name;
    enum class Path { copy, direct, pages } path;
    std::uint16_t mtu;  ///< decides the size of the packet pages
};
inline constexpr std::array ways{
    Way{"copy, 2 KiB", Way::Path::copy, 1500},      Way{"direct, 2 KiB", Way::Path::direct, 1500},
    Way{"pages, 2 KiB", Way::Path::pages, 1500},    Way{"copy, 16 KiB", Way::Path::copy, 9000},
    Way{"direct, 10 KiB", Way::Path::direct, 9000}, Way{"pages, 16 KiB", Way::Path::pages, 9000}};

/// vitrine's receive path, its own memory, rings and ReceivePath, between a NIC that is a loop over descriptors and a
/// guest's driver, all in one thread: a block of frames is finished by the NIC, moved by the device (this is what is
/// measured), and taken by the guest, which posts everything anew.
class ReceiveBench {
public:
    static constexpr std::uint16_t entries = 1024;

    ReceiveBench(const Way& way, const std::string& directory, mem::Backing backing)
        : way_(way),
          options_(options_for(way, directory, backing)),
          memory_(options_, {{0, (std::uint64_t{1} << 39) - 1}}),
          slots_(reinterpret_cast<driver::RxDescriptor*>(memory_.rings.mapping.data()), apps::NicMemory::rx_slots),
          nic_(slots_, 60, buffer_bytes()),
          rx_(slots_, driver::Doorbell(nic_.tail()), memory_.packet_pool),
          device_({.mac = {0x02, 0, 0, 0, 0, 1}, .mtu = way.mtu}),
          receive_(memory_.packet_pool, device_, 0, counters_),
          ram_(guest::NetPort::memory_bytes(port_config()) +
                   guest::PagesPort::memory_bytes({.entries = entries, .event_index = true}),
               backing) {
        if (memory_.lending) {
            memory_.region->offer(device_.config().mac, memory_.lending->modes());
            device_.set_lending(&*memory_.lending);
            region_.emplace(mem::open(options_.pages_path, O_RDONLY));
        }
        if (way.path == Way::Path::pages)
            pages_.emplace(ram_, *region_, guest::PagesPort::Config{.entries = entries, .event_index = true});
        else
            port_.emplace(ram_, port_config());
        rx_.fill();
        receive_.attach(rx_, slots_.size());
        start_ring();
        if (way.path == Way::Path::direct) receive_directly();
    }
    ~ReceiveBench() {
        if (receive_.is_direct()) receive_.detach_direct();
        receive_.detach(rx_.release());
        if (memory_.region) memory_.region->withdraw();
    }
    ReceiveBench(const ReceiveBench&) = delete;
    ReceiveBench& operator=(const ReceiveBench&) = delete;

    /// Of frames from now on.
    void set_frame_bytes(std::uint32_t bytes) {
        nic_.set_frame_bytes(bytes);
        frame_bytes_ = bytes;
    }
    std::uint32_t parts_of_frame() const { return nic_.parts_of_frame(); }

    /// One block of frames. `measure` is called with what is to be measured. Returns how many frames came through.
    template <class Measure>
    std::size_t block(Measure&& measure) {
        const std::size_t frames = nic_.write_back(most_frames());
        measure([this] {
            while (receive_.poll() != 0) {
            }
        });
        const std::size_t taken = take();
        if (taken != frames) throw std::runtime_error(std::string(way_.name) + ": frames are missing");
        return frames;
    }

    /// Where the path's memory lies, for what counts its reads and writes.
    struct Places {
        std::span<const std::byte> nic_ring;
        std::span<const std::byte> packets;
        std::span<const std::byte> guest_ring;
        std::span<const std::byte> guest_memory;
    };
    Places places() const {
        const std::span<std::byte> ram = ram_.bytes();
        const auto range = device_.memory().translate(ram_.address_of(ram.data()), ram.size());
        const auto ring_begin = static_cast<std::size_t>(ring().descriptors() - ram.data());
        const auto ring_end =
            static_cast<std::size_t>(ring().device_area() - ram.data()) + virtio::used_ring_bytes(ring().entries());
        return {.nic_ring = memory_.rings.mapping.bytes(),
                .packets = memory_.packet_dma().host,
                .guest_ring = {range.host + ring_begin, ring_end - ring_begin},
                .guest_memory = {range.host, ram.size()}};
    }
    bool on_huge_pages() const { return ram_.why_not_huge().empty() && memory_.rings.why_not_huge.empty(); }

private:
    static apps::Options options_for(const Way& way, const std::string& directory, mem::Backing backing) {
        apps::Options options;
        options.mtu = way.mtu;
        options.backing = backing;
        options.run_directory = directory + "/" + std::string(way.name);
        std::filesystem::create_directories(options.run_directory);
        options.rx_mode = way.path == Way::Path::copy ? "copy" : "pages";
        options.pages_path = options.run_directory + "/pages";
        return options;
    }
    /// Buffers as a Linux guest posts them with MRG_RXBUF, or for a NIC to write to.
    guest::NetPort::Config port_config() const {
        guest::NetPort::Config config;
        config.ring = {.entries = entries, .event_index = true, .indirect = false, .most_segments = 1};
        config.transmit_buffer_bytes = 64;
        if (way_.path == Way::Path::direct)
            config.receive_at_offsets(memory_.lending->region_tag(), memory_.packet_pool.page_bytes());
        return config;
    }
    /// That the NIC fills.
    std::uint32_t buffer_bytes() const { return 1024 * driver::packet_buffer_kib(memory_.packet_pool.page_bytes()); }
    const guest::SplitEnd& ring() const {
        return pages_ ? static_cast<const guest::SplitEnd&>(*pages_)
                      : const_cast<guest::NetPort&>(*port_).receive_ring();
    }

    void start_ring() {
        namespace feature = virtio::feature;
        const std::span<std::byte> ram = ram_.bytes();
        const auto user_address = std::bit_cast<std::uint64_t>(ram.data());
        if (!device_.memory().add(
                {.guest_address = 0, .size_bytes = ram.size(), .user_address = user_address, .mmap_offset = 0},
                mem::FileDescriptor(::dup(ram_.file()))))
            throw std::runtime_error("guest memory was refused");
        device_.set_features(feature::version_1 | feature::mrg_rxbuf | feature::event_idx);
        virtio::Vring& vring = device_.vring(0);
        vring.entries = entries;
        vring.address =
            virtio::vhost_user::VringAddress{.index = 0,
                                             .flags = 0,
                                             .descriptors = std::bit_cast<std::uint64_t>(ring().descriptors()),
                                             .used = std::bit_cast<std::uint64_t>(ring().device_area()),
                                             .available = std::bit_cast<std::uint64_t>(ring().driver_area()),
                                             .log = 0};
        vring.started = true;
        vring.enabled = virtio::Enabled::yes;
        if (!device_.start(0)) throw std::runtime_error("the ring does not start");
        if (pages_)
            pages_->start();
        else
            port_->post_buffers();
    }

    /// As Daemon and Nic do it. The NIC here needs no addresses to do nothing, the path does.
    void receive_directly() {
        receive_.poll();  // the ring shows what it is
        receive_.detach(rx_.release());
        nic_.restart();
        device_.memory().set_iova(mem::GuestPhys{0}, mem::Iova{std::uint64_t{1} << 36});
        direct_.emplace(slots_, driver::Doorbell(nic_.tail()), buffer_bytes());
        receive_.attach_direct(*direct_);
        while (receive_.poll() != 0) {
        }
        if (direct_->room() != 0) throw std::runtime_error("the guest's buffers do not reach the NIC");
    }

    /// What fits at once into the smaller one of both rings.
    std::size_t most_frames() const {
        const std::size_t buffer = port_config().receive_buffer_bytes;
        const std::size_t per_frame = way_.path == Way::Path::copy
                                          ? (frame_bytes_ + sizeof(virtio::NetHeader) + buffer - 1) / buffer
                                          : parts_of_frame();
        return (entries - 1) / per_frame;
    }
    /// The guest reads no frame: its time is not what is asked for.
    std::size_t take() {
        std::size_t taken = 0;
        for (std::size_t count = 1; count != 0; taken += count) {
            if (pages_) {
                const auto frames = pages_->receive();
                for (const guest::LentFrame& frame : frames) pages_->release(frame);
                pages_->flush();
                count = frames.size();
            } else {
                count = port_->receive().size();
                port_->release();
            }
        }
        return taken;
    }

    const Way way_;
    apps::Options options_;
    apps::NicMemory memory_;
    std::span<driver::RxDescriptor> slots_;
    NullNic nic_;
    driver::RxRing rx_;
    std::optional<driver::BufferRing> direct_;
    virtio::Device device_;
    apps::ReceivePathCounters counters_;
    apps::ReceivePath receive_;
    guest::GuestRam ram_;
    std::optional<guest::PageRegion> region_;
    std::optional<guest::NetPort> port_;
    std::optional<guest::PagesPort> pages_;
    std::uint32_t frame_bytes_ = 60;
};

}  // namespace vitrine::bench
