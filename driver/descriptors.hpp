#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "driver/register.hpp"

/// What lies in the rings: advanced descriptors, 16 bytes, little-endian (82599 data sheet, 7.1.6 and 7.2.3).
namespace vitrine::driver {

static_assert(std::endian::native == std::endian::little, "descriptor words are used as they lie in memory");

/// A receive slot. Posted: `page_iova` is the buffer, `done` must be 0. Written back: RxInfo and RxDone, so the address
/// is gone.
struct alignas(16) RxDescriptor {
    std::uint64_t page_iova;
    std::uint64_t done;
};
static_assert(sizeof(RxDescriptor) == 16 && offsetof(RxDescriptor, done) == 8);

/// First word of a written-back receive descriptor. Valid with RxDone::end_of_packet only.
struct RxInfo : Register<RxInfo, std::uint64_t> {
    static constexpr Field<3, 0> rss_type{};
    static constexpr Field<4> ipv4{};
    static constexpr Field<5> ipv4_options{};
    static constexpr Field<6> ipv6{};
    static constexpr Field<7> ipv6_extensions{};
    static constexpr Field<8> tcp{};
    static constexpr Field<9> udp{};
    static constexpr Field<10> sctp{};
    static constexpr Field<63, 32> rss_hash{};
};

/// Second word of a written-back receive descriptor.
struct RxDone : Register<RxDone, std::uint64_t> {
    static constexpr Field<0> done{};           // DD
    static constexpr Field<1> end_of_packet{};  // EOP: below, only `length_bytes` is valid without it
    static constexpr Field<3> vlan{};           // VP: the frame has (had) a tag
    static constexpr Field<4> udp_checked{};    // UDPCS
    static constexpr Field<5> l4_checked{};     // L4CS
    static constexpr Field<6> ip_checked{};     // IPCS
    static constexpr Field<10> udp_valid{};     // UDPV: a first fragment whose UDP header has a checksum
    static constexpr Field<18> loopback{};      // LB: from another function of the same port
    static constexpr Field<29> mac_error{};     // RXE
    static constexpr Field<30> l4_error{};      // L4E, meaningful with l4_checked
    static constexpr Field<31> ip_error{};      // IPE, meaningful with ip_checked
    static constexpr Field<47, 32> length_bytes{};
    static constexpr Field<63, 48> vlan_tag{};  // only when tags are stripped
};

/// A transmit slot: data {address, TxData} or context {TxContextHeaders, TxContext}. A write-back overwrites all of a
/// data descriptor that has report_status; only TxData::done is then meaningful.
struct alignas(16) TxDescriptor {
    std::uint64_t low;
    std::uint64_t high;
};
static_assert(sizeof(TxDescriptor) == 16 && offsetof(TxDescriptor, high) == 8);

/// Second word of a data descriptor. Of a frame, `payload_bytes`, `check_context`, `context` and the checksum requests
/// count in its first descriptor; `end_of_packet` and `report_status` in its last.
struct TxData : Register<TxData, std::uint64_t> {
    static constexpr Field<15, 0> buffer_bytes{};    // DTALEN
    static constexpr Field<23, 20> type{};           // DTYP
    static constexpr Field<24> end_of_packet{};      // EOP
    static constexpr Field<25> insert_crc{};         // IFCS
    static constexpr Field<27> report_status{};      // RS
    static constexpr Field<29> advanced{};           // DEXT
    static constexpr Field<30> insert_vlan{};        // VLE
    static constexpr Field<31> segment{};            // TSE
    static constexpr Field<32> done{};               // DD
    static constexpr Field<38, 36> context{};        // IDX
    static constexpr Field<39> check_context{};      // CC
    static constexpr Field<40> ip_checksum{};        // IXSM
    static constexpr Field<41> l4_checksum{};        // TXSM
    static constexpr Field<63, 46> payload_bytes{};  // PAYLEN: the frame without CRC
    static constexpr std::uint64_t data_type = 3;
};

/// First word of a context descriptor.
struct TxContextHeaders : Register<TxContextHeaders, std::uint64_t> {
    static constexpr Field<8, 0> ip_header_bytes{};
    static constexpr Field<15, 9> mac_header_bytes{};  // 14..127
    static constexpr Field<31, 16> vlan_tag{};
};

/// Second word of a context descriptor. There are two contexts a queue; each stays valid until overwritten or the queue
/// is disabled. A context is never written back.
struct TxContext : Register<TxContext, std::uint64_t> {
    static constexpr Field<10> ipv4{};
    static constexpr Field<12, 11> l4_type{};  // 0 UDP, 1 TCP, 2 SCTP
    static constexpr Field<23, 20> type{};     // DTYP
    static constexpr Field<29> advanced{};     // DEXT
    static constexpr Field<36> context{};      // IDX
    static constexpr Field<47, 40> l4_header_bytes{};
    static constexpr Field<63, 48> segment_bytes{};  // MSS
    static constexpr std::uint64_t context_type = 2;
};

static_assert(RxDone::length_bytes.mask == 0x0000'ffff'0000'0000 &&
              TxData::payload_bytes.mask == 0xffff'c000'0000'0000);

/// Ring bases are aligned to this, and ring sizes are a multiple of it.
inline constexpr std::size_t ring_alignment_bytes = 128;
inline constexpr std::size_t least_ring_slots = 64;
inline constexpr std::size_t most_ring_slots = 4096;

}  // namespace vitrine::driver
