#include "driver/doorbell.hpp"

#include <cerrno>
#include <sys/socket.h>
#include <unistd.h>

#include "mem/vfio_user.hpp"

namespace vitrine::driver {

namespace wire = mem::vfio_user;

void Doorbell::post() noexcept {
    if (is_file_) {
        [[maybe_unused]] const ssize_t written =
            ::pwrite(descriptor_, &value_, sizeof(value_), static_cast<off_t>(offset_));
        return;
    }
    struct Message {
        wire::Header header;
        wire::RegionAccess access;
        std::uint32_t value;
        std::uint32_t padding;  // of the struct only: not sent
    };
    constexpr std::size_t bytes = sizeof(wire::Header) + sizeof(wire::RegionAccess) + sizeof(std::uint32_t);
    const Message message{
        .header = {.message_id = 0,  // nothing answers, so the id need not be unique
                   .command = wire::Command::region_write,
                   .size = bytes,
                   .flags = wire::flag_no_reply,
                   .error = 0},
        .access = {.offset = offset_, .region = wire::bar0_region, .count = sizeof(value_)},
        .value = value_,
        .padding = 0,
    };
    // LINUX: a UNIX stream socket takes a message of this size whole or not at all, so it never tears one that the
    // control thread sends at the same time.
    const ssize_t sent = ::send(descriptor_, &message, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    refused_ = sent < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS);
}

}  // namespace vitrine::driver
