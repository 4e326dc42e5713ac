#pragma once

#include <cstdint>

#include "driver/register.hpp"

/// The registers of a virtual function, by their data-sheet names and bit numbers: VF BAR0, 32 bits each.
/// Sources: 82599 data sheet (331520), section 8.3; X550 data sheet (333369), section 8.2.4 for what the X550 adds.
namespace vitrine::driver {

inline constexpr std::uint32_t bar0_bytes = 0x4000;
inline constexpr unsigned queue_slots = 8;  ///< in the map; how many are ours, the PF says (GET_QUEUES)
inline constexpr std::uint32_t queue_stride = 0x40;
inline constexpr unsigned vectors = 3;  ///< MSI-X; queue causes reach 0 and 1 only
inline constexpr unsigned mailbox_words = 16;
inline constexpr std::uint32_t all_ones = 0xffff'ffff;  ///< what a read gives when the device has left the bus

// ---- Page 0: control, interrupts, mailbox. Reads and writes have side effects. ----

/// Control, write only.
struct VFCTRL : Register<VFCTRL> {
    static constexpr std::uint32_t at() { return 0x0000; }
    static constexpr Field<26> reset{};
};

/// Status. Never reads all ones: that value means that the device is gone. A read of it flushes posted writes.
struct VFSTATUS : Register<VFSTATUS> {
    static constexpr std::uint32_t at() { return 0x0008; }
    static constexpr Field<3, 2> lan_id{};
    static constexpr Field<7> link_up{};
    static constexpr Field<17, 10> virtual_functions{};
    static constexpr Field<18> virtualization_active{};
    static constexpr Field<19> master_enabled{};
};

/// Link status.
struct VFLINKS : Register<VFLINKS> {
    static constexpr std::uint32_t at() { return 0x0010; }
    static constexpr Field<7> up_since_last_read{};   // 82599 and X540; reserved in the X550
    static constexpr Field<27> non_standard_speed{};  // X550: 5 G instead of 100 M, 2.5 G instead of 10 G
    static constexpr Field<29, 28> speed{};           // 3: 10 G, 2: 1 G, 1: 100 M
    static constexpr Field<30> up{};
    static constexpr Field<31> negotiation_complete{};
};

/// Free-running timer.
struct VFFRTIMER : Register<VFFRTIMER> {
    static constexpr std::uint32_t at() { return 0x0048; }
};

/// Interrupt causes, one bit for each vector. Cleared by reading.
struct VTEICR : Register<VTEICR> {
    static constexpr std::uint32_t at() { return 0x0100; }
    static constexpr Field<2, 0> causes{};
};
/// Writing 1 raises causes by software.
struct VTEICS : Register<VTEICS> {
    static constexpr std::uint32_t at() { return 0x0104; }
    static constexpr Field<2, 0> causes{};
};
/// Writing 1 enables vectors; reads the mask.
struct VTEIMS : Register<VTEIMS> {
    static constexpr std::uint32_t at() { return 0x0108; }
    static constexpr Field<2, 0> causes{};
};
/// Writing 1 disables vectors.
struct VTEIMC : Register<VTEIMC> {
    static constexpr std::uint32_t at() { return 0x010c; }
    static constexpr Field<2, 0> causes{};
};
/// Causes that clear themselves when their message is sent.
struct VTEIAC : Register<VTEIAC> {
    static constexpr std::uint32_t at() { return 0x0110; }
    static constexpr Field<2, 0> causes{};
};
/// Vectors that mask themselves when their message is sent: one interrupt per VTEIMS write.
struct VTEIAM : Register<VTEIAM> {
    static constexpr std::uint32_t at() { return 0x0114; }
    static constexpr Field<2, 0> causes{};
};

/// Vector of each queue, two queue pairs a register: index n holds pairs 2n and 2n + 1.
struct VTIVAR : Register<VTIVAR> {
    static constexpr unsigned count = 4;
    static constexpr std::uint32_t at(unsigned n) { return 0x0120 + 4 * n; }
    static constexpr Field<0> even_rx_vector{};
    static constexpr Field<7> even_rx_valid{};
    static constexpr Field<8> even_tx_vector{};
    static constexpr Field<15> even_tx_valid{};
    static constexpr Field<16> odd_rx_vector{};
    static constexpr Field<23> odd_rx_valid{};
    static constexpr Field<24> odd_tx_vector{};
    static constexpr Field<31> odd_tx_valid{};
};

/// Vector of the mailbox.
struct VTIVAR_MISC : Register<VTIVAR_MISC> {
    static constexpr std::uint32_t at() { return 0x0140; }
    static constexpr Field<1, 0> vector{};
    static constexpr Field<7> valid{};
};

/// Writing 1 clears pending bits of the MSI-X table.
struct VFPBACL : Register<VFPBACL> {
    static constexpr std::uint32_t at() { return 0x0148; }
};

/// Mailbox memory, shared with the PF.
struct VFMBMEM : Register<VFMBMEM> {
    static constexpr std::uint32_t at(unsigned word) { return 0x0200 + 4 * word; }
};

/// Mailbox control. `pf_status`, `pf_acknowledge` and `reset_done` clear when the register is read, all three at once.
struct VFMAILBOX : Register<VFMAILBOX> {
    static constexpr std::uint32_t at() { return 0x02fc; }
    static constexpr Field<0> request{};         // REQ: a message is in memory. Reads 0
    static constexpr Field<1> acknowledge{};     // ACK: the PF's message was read. Reads 0
    static constexpr Field<2> vf_owns{};         // VFU: only granted while PFU is 0
    static constexpr Field<3> pf_owns{};         // PFU
    static constexpr Field<4> pf_status{};       // PFSTS: the PF wrote a message
    static constexpr Field<5> pf_acknowledge{};  // PFACK: the PF read ours
    static constexpr Field<6> in_reset{};        // RSTI
    static constexpr Field<7> reset_done{};      // RSTD
    static constexpr std::uint32_t read_to_clear = 0xb0;
};

/// Packet split types, and how many queues RSS may choose from (log2). The latter is undefined after a reset.
struct VFPSRTYPE : Register<VFPSRTYPE> {
    static constexpr std::uint32_t at() { return 0x0300; }
    static constexpr Field<31, 29> rss_queues_log2{};
};

/// Interrupt throttling. Vector 2 has none.
struct VTEITR : Register<VTEITR> {
    static constexpr unsigned count = 2;
    static constexpr std::uint32_t at(unsigned vector) { return 0x0820 + 4 * vector; }
    static constexpr Field<11, 3> interval{};  // steps of 2.048 us at 1 and 10 Gbit/s; 0: none
    static constexpr Field<31> keep_counter{};
};

// ---- Page 1: receive queues and receive statistics. Index: queue. ----

/// Ring base, low half; 128-byte aligned.
struct VFRDBAL : Register<VFRDBAL> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x1000 + queue_stride * queue; }
    static constexpr std::uint32_t writable = 0xffff'ff80;
};
struct VFRDBAH : Register<VFRDBAH> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x1004 + queue_stride * queue; }
};
/// Ring length in bytes, a multiple of 128.
struct VFRDLEN : Register<VFRDLEN> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x1008 + queue_stride * queue; }
    static constexpr std::uint32_t writable = 0x000f'ff80;
};
/// Cache hints and ordering; stored, without effect on what is delivered.
struct VFDCA_RXCTRL : Register<VFDCA_RXCTRL> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x100c + queue_stride * queue; }
    static constexpr Field<9> descriptor_read_relaxed{};
    static constexpr Field<13> data_write_relaxed{};
    static constexpr Field<15> header_write_relaxed{};
};
struct VFRDH : Register<VFRDH> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x1010 + queue_stride * queue; }
    static constexpr Field<15, 0> head{};
};
/// Buffers of a receive queue.
struct VFSRRCTL : Register<VFSRRCTL> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x1014 + queue_stride * queue; }
    static constexpr Field<4, 0> packet_buffer_kib{};    // 1..16
    static constexpr Field<13, 8> header_buffer_64b{};   // only split modes use it
    static constexpr Field<24, 22> low_threshold_64d{};  // RDMTS
    static constexpr Field<27, 25> descriptor_type{};
    static constexpr Field<28> drop_enable{};
    static constexpr std::uint32_t advanced_one_buffer = 1;
};
struct VFRDT : Register<VFRDT> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x1018 + queue_stride * queue; }
    static constexpr Field<15, 0> tail{};
};
/// Receive Descriptor Control.
struct VFRXDCTL : Register<VFRXDCTL> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x1028 + queue_stride * queue; }
    static constexpr Field<13, 0> longest_frame_bytes{};  // RLPML, without CRC; no effect on the 82599
    static constexpr Field<15> longest_frame_enable{};
    static constexpr Field<25> enable{};  // reads back the true state, later than written
    static constexpr Field<30> strip_vlan{};
};
struct VFRSCCTL : Register<VFRSCCTL> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x102c + queue_stride * queue; }
};

