"""Which frames a VF receives, predicted from the documented rules and from nothing of our own code.

Sources: 82599 data sheet 7.1.1 (address, then VLAN), 8.2.3.7.6 (multicast hash by MCSTCTRL.MO), IEEE 802.1Q (the tag),
RFC 4291 2.7.1 (solicited-node group). A Linux PF that does not trust the VF grants multicast by hash only.
"""

import collections

BROADCAST = b"\xff" * 6
MOST_HASHES = 30
HASH_SHIFTS = {0: (4, 4), 1: (3, 5), 2: (2, 6), 3: (0, 8)}  # filter type: right shift of byte 4, left shift of byte 5


def address(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def multicast_hash(group: bytes, filter_type: int) -> int:
    right, left = HASH_SHIFTS[filter_type]
    return (group[4] >> right | group[5] << left) & 0xFFF


def vlan_of(frame: bytes) -> int | None:
    if frame[12:14] != b"\x81\x00":
        return None
    return int.from_bytes(frame[14:16], "big") & 0xFFF


class FilterModel:
    """A VF without promiscuous and all-multicast modes."""

    def __init__(self, own: bytes, groups: list[bytes], filter_type: int, vlans: set[int]):
        all_nodes = address("33:33:00:00:00:01")
        solicited_node = b"\x33\x33\xff" + own[3:]
        all_systems = address("01:00:5e:00:00:01")
        self.own = own
        self.filter_type = filter_type
        self.vlans = vlans
        self.hashes: set[int] = set()
        for group in [all_nodes, solicited_node, all_systems, *groups]:
            if len(self.hashes) < MOST_HASHES:
                self.hashes.add(multicast_hash(group, filter_type))

    def verdict(self, frame: bytes) -> str:
        """`delivered`, or the name of the simulator's counter that must count the frame."""
        destination = frame[:6]
        if destination == BROADCAST:
            address_matches = True
        elif destination[0] & 1:
            address_matches = multicast_hash(destination, self.filter_type) in self.hashes
        else:
            address_matches = destination == self.own
        if not address_matches:
            return "filtered_mac"
        vlan = vlan_of(frame)
        return "delivered" if vlan is None or vlan in self.vlans else "filtered_vlan"

    def predict(self, frames: list[bytes]) -> tuple[list[bytes], collections.Counter]:
        """The frames that arrive, in order, and how many there are of each verdict."""
        verdicts = [self.verdict(frame) for frame in frames]
        arriving = [frame for frame, verdict in zip(frames, verdicts, strict=True) if verdict == "delivered"]
        return arriving, collections.Counter(verdicts)
