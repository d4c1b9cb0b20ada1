"""Plan 100,000 clients, all on the internet, with ``entrepot plan``: a month, three contents, eight releases.

The whole command is timed, its start included. Keys: clients, downloads (simulated), seconds, cpu_seconds,
downloads_per_s (of the processor), peak_rss_mib, of_a_minute (share of the minute that it may take; below 1 is sooner).
"""

import json
import statistics
import sys

from benchmarks.measuring import report, run

CLIENTS = 100_000
CONTENTS = ("office:3GB:2:15", "agent:40MB:4", "browser:120MB:2")
ROUNDS = 3
MINUTE = 60.0


def main() -> None:
    """Measure and print."""
    command = [sys.executable, "-m", "entrepot", "plan", "--clients", str(CLIENTS), "--internet", "100", "--json"]
    command += ["--networks", "2000", *(word for content in CONTENTS for word in ("--content", content))]
    rounds = [run(command) for _ in range(ROUNDS)]
    downloads = json.loads(rounds[0].output)["downloads"]
    seconds = statistics.median(each.seconds for each in rounds)
    cpu = statistics.median(each.cpu for each in rounds)
    figures = {
        "clients": CLIENTS,
        "downloads": downloads,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "downloads_per_s": round(downloads / cpu),
        "peak_rss_mib": max(each.peak_rss_mib for each in rounds),
        "of_a_minute": round(seconds / MINUTE, 2),
    }
    report(figures, "\n".join(f"{each.seconds:.1f} s, {each.cpu:.1f} processor seconds" for each in rounds))


if __name__ == "__main__":
    main()
