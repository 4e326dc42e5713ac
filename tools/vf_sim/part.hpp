#pragma once

#include <cstdint>

namespace vitrine::vf_sim {

/// Which silicon is played. Ids: fact tables of the three data sheets; the differences are named where they act.
enum class Part { i82599, x540, x550 };

constexpr std::uint16_t device_id(Part part) {
    switch (part) {
        case Part::i82599:
            return 0x10ed;
        case Part::x540:
            return 0x1515;
        case Part::x550:
            return 0x1565;
    }
    return 0xffff;
}

constexpr const char* name_of(Part part) {
    switch (part) {
        case Part::i82599:
            return "82599";
        case Part::x540:
            return "x540";
        case Part::x550:
            return "x550";
    }
    return "?";
}

}  // namespace vitrine::vf_sim
