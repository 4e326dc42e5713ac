#include "tools/vf_sim/vfio_user_session.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

namespace vitrine::vf_sim {
namespace {

using namespace mem::vfio_user;

constexpr std::string_view capabilities =
    R"({"capabilities":{"max_msg_fds":8,"max_data_xfer_size":32768,"max_dma_maps":65535,"pgsizes":4096,"write_multiple":false}})";
constexpr std::uint32_t most_access_bytes = 32768;
constexpr std::uint64_t doorbells_at = 0x1000, doorbells_bytes = 0x2000;

/// The fixed part of a message, which must be there in full.
template <class T>
std::expected<T, Malformed> parse(std::span<const std::byte> payload, bool more_may_follow = false) {
    T message;
    if (payload.size() < sizeof(T) || (!more_may_follow && payload.size() > sizeof(T)))
        return std::unexpected(Malformed::wrong_size);
    std::memcpy(&message, payload.data(), sizeof(T));
    return message;
}

template <class T>
void append(std::vector<std::byte>& bytes, const T& value) {
    const auto* begin = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), begin, begin + sizeof(T));
}

std::uint64_t region_bytes(std::uint32_t index) {
    switch (index) {
        case bar0_region:
        case bar3_region:
            return driver::bar0_bytes;
        case config_region:
            return ConfigSpace::size_bytes;
        default:
            return 0;
    }
}

bool inside(const RegionAccess& access) {
    const std::uint64_t size = region_bytes(access.region);
    return access.count > 0 && access.count <= most_access_bytes && access.offset <= size &&
           access.count <= size - access.offset;
}

}  // namespace

const char* name_of(Malformed reason) {
    switch (reason) {
        case Malformed::bad_header:
            return "bad_header";
        case Malformed::wrong_size:
            return "wrong_size";
        case Malformed::wrong_descriptors:
            return "wrong_descriptors";
        case Malformed::no_version:
            return "no_version";
        case Malformed::unsupported_version:
            return "unsupported_version";
    }
    return "?";
}

VfioUserSession::VfioUserSession(Vf& vf, bool offer_doorbells) : vf_(vf), offer_doorbells_(offer_doorbells) {
    for (std::size_t vector = 0; vector < driver::vectors; ++vector)
        msix_table_[vector * msix_entry_bytes + 12] = std::byte{1};  // masked, as after a reset
}

std::expected<std::uint32_t, Malformed> VfioUserSession::payload_bytes(const Header& header) {
    if ((header.flags & flag_type_mask) != 0 || header.size < sizeof(Header) || header.size > most_message_bytes)
        return std::unexpected(Malformed::bad_header);
    return header.size - static_cast<std::uint32_t>(sizeof(Header));
}

auto VfioUserSession::handle(const Header& header, std::span<const std::byte> payload,
                             std::vector<mem::FileDescriptor> descriptors) -> std::expected<Reply, Malformed> {
    if (descriptors.size() > most_message_descriptors) return std::unexpected(Malformed::wrong_descriptors);
    if (!greeted_ && header.command != Command::version) return std::unexpected(Malformed::no_version);
    Result result = dispatch(header.command, {payload, descriptors});
    if (!result) return std::unexpected(result.error());
    if ((header.flags & flag_no_reply) != 0) return Reply{};

    Header answer{header.message_id, header.command, sizeof(Header), flag_reply, 0};
    if (result->error != 0) {
        answer.flags |= flag_error;
        answer.error = static_cast<std::uint32_t>(result->error);
        result->payload.clear();
    }
    answer.size += static_cast<std::uint32_t>(result->payload.size());
    Reply reply;
    append(reply.bytes, answer);
    reply.bytes.insert(reply.bytes.end(), result->payload.begin(), result->payload.end());
    reply.descriptors = std::move(result->descriptors);
    return reply;
}

auto VfioUserSession::dispatch(Command command, Request request) -> Result {
    const bool takes_descriptors = command == Command::dma_map || command == Command::device_set_irqs;
    if (!takes_descriptors && !request.descriptors.empty()) return std::unexpected(Malformed::wrong_descriptors);
    switch (command) {
        case Command::version:
            return version(request);
        case Command::dma_map:
            return dma_map(request);
        case Command::dma_unmap:
            return dma_unmap(request);
        case Command::device_get_info:
            return device_info(request);
        case Command::device_get_region_info:
            return region_info(request);
        case Command::device_get_irq_info:
            return irq_info(request);
        case Command::device_set_irqs:
            return set_irqs(request);
        case Command::region_read:
            return region_read(request);
        case Command::region_write:
            return region_write(request);
        case Command::device_reset:
            return device_reset(request);
        default:
            return Answer{.payload = {}, .descriptors = {}, .error = EOPNOTSUPP};
    }
}

