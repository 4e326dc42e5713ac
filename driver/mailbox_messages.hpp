#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "driver/register.hpp"

/// What a VF and its PF say to each other in the 16 words of mailbox memory.
///
/// LINUX: the data sheet leaves the contents to software; these are the messages of the ixgbe PF driver, which the
/// DPDK PF driver shares. A request is 1..16 words; its reply repeats word 0 with success or failure.
namespace vitrine::driver {

enum class MessageType : std::uint16_t {
    reset = 0x01,              ///< 1 word; reply 4 words, never with clear_to_send: MAC in 1-2, MulticastFilter in 3
    set_mac_address = 0x02,    ///< 3 words: MAC in 1-2
    set_multicast = 0x03,      ///< 16 words: info is the number of hashes, 16 bits each from word 1
    set_vlan = 0x04,           ///< 2 words: info 1 adds and 0 removes, word 1 the VLAN
    set_longest_frame = 0x05,  ///< 2 words: word 1 in bytes, CRC included
    set_mac_vlan = 0x06,       ///< 3 words: further MAC addresses; info 0 removes all, 1 starts a new list
    negotiate_api = 0x08,      ///< 3 words: MailboxApi in word 1
    get_queues = 0x09,         ///< 5 words; API 1.1. Reply: 1 TX, 2 RX queues, 3 port VLAN or classes, 4 default queue
    get_rss_table = 0x0a,      ///< API 1.2
    get_rss_key = 0x0b,        ///< API 1.2
    update_receive_mode = 0x0c,  ///< 2 words; API 1.2: ReceiveMode in word 1. The reply holds the mode granted
    add_ipsec = 0x0d,            ///< 16 words; API 1.4
    delete_ipsec = 0x0e,         ///< 2 words; API 1.4
    get_link_state = 0x10,       ///< 2 words; API 1.2. Reply: word 1 is 0 when the administrator disabled the link
    pf_control = 0x0100,         ///< from the PF, 1 word: without clear_to_send it wants the VF to reset
};

/// Word 0 of each message.
struct MessageHead : Register<MessageHead> {
    static constexpr Field<15, 0> type{};
    static constexpr Field<23, 16> info{};
    static constexpr Field<29> clear_to_send{};
    static constexpr Field<30> failure{};
    static constexpr Field<31> success{};
};

constexpr MessageHead head_of(MessageType type, std::uint32_t info = 0) {
    return MessageHead{}.with(MessageHead::type, static_cast<std::uint32_t>(type)).with(MessageHead::info, info);
}

/// Versions as they travel: the order of values is that of history, not of numbers.
enum class MailboxApi : std::uint32_t { v1_0 = 0, v1_1 = 2, v1_2 = 3, v1_3 = 4, v1_4 = 5 };

constexpr const char* text_of(MailboxApi api) {
    switch (api) {
        case MailboxApi::v1_0:
            return "1.0";
        case MailboxApi::v1_1:
            return "1.1";
        case MailboxApi::v1_2:
            return "1.2";
        case MailboxApi::v1_3:
            return "1.3";
        case MailboxApi::v1_4:
            return "1.4";
    }
    return "?";
}

/// How much multicast the PF lets through to us. Ordered: each mode contains the one before.
enum class ReceiveMode : std::uint32_t { none = 0, multicast_hashes = 1, all_multicast = 2, promiscuous = 3 };

using MacAddress = std::array<std::uint8_t, 6>;

inline constexpr std::size_t most_multicast_hashes = 30;

/// Which 12 of the last 16 address bits the PF's multicast filter looks at (82599 data sheet, 8.2.3.7.1, MO).
enum class MulticastFilter : std::uint32_t { bits_47_36 = 0, bits_46_35 = 1, bits_45_34 = 2, bits_43_32 = 3 };

constexpr std::uint16_t multicast_hash(const MacAddress& address, MulticastFilter filter) {
    constexpr std::array<unsigned, 4> low_bit{4, 3, 2, 0};
    const unsigned last_16_bits = address[4] | (unsigned{address[5]} << 8);
    return (last_16_bits >> low_bit[static_cast<std::size_t>(filter)]) & 0xfff;
}

}  // namespace vitrine::driver
