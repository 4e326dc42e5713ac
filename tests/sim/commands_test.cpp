// What an operator can say, and when a script says it.
#include "tools/vf_sim/commands.hpp"

#include <fstream>

#include "tests/sim/simulator_thread.hpp"
#include "tests/sim/vf_bench.hpp"
#include "tools/vf_sim/script.hpp"

namespace vitrine::sim_test {
namespace {

using namespace std::chrono_literals;

std::string error_of(const std::string& line) {
    vf_sim::Vf vf{vf_sim::Policy{}};
    vf_sim::Vf* const one = &vf;
    try {
        vf_sim::execute(line, {&one, 1});
        return {};
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
}

bool mentions(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a command that is not known, lacks its argument or has one too many is refused by name") {
    CHECK(error_of("status") == "");
    CHECK(error_of("link up") == "");
    CHECK(error_of("  link   down ") == "");
    CHECK(error_of("pf-reset") == "");
    CHECK(error_of("pf-reset 50") == "");
    CHECK(error_of("flr") == "");
    CHECK(error_of("vf 0 flr") == "");
    CHECK(mentions(error_of("dance"), "unknown command 'dance'; there are status, link"));
    CHECK(mentions(error_of(""), "unknown command ''"));
    CHECK(mentions(error_of("link"), "link up|down: '' is neither up nor down"));
    CHECK(mentions(error_of("link sideways"), "'sideways' is neither up nor down"));
    CHECK(mentions(error_of("link up now"), "'now' is too much"));
    CHECK(mentions(error_of("pf-reset 60001"), "'60001' is not a number from 0 to 60000"));
    CHECK(mentions(error_of("pf-reset -1"), "'-1' is not a number"));
    CHECK(mentions(error_of("vf 1 link up"), "'1' is not a number from 0 to 0"));
    CHECK(mentions(error_of("vf 0 link up"), "it is for all functions"));
}

TEST_CASE("commands of the port reach every function") {
    VfBench a, b;
    const std::array functions{&a.vf, &b.vf};
    vf_sim::execute("link down", functions);
    CHECK_FALSE(a.vf.link_up());
    CHECK_FALSE(b.vf.link_up());
}

TEST_CASE("the control socket answers with the status or with one error") {
    SimulatorThread simulator("null");
    CHECK(simulator.command("link down")["link_up"] == false);
    CHECK(mentions(simulator.command("frobnicate")["error"], "unknown command"));
    CHECK(simulator.command("link up")["link_up"] == true);
}

TEST_CASE("a script's commands come at their times, in order, counted from its first run") {
    const test::Directory directory;
    std::ofstream(directory / "script") << "# a comment\n\n0 link down\n100 link up  # and why\n100 status\n";
    vf_sim::Script script(directory / "script");
    std::string said;
    const auto command = [&](const std::string& line) {
        said += line + ";";
        return line == "status" ? R"({"error":"on purpose"})" : "{}";
    };
    const vf_sim::Time begin{7s};
    CHECK_FALSE(script.due());
    script.run(begin, command);
    CHECK(said == "link down;");
    CHECK(script.due() == begin + 100ms);
    script.run(begin + 99ms, command);
    CHECK(said == "link down;");
    script.run(begin + 100ms, command);
    CHECK(said == "link down;link up;status;");
    CHECK_FALSE(script.due());
    CHECK(script.failed() == 1);
}

TEST_CASE("a script with a bad line is refused with its number") {
    const test::Directory directory;
    for (const std::string text : {"0 link up\nsoon link down\n", "0 link up\n5\n", "9 link up\n5 link down\n"}) {
        std::ofstream(directory / "script") << text;
        try {
            const vf_sim::Script script(directory / "script");
            FAIL("accepted");
        } catch (const std::invalid_argument& error) {
            CHECK(mentions(error.what(), "line 2"));
        }
    }
    CHECK_THROWS_AS(vf_sim::Script(directory / "none"), std::runtime_error);
}

}  // namespace vitrine::sim_test