auto VfioUserSession::version(Request request) -> Result {
    const auto proposed = parse<Version>(request.payload, true);
    if (!proposed) return std::unexpected(proposed.error());
    const auto text = request.payload.subspan(sizeof(Version));
    if (!text.empty() && text.back() != std::byte{0}) return std::unexpected(Malformed::wrong_size);
    if (proposed->major != 0) return std::unexpected(Malformed::unsupported_version);
    greeted_ = true;
    Answer answer;
    append(answer.payload, Version{0, 0});
    const auto bytes = std::as_bytes(std::span(capabilities));
    answer.payload.insert(answer.payload.end(), bytes.begin(), bytes.end());
    answer.payload.push_back(std::byte{0});
    return answer;
}

auto VfioUserSession::dma_map(Request request) -> Result {
    const auto map = parse<mem::vfio_user::DmaMap>(request.payload);
    if (!map) return std::unexpected(map.error());
    if (request.descriptors.size() > 1) return std::unexpected(Malformed::wrong_descriptors);
    const mem::FileDescriptor none;
    const auto done =
        vf_.memory().map({map->address}, map->size, request.descriptors.empty() ? none : request.descriptors.front(),
                         map->offset, (map->flags & dma_readable) != 0, (map->flags & dma_writable) != 0);
    return Answer{.payload = {}, .descriptors = {}, .error = done ? 0 : done.error()};
}

// The text asks for exact ranges; QEMU sweeps whole address spaces, so every mapping inside goes and none is success.
auto VfioUserSession::dma_unmap(Request request) -> Result {
    const auto unmap = parse<DmaUnmap>(request.payload, true);
    if (!unmap) return std::unexpected(unmap.error());
    Answer answer;
    const bool all = (unmap->flags & unmap_all) != 0;
    vf_.unmapping({all ? 0 : unmap->address}, all ? ~std::uint64_t{0} : unmap->size);
    if (all)
        vf_.memory().clear();
    else if (const auto done = vf_.memory().unmap({unmap->address}, unmap->size); !done)
        answer.error = done.error();
    append(answer.payload, *unmap);
    return answer;
}

auto VfioUserSession::device_info(Request request) const -> Result {
    if (const auto info = parse<DeviceInfo>(request.payload); !info) return std::unexpected(info.error());
    Answer answer;
    append(answer.payload, DeviceInfo{sizeof(DeviceInfo), device_resettable | device_is_pci, pci_regions, pci_irqs});
    return answer;
}

auto VfioUserSession::region_info(Request request) const -> Result {
    const auto asked = parse<RegionInfo>(request.payload, true);
    if (!asked) return std::unexpected(asked.error());
    if (asked->index >= pci_regions) return Answer{.payload = {}, .descriptors = {}, .error = EINVAL};
    RegionInfo info{sizeof(RegionInfo), 0, asked->index, 0, region_bytes(asked->index), 0};
    if (info.size > 0) info.flags = region_readable | region_writable;
    const bool mappable = asked->index == bar0_region && offer_doorbells_;
    if (mappable) {
        info.flags |= region_mappable | region_has_caps;
        info.argsz += sizeof(SparseMmapCap) + sizeof(SparseArea);
    }
    Answer answer;
    if (mappable && asked->argsz >= info.argsz) {
        info.cap_offset = sizeof(RegionInfo);
        append(answer.payload, info);
        append(answer.payload, SparseMmapCap{sparse_mmap_cap_id, 1, 0, 1, 0});
        append(answer.payload, SparseArea{doorbells_at, doorbells_bytes});
        answer.descriptors.push_back(vf_.doorbells().file.get());
    } else {
        append(answer.payload, info);  // argsz says how much there would be
    }
    return answer;
}

auto VfioUserSession::irq_info(Request request) const -> Result {
    const auto asked = parse<IrqInfo>(request.payload);
    if (!asked) return std::unexpected(asked.error());
    if (asked->index >= pci_irqs) return Answer{.payload = {}, .descriptors = {}, .error = EINVAL};
    const bool is_msix = asked->index == msix_irq;
    Answer answer;
    append(answer.payload, IrqInfo{sizeof(IrqInfo), is_msix ? irq_eventfd | irq_noresize : 0, asked->index,
                                   is_msix ? driver::vectors : 0});
    return answer;
}

auto VfioUserSession::set_irqs(Request request) -> Result {
    const auto set = parse<IrqSet>(request.payload, true);
    if (!set) return std::unexpected(set.error());
    const auto flags = request.payload.subspan(sizeof(IrqSet));
    return Answer{.payload = {}, .descriptors = {}, .error = set_vectors(*set, flags, request.descriptors)};
}

