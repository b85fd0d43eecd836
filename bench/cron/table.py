"""Makes the table of the README from the output of `cargo bench`, read from standard input."""

import re
import sys

CRATES = ["impresario-cron", "croner", "cron", "cronexpr"]
NANOSECONDS = {"ns": 1, "µs": 1e3, "us": 1e3, "ms": 1e6, "s": 1e9}


def shown(ns):
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"


rows, worst, name = {}, [], None
for line in sys.stdin:
    # A long name stands on a line of its own, above its time.
    before, found, after = line.partition("time:")
    if found:
        name = before.strip() or name
        middle = re.search(r"\[\S+ \S+ (\S+) (\S+) \S+ \S+\]", after)
        ns = float(middle[1]) * NANOSECONDS[middle[2]]
        group, _, rest = name.partition("/")
        if group == "worst case":
            worst.append((rest, ns))
            continue
        # The zone's name has a slash of its own.
        crate = next(crate for crate in CRATES if f"/{crate}/" in name or name.endswith("/" + crate))
        rows.setdefault(name.replace("/" + crate, "").replace("/", ", ").replace("America, ", "America/"), {})[crate] = ns
    elif "/" in line and not line.startswith(("Benchmarking", " ")):
        name = line.strip()

print("| | " + " | ".join(CRATES) + " | times the best other |")
print("|---|" + "---:|" * (len(CRATES) + 1))
for row, times in rows.items():
    best = min(ns for crate, ns in times.items() if crate != CRATES[0])
    cells = [shown(times[crate]) if crate in times else "" for crate in CRATES]
    print(f"| {row} | {' | '.join(cells)} | {best / times[CRATES[0]]:.1f} |")
print()
for row, ns in worst:
    print(f"| {row.replace('/', ', ')} | {shown(ns)} |")
