#include "apps/vitrine/sandbox.hpp"

#include <algorithm>
#include <seccomp.h>

#include <doctest/doctest.h>

using namespace vitrine::apps;

namespace {

bool may_call_others(const Options& options) {
    return std::ranges::any_of(control_calls(options), [](const AllowedCall& call) {
        return call.number == SCMP_SYS(socket) || call.number == SCMP_SYS(connect);
    });
}

}  // namespace

TEST_CASE("only a VF or a front-end that is called by socket lets the control thread call anybody") {
    Options options;
    options.vf = "0000:03:10.1";
    options.front_end.socket_path = "/run/vitrine/vm1/vhost.sock";
    CHECK_FALSE(may_call_others(options));
    options.front_end.connect_path = "/run/vmm.sock";
    CHECK(may_call_others(options));
    options.front_end = {};
    CHECK_FALSE(may_call_others(options));
    options.vf = "vfio-user:/run/vf.sock";
    CHECK(may_call_others(options));
}
