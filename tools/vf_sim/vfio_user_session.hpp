#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <vector>

#include "mem/file_descriptor.hpp"
#include "mem/vfio_user.hpp"
#include "tools/vf_sim/vf.hpp"

namespace vitrine::vf_sim {

/// Why a connection cannot go on.
enum class Malformed { bad_header, wrong_size, wrong_descriptors, no_version, unsupported_version };
const char* name_of(Malformed reason);

/// The vfio-user server's side of one connection (QEMU docs/interop/vfio-user.rst): one function per message. What the
/// sender can know to be wrong gets an errno in the reply; a message that does not parse ends the connection.
class VfioUserSession {
public:
    struct Reply {
        std::vector<std::byte> bytes;  ///< empty: none was wanted
        std::vector<int> descriptors;  ///< still owned by the VF
    };
    static constexpr std::uint32_t most_message_bytes = 64 * 1024;
    static constexpr std::size_t most_message_descriptors = 8;

    /// `offer_doorbells`: pages 1 and 2 of BAR0 may be mapped by the client.
    VfioUserSession(Vf& vf, bool offer_doorbells);

    /// How many bytes follow this header.
    static std::expected<std::uint32_t, Malformed> payload_bytes(const mem::vfio_user::Header& header);
    std::expected<Reply, Malformed> handle(const mem::vfio_user::Header& header, std::span<const std::byte> payload,
                                           std::vector<mem::FileDescriptor> descriptors);

private:
    struct Answer {
        std::vector<std::byte> payload;
        std::vector<int> descriptors;
        int error = 0;  ///< errno; then there is no payload
    };
    using Result = std::expected<Answer, Malformed>;
    struct Request {
        std::span<const std::byte> payload;
        std::vector<mem::FileDescriptor>& descriptors;
    };

    Result dispatch(mem::vfio_user::Command command, Request request);
    Result version(Request request);
    Result dma_map(Request request);
    Result dma_unmap(Request request);
    Result device_info(Request request) const;
    Result region_info(Request request) const;
    Result irq_info(Request request) const;
    Result set_irqs(Request request);
    Result region_read(Request request);
    Result region_write(Request request);
    Result device_reset(Request request);

    int read_bar0(std::uint64_t offset, std::span<std::byte> to);
    int write_bar0(std::uint64_t offset, std::span<const std::byte> from);
    void read_bar3(std::uint64_t offset, std::span<std::byte> to);
    void write_bar3(std::uint64_t offset, std::span<const std::byte> from);
    int set_vectors(const mem::vfio_user::IrqSet& set, std::span<const std::byte> flags,
                    std::vector<mem::FileDescriptor>& descriptors);

    Vf& vf_;
    bool offer_doorbells_;
    bool greeted_ = false;
    static constexpr std::size_t msix_entry_bytes = 16;
    std::array<std::byte, driver::vectors * msix_entry_bytes> msix_table_{};  // memory without effect: see Interrupts
};

}  // namespace vitrine::vf_sim
