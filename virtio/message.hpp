#pragma once

#include <cassert>
#include <cstddef>
#include <cstring>
#include <vector>

#include "mem/file_descriptor.hpp"
#include "mem/socket.hpp"
#include "virtio/vhost_user.hpp"

namespace vitrine::virtio {

/// A request as it came. Descriptors that no handler takes are closed with it.
struct Message {
    vhost_user::Header header{};
    std::vector<std::byte> payload;
    std::vector<mem::FileDescriptor> descriptors;

    /// A copy of the T at `offset`, which lies inside the payload.
    template <class T>
    T read(std::size_t offset = 0) const {
        assert(offset + sizeof(T) <= payload.size());
        T value;
        std::memcpy(&value, payload.data() + offset, sizeof(value));
        return value;
    }
};

/// The payload of a reply.
template <class T>
std::vector<std::byte> reply_of(const T& value) {
    const auto bytes = mem::bytes_of(value);
    return {bytes.begin(), bytes.end()};
}

}  // namespace vitrine::virtio
