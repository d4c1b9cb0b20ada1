"""One gateway instance against nginx with one worker: the same objects over TLS 1.3, the same load generator (wrk).

The gateway checks a token and records a transaction for every request; nginx serves static files without any check. In
turn, several rounds, medians. Then 1,000 slow clients at once on 4 MiB objects, gateway only.

Keys: vs_nginx_throughput (above 1 is faster), vs_nginx_cpu_per_gib (below 1 is cheaper), range64k_vs_nginx (requests a
second of 64 KiB ranges), slow_client_errors, peak_rss_mib (of the gateway, slow clients included).
"""

import json
import shutil
import socket
import statistics
import subprocess
import sys
from pathlib import Path

import msgspec

from benchmarks.corpus import ROOT
from benchmarks.gateway import FQDN, Server, Service, client_path, static_path
from benchmarks.measuring import fresh, report
from entrepot.core.sizes import GIB, KIB, MIB

ROUNDS = 3
SECONDS = 8
DEVICES = 64
SLOW_CLIENTS = 1000
SLOW_BYTES_PER_SECOND = 128 * KIB
# Every request asks for the next object, as the next device; a request of a range for the next range, too.
LUA = """
local paths = {{{paths}}}
local tokens = {{{tokens}}}
local at = 0
request = function()
  at = at + 1
  local headers = {{["Host"] = "{fqdn}"}}
  if #tokens > 0 then headers["Authorization"] = "Bearer " .. tokens[at % #tokens + 1] end
  if {range} > 0 then
    local first = (at % 16) * {range}
    headers["Range"] = "bytes=" .. first .. "-" .. (first + {range} - 1)
  end
  return wrk.format("GET", paths[at % #paths + 1], headers)
end
done = function(summary)
  local bad = summary.errors
  io.write(string.format('\\nJSON {{"requests":%d,"bytes":%d,"microseconds":%d,"errors":%d}}\\n', summary.requests,
    summary.bytes, summary.duration, bad.connect + bad.read + bad.write + bad.status + bad.timeout))
end
"""


class Load(msgspec.Struct, frozen=True):
    """What the generator saw, and what the server spent on it."""

    requests: int
    bytes: int
    microseconds: int
    errors: int
    cpu: float = 0.0

    @property
    def mib_per_s(self) -> float:
        """Throughput."""
        return self.bytes / MIB / (self.microseconds / 1e6)

    @property
    def requests_per_s(self) -> float:
        """Rate of requests."""
        return self.requests / (self.microseconds / 1e6)

    @property
    def cpu_per_gib(self) -> float:
        """Processor seconds of the server for a GiB."""
        return self.cpu / (self.bytes / GIB)


def load(server: Server, script: Path, connections: int) -> Load:
    """Run the generator against a server."""
    before = server.cpu_seconds()
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "-s", str(script), f"https://127.0.0.1:{server.port}"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = msgspec.json.decode(output.rpartition("JSON ")[2], type=Load)
    return msgspec.structs.replace(found, cpu=server.cpu_seconds() - before)


def script(path: Path, paths: list[str], tokens: list[str], range_bytes: int) -> Path:
    """Write the generator's script: tokens belong into no command line."""
    quoted = ",".join(f'"{one}"' for one in paths)
    path.touch(0o600)
    path.write_text(
        LUA.format(paths=quoted, tokens=",".join(f'"{one}"' for one in tokens), range=range_bytes, fqdn=FQDN)
    )
    return path


def scripts(service: Service, folder: Path, range_bytes: int) -> dict[str, Path]:
    """One for each contender."""
    tokens = [service.token(number) for number in range(DEVICES)]
    ours = [client_path(one) for one in service.objects]
    theirs = [static_path(one) for one in service.objects]
    return {
        "gateway": script(folder / f"gateway-{range_bytes}.lua", ours, tokens, range_bytes),
        "nginx": script(folder / f"nginx-{range_bytes}.lua", theirs, [], range_bytes),
    }


def rounds(servers: dict[str, Server], scripts: dict[str, Path]) -> dict[str, list[Load]]:
    """All contenders in turn, several times."""
    found: dict[str, list[Load]] = {name: [] for name in servers}
    for _ in range(ROUNDS):
        for name, server in servers.items():
            found[name].append(load(server, scripts[name], 16))
    return found


def slow(service: Service, server: Server, folder: Path) -> dict[str, int]:
    """Many slow clients at once, in a process of their own."""
    wanted = {
        "port": server.port,
        "ca": service.ca,
        "name": FQDN,
        "rate": SLOW_BYTES_PER_SECOND,
        "paths": [client_path(one) for one in service.large],
        "tokens": [service.token(number) for number in range(SLOW_CLIENTS)],
    }
    path = folder / "slow.json"
    path.touch(0o600)
    path.write_text(json.dumps(wanted))
    command = [sys.executable, "-m", "benchmarks.slowclients", str(path)]
    found: dict[str, int] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def main() -> None:
    """Measure and print."""
    folder = fresh((ROOT / "serve").resolve())
    service = Service(folder, objects=64, large=16)
    servers = {"gateway": service.gateway(), "nginx": service.nginx(_free_port())}
    try:
        whole = rounds(servers, scripts(service, folder, 0))
        ranges = rounds(servers, scripts(service, folder, 64 * KIB))
        crowd = slow(service, servers["gateway"], folder)
        peak = servers["gateway"].peak_rss_mib()
    finally:
        for server in servers.values():
            server.end()
    figures = {
        "vs_nginx_throughput": _ratio(whole, "mib_per_s"),
        "vs_nginx_cpu_per_gib": _ratio(whole, "cpu_per_gib"),
        "range64k_vs_nginx": _ratio(ranges, "requests_per_s"),
        "slow_client_errors": crowd["errors"],
        "peak_rss_mib": peak,
        "gateway_mib_per_s": round(_median(whole["gateway"], "mib_per_s"), 1),
        "gateway_mb_per_cpu_s": round(GIB / 1e6 / _median(whole["gateway"], "cpu_per_gib"), 1),
        "errors": sum(one.errors for runs in (*whole.values(), *ranges.values()) for one in runs),
        "slow_tcp_memory_mib": crowd["tcp_memory_mib"],
    }
    runs = {"whole": whole, "ranges": ranges, "slow": crowd}
    report(figures, msgspec.json.format(msgspec.json.encode(runs)).decode())
    shutil.rmtree(folder, ignore_errors=True)


def _median(runs: list[Load], figure: str) -> float:
    return float(statistics.median(getattr(one, figure) for one in runs))


def _ratio(runs: dict[str, list[Load]], figure: str) -> float:
    return round(_median(runs["gateway"], figure) / _median(runs["nginx"], figure), 2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


if __name__ == "__main__":
    main()
