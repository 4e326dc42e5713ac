#include "apps/guest/shown_frames.hpp"

#include <cstring>

#include "virtio/net_header.hpp"

namespace vitrine::guest {

std::span<const vitrine::Frame> ShownFrames::receive() noexcept {
    frames_.clear();
    if (!broken_) broken_ = !end_.look();
    while (!broken_ && next_ != end_.taken()) broken_ = !take_frame();
    return frames_;
}

bool ShownFrames::take_frame() noexcept {
    vitrine::Frame frame{.bytes = {}, .length_bytes = 0, .first = next_, .parts = 0, .header = {}};
    for (bool more = true; more;) {
        if (next_ == end_.taken()) return false;
        const ShownPart part = end_.part(next_++);  // read once, checked, used
        const auto bytes = bytes_of(part);
        if (bytes.empty()) return false;
        if (frame.parts == 0) {
            frame.bytes = bytes;
            frame.header = header_of(part);
        }
        frame.length_bytes += bytes.size();
        ++frame.parts;
        more = (part.flags & ShownPart::next) != 0;
    }
    frame.header.buffers = frame.parts;
    frames_.push_back(frame);
    return true;
}

std::span<const std::byte> ShownFrames::bytes_of(const ShownPart& part) const noexcept {
    if (part.length_bytes == 0 || part.offset < layout_.pages_offset || (part.flags & ~ShownPart::known_flags) != 0)
        return {};
    const std::uint64_t inside = part.offset - layout_.pages_offset;
    if (inside / layout_.page_bytes >= layout_.page_count ||
        inside % layout_.page_bytes + part.length_bytes > layout_.page_bytes)
        return {};
    return region_.subspan(part.offset, part.length_bytes);
}

FrameHeader ShownFrames::header_of(const ShownPart& part) const noexcept {
    FrameHeader header{};
    if ((part.flags & ShownPart::checksum_ok) != 0) header.flags = virtio::NetHeader::data_valid;
    if ((part.flags & ShownPart::header) == 0 || layout_.headers_offset == 0) return header;
    const std::uint64_t page = (part.offset - layout_.pages_offset) / layout_.page_bytes;
    std::memcpy(&header, region_.data() + layout_.headers_offset + mem::header_slot_bytes * page, sizeof(header));
    return header;
}

void ShownFrames::release(std::size_t frames) noexcept {
    for (; frames != 0 && release_ != next_; --frames)
        for (bool more = true; more && release_ != next_; ++release_)
            more = (end_.part(release_).flags & ShownPart::next) != 0;
    end_.release_until(release_);
}

void ShownFrames::release_all() noexcept {
    release_ = next_;
    end_.release_until(release_);
}

}  // namespace vitrine::guest