int VfioUserSession::set_vectors(const IrqSet& set, std::span<const std::byte> flags,
                                 std::vector<mem::FileDescriptor>& descriptors) {
    constexpr std::uint32_t data_bits = irq_data_none | irq_data_bool | irq_data_eventfd;
    constexpr std::uint32_t action_bits = irq_action_mask | irq_action_unmask | irq_action_trigger;
    const std::uint32_t data = set.flags & data_bits, action = set.flags & action_bits;
    const std::uint32_t there = set.index == msix_irq ? driver::vectors : 0;
    if ((set.flags & ~(data_bits | action_bits)) != 0 || set.index >= pci_irqs || set.start > there ||
        set.count > there - set.start)
        return EINVAL;
    Interrupts& interrupts = vf_.interrupts();
    if (data == irq_data_eventfd) {
        if (action != irq_action_trigger) return EINVAL;
        if (!descriptors.empty() && descriptors.size() != set.count) return EINVAL;
        interrupts.remove(set.start, set.count);
        interrupts.assign(set.start, std::move(descriptors));
        return 0;
    }
    if (!descriptors.empty() || (data == irq_data_bool && flags.size() < set.count)) return EINVAL;
    if (data == irq_data_none && action == irq_action_trigger && set.count == 0) {
        interrupts.remove(0, there);
        return 0;
    }
    if (data != irq_data_none && data != irq_data_bool) return EINVAL;
    for (std::uint32_t i = 0; i < set.count; ++i) {
        if (data == irq_data_bool && flags[i] == std::byte{0}) continue;
        if (action == irq_action_trigger)
            interrupts.trigger(set.start + i);
        else if (action == irq_action_mask || action == irq_action_unmask)
            interrupts.set_masked(set.start + i, action == irq_action_mask);
        else
            return EINVAL;
    }
    return 0;
}

auto VfioUserSession::region_read(Request request) -> Result {
    const auto access = parse<RegionAccess>(request.payload);
    if (!access) return std::unexpected(access.error());
    Answer answer;
    if (!inside(*access)) {
        answer.error = EINVAL;
        return answer;
    }
    append(answer.payload, *access);
    answer.payload.resize(sizeof(RegionAccess) + access->count);
    const auto data = std::span(answer.payload).subspan(sizeof(RegionAccess));
    if (access->region == bar0_region)
        answer.error = read_bar0(access->offset, data);
    else if (access->region == config_region)
        vf_.read_config(access->offset, data);
    else
        read_bar3(access->offset, data);
    return answer;
}

auto VfioUserSession::region_write(Request request) -> Result {
    const auto access = parse<RegionAccess>(request.payload, true);
    if (!access) return std::unexpected(access.error());
    const auto data = request.payload.subspan(sizeof(RegionAccess));
    if (data.size() != access->count) return std::unexpected(Malformed::wrong_size);
    Answer answer;
    if (!inside(*access)) {
        answer.error = EINVAL;
        return answer;
    }
    if (access->region == bar0_region)
        answer.error = write_bar0(access->offset, data);
    else if (access->region == config_region)
        vf_.write_config(access->offset, data);
    else
        write_bar3(access->offset, data);
    append(answer.payload, *access);
    return answer;
}

// Registers are 32 bits wide; an access of eight bytes is two of them.
int VfioUserSession::read_bar0(std::uint64_t offset, std::span<std::byte> to) {
    if (offset % 4 != 0 || (to.size() != 4 && to.size() != 8)) return EINVAL;
    for (; !to.empty(); to = to.subspan(4), offset += 4) {
        const std::uint32_t value = vf_.load(static_cast<std::uint32_t>(offset));
        std::memcpy(to.data(), &value, sizeof(value));
    }
    return 0;
}

int VfioUserSession::write_bar0(std::uint64_t offset, std::span<const std::byte> from) {
    if (offset % 4 != 0 || (from.size() != 4 && from.size() != 8)) return EINVAL;
    for (; !from.empty(); from = from.subspan(4), offset += 4) {
        std::uint32_t value = 0;
        std::memcpy(&value, from.data(), sizeof(value));
        vf_.store(static_cast<std::uint32_t>(offset), value);
    }
    return 0;
}

// BAR3: the table at 0, the pending bits at 0x2000, nothing else.
void VfioUserSession::read_bar3(std::uint64_t offset, std::span<std::byte> to) {
    constexpr std::uint64_t pending_at = 0x2000;
    for (std::size_t i = 0; i < to.size(); ++i) {
        const std::uint64_t at = offset + i;
        to[i] = at < msix_table_.size() ? msix_table_[at]
                : at == pending_at      ? static_cast<std::byte>(vf_.interrupts().pending())
                                        : std::byte{0};
    }
}

void VfioUserSession::write_bar3(std::uint64_t offset, std::span<const std::byte> from) {
    for (std::size_t i = 0; i < from.size() && offset + i < msix_table_.size(); ++i) msix_table_[offset + i] = from[i];
}

auto VfioUserSession::device_reset(Request request) -> Result {
    if (!request.payload.empty()) return std::unexpected(Malformed::wrong_size);
    vf_.reset_function();
    return Answer{};
}

}  // namespace vitrine::vf_sim
