#include "driver/pci_sysfs.hpp"

#include <filesystem>
#include <fstream>
#include <functional>
#include <system_error>

#include <doctest/doctest.h>

#include "tests/support/directory.hpp"

using namespace vitrine::driver;
namespace fs = std::filesystem;

namespace {

constexpr const char* pf = "0000:03:00.0";
constexpr const char* vf = "0000:03:10.2";

/// A tree as sysfs shows it: a PF enp3s0f0 with two VFs, of which the second is in group 63 and vfio-pci's.
class Tree {
public:
    Tree() {
        for (const char* address : {pf, "0000:03:10.0", vf}) fs::create_directories(device(address));
        for (const char* driver : {"ixgbe", "ixgbevf", "vfio-pci", "pcieport"})
            fs::create_directories(root_ / "bus/pci/drivers" / driver);
        fs::create_directories(device(pf) / "net/enp3s0f0");
        write(device(pf) / "sriov_numvfs", "2");
        link(device(pf) / "virtfn0", device("0000:03:10.0"));
        link(device(pf) / "virtfn1", device(vf));
        link(device(vf) / "physfn", device(pf));
        link(root_ / "class/net/enp3s0f0/device", device(pf));
        write(root_ / "class/net/enp3s0f0/flags", "0x1003");
        bind(pf, "ixgbe");
        bind(vf, "vfio-pci");
        join(vf, 63);
    }

    fs::path device(const std::string& address) const { return root_ / "bus/pci/devices" / address; }
    void bind(const std::string& address, const std::string& driver) {
        fs::remove(device(address) / "driver");
        if (!driver.empty()) link(device(address) / "driver", root_ / "bus/pci/drivers" / driver);
    }
    void join(const std::string& address, unsigned group) {
        const fs::path place = root_ / "kernel/iommu_groups" / std::to_string(group);
        fs::create_directories(device(address));
        fs::create_directories(place);
        link(device(address) / "iommu_group", place);
        link(place / "devices" / address, device(address));
    }
    void write(const fs::path& file, const std::string& text) { std::ofstream(file) << text << '\n'; }
    void put_pf_down() { write(root_ / "class/net/enp3s0f0/flags", "0x1002"); }
    void leave_group() { fs::remove(device(vf) / "iommu_group"); }

    PciSysfs sysfs() const { return PciSysfs(root_.string()); }

private:
    static void link(const fs::path& name, const fs::path& target) {
        fs::create_directories(name.parent_path());
        fs::create_directory_symlink(target, name);
    }
    vitrine::test::Directory directory_;
    fs::path root_ = directory_.path;
};

std::string error_of(const std::function<void()>& attempt) {
    try {
        attempt();
    } catch (const std::system_error& error) {
        return error.what();
    }
    return {};
}

bool says(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a PF and an index lead to the VF's address, and the address to its group") {
    const Tree tree;
    CHECK(tree.sysfs().address_of({"enp3s0f0", 1}) == vf);
    CHECK(tree.sysfs().vfio_group_of(vf) == 63);
    CHECK(tree.sysfs().pf_of(vf) == "enp3s0f0");
    CHECK_FALSE(tree.sysfs().pf_of(pf).has_value());
}

TEST_CASE("a function's own file is known where the kernel makes one") {
    const Tree tree;
    CHECK(tree.sysfs().device_file_of(vf).empty());
    fs::create_directories(tree.device(vf) / "vfio-dev/vfio7");
    CHECK(tree.sysfs().device_file_of(vf) == "/dev/vfio/devices/vfio7");
}

TEST_CASE("an interface that is not there, and a VF that is not, are named with what makes it") {
    const Tree tree;
    CHECK(says(error_of([&] { tree.sysfs().address_of({"eth9", 0}); }), "no network interface eth9"));
    const std::string error = error_of([&] { tree.sysfs().address_of({"enp3s0f0", 2}); });
    CHECK(says(error, "enp3s0f0 has 2 VFs"));
    CHECK(says(error, "setup.sh apply --pf enp3s0f0 --vf 2"));
}

TEST_CASE("a function that is not there is named") {
    const Tree tree;
    CHECK(says(error_of([&] { tree.sysfs().vfio_group_of("0000:04:00.0"); }), "no PCI function 0000:04:00.0"));
}

TEST_CASE("an IOMMU that is off is named, with what switches it on") {
    Tree tree;
    tree.leave_group();
    const std::string error = error_of([&] { tree.sysfs().vfio_group_of(vf); });
    CHECK(says(error, "the IOMMU is off"));
    CHECK(says(error, "intel_iommu=on"));
}

TEST_CASE("a VF that another driver has is named, with the command that binds it") {
    Tree tree;
    tree.bind(vf, "ixgbevf");
    std::string error = error_of([&] { tree.sysfs().vfio_group_of(vf); });
    CHECK(says(error, "not bound to vfio-pci but to ixgbevf"));
    CHECK(says(error, "tools/setup.sh apply --pf enp3s0f0 --vf 1 --vm NAME"));

    tree.bind(vf, "");
    CHECK(says(error_of([&] { tree.sysfs().vfio_group_of(vf); }), "to no driver"));

    fs::remove(tree.device(vf) / "physfn");  // as in a VM that was given the VF
    error = error_of([&] { tree.sysfs().vfio_group_of(vf); });
    CHECK(says(error,
               "echo vfio-pci >/sys/bus/pci/devices/0000:03:10.2/driver_override; echo 0000:03:10.2 "
               ">/sys/bus/pci/drivers_probe"));
}

TEST_CASE("of a group that is not viable the functions are named that the host's drivers have, bridges not") {
    Tree tree;
    CHECK(tree.sysfs().strangers_in(63).empty());
    tree.join("0000:03:10.0", 63);
    tree.bind("0000:03:10.0", "ixgbevf");
    tree.join("0000:00:01.0", 63);
    tree.bind("0000:00:01.0", "pcieport");
    CHECK(tree.sysfs().strangers_in(63) == "0000:03:10.0 (ixgbevf)");
}

TEST_CASE("silence is explained by a PF that is down, with the command that helps") {
    Tree tree;
    CHECK_FALSE(says(tree.sysfs().advice_for_silence(PciFunction{vf}), "is down"));
    tree.put_pf_down();
    CHECK(says(tree.sysfs().advice_for_silence(PciFunction{vf}), "PF enp3s0f0 is down: ip link set enp3s0f0 up"));
    CHECK(says(tree.sysfs().advice_for_silence(PfAndIndex{"enp3s0f0", 1}), "ip link set enp3s0f0 up"));
    CHECK(says(tree.sysfs().advice_for_silence(PciFunction{"0000:09:00.0"}), "ip link set PF up"));
}
