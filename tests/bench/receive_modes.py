#!/usr/bin/python3
"""What a received frame costs vitrine by copy, direct and in packet pages, by size: nanoseconds of CPU time, and bytes
that the CPU reads and writes. Prints tables, and draws them with --svg.

All modes run in turn in one program (receive_cost), round after round; ratios are those of each round, so that a slow
moment of the machine meets all of them. Bytes are counted by receive_touched, the same sources with a call at each
load and store. The NIC is a loop over descriptors that moves no bytes: the time is the device's own. No speed is
judged; exit code 1 when frames are missing, or a path touches payload that it should not.
"""

import argparse
import collections
import json
import math
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import tempfile

COLOURS = {"copy, 2 KiB": "#e67e22", "copy, 16 KiB": "#922b21", "pages, 2 KiB": "#2471a3", "pages, 16 KiB": "#1e8449",
           "direct, 2 KiB": "#b7950b", "direct, 10 KiB": "#7d3c98"}
PER_PART = " (a page)"


def lines_of(command):
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def spread(values):
    return statistics.median(values), min(values), max(values)


class Results:
    def __init__(self, slices, touched):
        self.ways = list(dict.fromkeys(one["way"] for one in slices))
        self.sizes = list(dict.fromkeys(one["bytes"] for one in slices))
        self.ns = collections.defaultdict(list)
        for one in slices:
            self.ns[one["way"], one["bytes"]].append(one["ns"])
        self.parts = {(one["way"], one["bytes"]): one["parts"] for one in slices}
        self.touched = {(one["way"], one["bytes"]): one for one in touched}

    def median_ns(self, way, size):
        return statistics.median(self.ns[way, size])

    def ratio(self, way, size):
        """How many times cheaper than a copy from the same pages: of the slices of one round."""
        base = "copy, 2 KiB" if "2 KiB" in way else "copy, 16 KiB"
        return spread([slow / fast for slow, fast in zip(self.ns[base, size], self.ns[way, size])])

    def bytes_touched(self, way, size):
        """All, of it payload and header, and what everybody but vitrine itself sees too."""
        one = self.touched[way, size]
        return (sum(sum(one[place]) for place in ("nic_ring", "packets", "guest_ring", "guest_memory", "own")),
                sum(one["packets"]) + sum(one["guest_memory"]), sum(one["nic_ring"]) + sum(one["guest_ring"]))

    def table(self):
        yield ("| bytes | way | M frames/s | ns a frame, median (min..max) | ns a page or buffer | copy / this, of "
               "each round | bytes touched a frame | of it frame and header | NIC's and guest's ring |")
        yield "|---|---|---|---|---|---|---|---|---|"
        for size in self.sizes:
            for way in self.ways:
                median, least, most = spread(self.ns[way, size])
                ratio = "{:.1f} ({:.1f}..{:.1f})".format(*self.ratio(way, size)) if not way.startswith("copy") else ""
                everything, payload, rings = self.bytes_touched(way, size)
                yield (f"| {size} | {way} | {1e3 / median:.2f} | {median:.1f} ({least:.1f}..{most:.1f}) | "
                       f"{median / self.parts[way, size]:.1f} | {ratio} | {everything:.0f} | {payload:.0f} | "
                       f"{rings:.0f} |")


class Panel:
    """A plot of lines over the sizes, both axes logarithmic."""
    WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 400, 300, 60, 40, 45

    def __init__(self, title, sizes, curves):
        self.title, self.sizes, self.curves = title, sizes, curves
        values = [value for curve in curves.values() for value in curve]
        self.low, self.high = 1, 10
        while self.low * 10 <= min(values):
            self.low *= 10
        while self.high < max(values):
            self.high *= 10

    def x(self, size):
        share = math.log(size / self.sizes[0]) / math.log(self.sizes[-1] / self.sizes[0])
        return self.LEFT + share * self.WIDTH

    def y(self, value):
        return self.TOP + self.HEIGHT * (1 - math.log(value / self.low) / math.log(self.high / self.low))

    def svg(self, left):
        yield f'<g transform="translate({left},0)">'
        yield f'<text x="{self.LEFT}" y="22" font-weight="bold">{self.title}</text>'
        decade = self.low
        while decade <= self.high:
            for value in (decade, 2 * decade, 5 * decade):
                if value > self.high:
                    break
                y = self.y(value)
                yield (f'<line x1="{self.LEFT}" x2="{self.LEFT + self.WIDTH}" y1="{y:.1f}" y2="{y:.1f}" '
                       f'stroke="#ddd"/><text x="{self.LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value}</text>')
            decade *= 10
        for size in self.sizes:
            yield (f'<text x="{self.x(size):.1f}" y="{self.TOP + self.HEIGHT + 18}" text-anchor="middle">{size}'
                   '</text>')
        yield (f'<text x="{self.LEFT + self.WIDTH / 2}" y="{self.TOP + self.HEIGHT + 36}" text-anchor="middle">'
               'bytes of a frame</text>')
        for name, curve in self.curves.items():
            way, dashes = name.removesuffix(PER_PART), ' stroke-dasharray="5 4"' if name.endswith(PER_PART) else ""
            points = " ".join(f"{self.x(size):.1f},{self.y(value):.1f}" for size, value in zip(self.sizes, curve))
            yield f'<polyline points="{points}" fill="none" stroke="{COLOURS[way]}" stroke-width="2"{dashes}/>'
            for size, value in zip(self.sizes, curve):
                yield f'<circle cx="{self.x(size):.1f}" cy="{self.y(value):.1f}" r="3" fill="{COLOURS[way]}"/>'
        yield "</g>"


