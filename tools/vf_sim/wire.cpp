#include "tools/vf_sim/wire.hpp"

#include <charconv>
#include <map>
#include <stdexcept>
#include <string_view>
#include <tuple>
#include <utility>

#include <nlohmann/json.hpp>

#include "tools/vf_sim/generator_wire.hpp"
#include "tools/vf_sim/pcap_wire.hpp"
#include "tools/vf_sim/tap_wire.hpp"

namespace vitrine::vf_sim {
namespace {

/// Swallows what is sent and sends nothing.
class NullWire final : public Wire {
public:
    std::span<const std::byte> next(Time, const mem::EthernetAddress&) override { return {}; }
    void take() override {}
    bool waits() const override { return false; }
    bool starts_when_ready() const override { return false; }
    bool done() const override { return true; }
    void transmit(std::span<const std::byte>) override {}
    void report(nlohmann::json& status) const override { status["wire"]["kind"] = "null"; }
};

/// `name=value,name=value`. Each must be taken; an unknown one is an error that names it.
class Settings {
public:
    Settings(std::string kind, std::string_view text) : kind_(std::move(kind)) {
        while (!text.empty()) {
            const std::string_view item = text.substr(0, text.find(','));
            text.remove_prefix(std::min(item.size() + 1, text.size()));
            const std::size_t equals = item.find('=');
            if (equals == std::string_view::npos) fail("'" + std::string(item) + "' is not NAME=VALUE");
            values_[std::string(item.substr(0, equals))] = item.substr(equals + 1);
        }
    }
    std::string text(const std::string& name) {
        auto node = values_.extract(name);
        return node.empty() ? std::string() : node.mapped();
    }
    std::optional<std::uint64_t> number(const std::string& name, std::uint64_t least, std::uint64_t most) {
        return number_in(name, text(name), least, most);
    }
    /// "64" or "64-1518".
    std::optional<std::pair<std::uint64_t, std::uint64_t>> range(const std::string& name, std::uint64_t least,
                                                                 std::uint64_t most) {
        const std::string value = text(name);
        if (value.empty()) return std::nullopt;
        const std::size_t dash = value.find('-');
        const auto first = number_in(name, value.substr(0, dash), least, most);
        const auto last =
            dash == std::string::npos ? first : number_in(name, value.substr(dash + 1), first.value_or(least), most);
        if (!first || !last) fail(name + "=" + value + " is neither a number nor two, as in 64-1518");
        return std::pair(*first, *last);
    }
    void expect_empty() const {
        if (!values_.empty()) fail("unknown setting '" + values_.begin()->first + "'");
    }
    [[noreturn]] void fail(const std::string& what) const {
        throw std::invalid_argument("wire " + kind_ + ": " + what);
    }

private:
    std::optional<std::uint64_t> number_in(const std::string& name, const std::string& value, std::uint64_t least,
                                           std::uint64_t most) const {
        if (value.empty()) return std::nullopt;
        std::uint64_t result = 0;
        const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
        if (error != std::errc{} || end != value.data() + value.size() || result < least || result > most)
            fail(name + "=" + value + " is not a number from " + std::to_string(least) + " to " + std::to_string(most));
        return result;
    }

    std::string kind_;
    std::map<std::string, std::string> values_;
};

constexpr std::uint64_t most_rate = 100'000'000;

std::unique_ptr<Wire> make_generator(Settings settings) {
    GeneratorWire::Options options;
    if (const auto sizes = settings.range("size", mem::least_test_frame_bytes + 4, 9728))
        std::tie(options.wire_bytes, options.most_wire_bytes) = *sizes;
    options.rate = static_cast<double>(settings.number("rate", 0, most_rate).value_or(0));
    options.flows = static_cast<unsigned>(settings.number("flows", 1, 50000).value_or(1));
    options.count = settings.number("count", 0, UINT64_MAX);
    settings.expect_empty();
    return std::make_unique<GeneratorWire>(options);
}

std::unique_ptr<Wire> make_pcap(Settings settings) {
    PcapWire::Options options;
    options.in = settings.text("in");
    options.out = settings.text("out");
    options.rate = static_cast<double>(settings.number("rate", 0, most_rate).value_or(0));
    settings.expect_empty();
    if (options.in.empty() && options.out.empty()) settings.fail("in=FILE, out=FILE or both are needed");
    return std::make_unique<PcapWire>(options);
}

}  // namespace

std::unique_ptr<Wire> make_wire(const std::string& description) {
    const std::string kind = description.substr(0, description.find(':'));
    const std::string rest = description.size() > kind.size() ? description.substr(kind.size() + 1) : std::string();
    if (kind == "null" && rest.empty()) return std::make_unique<NullWire>();
    if (kind == "tap") return std::make_unique<TapWire>(rest);
    if (kind == "gen") return make_generator({kind, rest});
    if (kind == "pcap") return make_pcap({kind, rest});
    throw std::invalid_argument("wire '" + description + "': expected tap:NAME, pcap:..., gen:... or null");
}

}  // namespace vitrine::vf_sim