// Statistics lie inside the stride of queue 0. They neither clear on reads nor in a VF reset.
struct VFGPRC : Register<VFGPRC> {
    static constexpr std::uint32_t at() { return 0x101c; }
};
/// Octets, CRC included: 36 bits. Read the low half first.
struct VFGORC_LSB : Register<VFGORC_LSB> {
    static constexpr std::uint32_t at() { return 0x1020; }
};
struct VFGORC_MSB : Register<VFGORC_MSB> {
    static constexpr std::uint32_t at() { return 0x1024; }
    static constexpr Field<3, 0> octets_35_32{};
};
struct VFMPRC : Register<VFMPRC> {
    static constexpr std::uint32_t at() { return 0x1034; }
};

// ---- Page 2: transmit queues and transmit statistics. Index: queue. ----

struct VFTDBAL : Register<VFTDBAL> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x2000 + queue_stride * queue; }
    static constexpr std::uint32_t writable = 0xffff'ff80;
};
struct VFTDBAH : Register<VFTDBAH> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x2004 + queue_stride * queue; }
};
struct VFTDLEN : Register<VFTDLEN> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x2008 + queue_stride * queue; }
    static constexpr std::uint32_t writable = 0x000f'ff80;
};
struct VFDCA_TXCTRL : Register<VFDCA_TXCTRL> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x200c + queue_stride * queue; }
    static constexpr Field<9> descriptor_read_relaxed{};
    static constexpr Field<13> data_read_relaxed{};
};
struct VFTDH : Register<VFTDH> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x2010 + queue_stride * queue; }
    static constexpr Field<15, 0> head{};
};
struct VFTDT : Register<VFTDT> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x2018 + queue_stride * queue; }
    static constexpr Field<15, 0> tail{};
};
/// Transmit Descriptor Control. The sum of prefetch and write-back thresholds is at most 40.
struct VFTXDCTL : Register<VFTXDCTL> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x2028 + queue_stride * queue; }
    static constexpr Field<6, 0> prefetch_threshold{};
    static constexpr Field<14, 8> host_threshold{};
    static constexpr Field<22, 16> write_back_threshold{};  // 0: descriptors with RS at once, the others never
    static constexpr Field<25> enable{};                    // reads back the true state, later than written
    static constexpr Field<26> flush{};                     // clears itself
};
/// Head write-back address; bit 0 enables it.
struct VFTDWBAL : Register<VFTDWBAL> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x2038 + queue_stride * queue; }
    static constexpr Field<0> enable{};
};
struct VFTDWBAH : Register<VFTDWBAH> {
    static constexpr std::uint32_t at(unsigned queue) { return 0x203c + queue_stride * queue; }
};