def draw(results, note):
    def curves(value):
        return {way: [value(way, size) for size in results.sizes] for way in results.ways}

    time = curves(results.median_ns)
    for way in results.ways:
        if any(results.parts[way, size] > 1 for size in results.sizes):
            time[way + PER_PART] = [results.median_ns(way, size) / results.parts[way, size] for size in results.sizes]
    touched = curves(lambda way, size: results.bytes_touched(way, size)[0])
    panels = [Panel("ns of vitrine's CPU time a frame", results.sizes, time),
              Panel("bytes that the CPU touches a frame", results.sizes, touched)]
    step = Panel.LEFT + Panel.WIDTH + 30
    width = step * len(panels) + 170
    height = Panel.TOP + Panel.HEIGHT + Panel.BOTTOM + 30
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
           'font-family="sans-serif" font-size="12">')
    yield f'<rect width="{width}" height="{height}" fill="white"/>'
    for number, panel in enumerate(panels):
        yield from panel.svg(step * number)
    for number, name in enumerate(time):
        way, dashes = name.removesuffix(PER_PART), ' stroke-dasharray="5 4"' if name.endswith(PER_PART) else ""
        y = Panel.TOP + 20 * number
        yield (f'<line x1="{step * len(panels)}" x2="{step * len(panels) + 24}" y1="{y}" y2="{y}" '
               f'stroke="{COLOURS[way]}" stroke-width="2"{dashes}/>'
               f'<text x="{step * len(panels) + 30}" y="{y + 4}">{name}</text>')
    yield f'<text x="{Panel.LEFT}" y="{height - 10}" font-size="10">{note}</text>'
    yield "</svg>"


def cpu_model():
    return re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())[1]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path(os.environ.get("VITRINE_BUILD", "build")))
    parser.add_argument("--rounds", type=int, default=15, help="default: %(default)s, under a minute in all")
    parser.add_argument("--slice-ms", type=int, default=20, help="CPU time of each mode and size in each round")
    parser.add_argument("--huge", metavar="DIRECTORY", help="memory on huge pages; DIRECTORY is on a hugetlbfs")
    parser.add_argument("--svg", type=pathlib.Path, help="draw it here")
    parser.add_argument("--json", type=pathlib.Path, help="write everything measured here")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="vitrine-bench.", dir="/dev/shm") as directory:
        touched = lines_of([arguments.build / "receive_touched", directory])
        memory = ["--directory", arguments.huge, "--memory", "huge"] if arguments.huge else ["--directory", directory]
        slices = lines_of([arguments.build / "receive_cost", "--rounds", str(arguments.rounds),
                           "--slice-ms", str(arguments.slice_ms), *memory])
    results = Results(slices, touched)
    load = os.getloadavg()[0]
    note = (f"{cpu_model()}; {'huge' if arguments.huge else 'small'} pages; load average {load:.1f}; {arguments.rounds}"
            f" rounds of {arguments.slice_ms} ms; tests/bench/receive_modes.py")
    print(note, *results.table(), sep="\n")
    if arguments.svg:
        arguments.svg.write_text("\n".join(draw(results, note)) + "\n")
    if arguments.json:
        document = {"note": note, "command_line": shlex.join(sys.argv), "slices": slices, "touched": touched}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"FAIL: {error}")