struct VFGPTC : Register<VFGPTC> {
    static constexpr std::uint32_t at() { return 0x201c; }
};
struct VFGOTC_LSB : Register<VFGOTC_LSB> {
    static constexpr std::uint32_t at() { return 0x2020; }
};
struct VFGOTC_MSB : Register<VFGOTC_MSB> {
    static constexpr std::uint32_t at() { return 0x2024; }
    static constexpr Field<3, 0> octets_35_32{};
};

// ---- Page 3: RSS of the X550 family only. ----

struct VFMRQC : Register<VFMRQC> {
    static constexpr std::uint32_t at() { return 0x3000; }
    static constexpr Field<0> rss_enable{};
};
struct VFRSSRK : Register<VFRSSRK> {
    static constexpr unsigned count = 10;
    static constexpr std::uint32_t at(unsigned word) { return 0x3100 + 4 * word; }
};
struct VFRETA : Register<VFRETA> {
    static constexpr unsigned count = 16;
    static constexpr std::uint32_t at(unsigned word) { return 0x3200 + 4 * word; }
};

static_assert(VTIVAR::at(3) == 0x12c && VFMBMEM::at(mailbox_words - 1) == 0x23c && VTEITR::at(1) == 0x824);
static_assert(VFRXDCTL::at(7) == 0x11e8 && VFTDWBAH::at(7) == 0x21fc && VFRSSRK::at(9) == 0x3124);
static_assert(VFMAILBOX::read_to_clear ==
              (VFMAILBOX::pf_status.mask | VFMAILBOX::pf_acknowledge.mask | VFMAILBOX::reset_done.mask));

}  // namespace vitrine::driver
