"""One gateway instance against nginx with one worker: the same objects over TLS 1.3, the same load generator (wrk).

The gateway checks a token and records a transaction for every request; nginx serves static files without any check.
Each has one processor to itself, the generator another. They run in turn, in rounds whose order alternates; the ratios
are medians over rounds, so that what else the machine does meanwhile touches both alike. Then 1,000 slow clients at
once on 4 MiB objects, gateway only. It takes about three minutes.

Keys: vs_nginx_throughput (above 1 is faster), vs_nginx_cpu_per_gib (below 1 is cheaper), range64k_vs_nginx (requests a
second of 64 KiB ranges), slow_client_errors, peak_rss_mib (of the gateway, slow clients included).
"""

import json
import os
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
from pathlib import Path

import msgspec

from benchmarks.corpus import ROOT
from benchmarks.gateway import FQDN, Server, Service, client_path, static_path
from benchmarks.generator import Load, load, write_script
from benchmarks.measuring import fresh, report
from entrepot.core.sizes import GIB, KIB, MIB

ROUNDS = 7
SECONDS = 4
WARM_SECONDS = 1
DEVICES = 64
SLOW_CLIENTS = 1000
SLOW_BYTES_PER_SECOND = 64 * KIB
Runs = dict[str, list[Load]]


def scripts(service: Service, folder: Path, range_bytes: int) -> dict[str, Path]:
    """One for each contender."""
    tokens = [service.token(number) for number in range(DEVICES)]
    ours = [client_path(one) for one in service.objects]
    theirs = [static_path(one) for one in service.objects]
    return {
        "gateway": write_script(folder / f"gateway-{range_bytes}.lua", ours, tokens, range_bytes),
        "nginx": write_script(folder / f"nginx-{range_bytes}.lua", theirs, [], range_bytes),
    }


def rounds(servers: dict[str, Server], scripts: dict[str, Path], pin: list[str]) -> Runs:
    """All contenders in turn, several times, after each had a moment to warm up."""
    found: Runs = {name: [] for name in servers}
    for name, server in servers.items():
        load(server, scripts[name], WARM_SECONDS, pin)
    for number in range(ROUNDS):
        for name in sorted(servers, reverse=number % 2 == 1):
            found[name].append(load(servers[name], scripts[name], SECONDS, pin))
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
    served_on, generated_on = _processors()
    service = Service(folder, objects=64, large=16, pin=served_on)
    servers = {"gateway": service.gateway(), "nginx": service.nginx(_free_port())}
    try:
        ciphers = {name: _cipher(service, server) for name, server in servers.items()}
        whole = rounds(servers, scripts(service, folder, 0), generated_on)
        ranges = rounds(servers, scripts(service, folder, 64 * KIB), generated_on)
        crowd = slow(service, servers["gateway"], folder)
        peak = servers["gateway"].peak_rss_mib()
    finally:
        for server in servers.values():
            server.end()
    everything = [one for runs in (*whole.values(), *ranges.values()) for one in runs]
    figures = {
        "vs_nginx_throughput": _ratio(whole, "mib_per_s"),
        "vs_nginx_cpu_per_gib": _ratio(whole, "cpu_per_gib"),
        "range64k_vs_nginx": _ratio(ranges, "requests_per_s"),
        "slow_client_errors": crowd["errors"],
        "peak_rss_mib": peak,
        "range64k_vs_nginx_cpu": _ratio(ranges, "cpu_per_request"),
        "gateway_mb_per_s": round(_median(whole["gateway"], "mib_per_s") * MIB / 1e6, 1),
        "gateway_mb_per_cpu_s": round(GIB / 1e6 / _median(whole["gateway"], "cpu_per_gib"), 1),
        "errors": sum(one.errors for one in everything),
        "slow_clients_at_once": crowd["at_once"],
        "slow_tcp_memory_mib": crowd["tcp_memory_mib"],
        "ciphers": ciphers,
        "one_processor_each": bool(served_on),
        "busy_with_other_work": round(statistics.median(one.others for one in everything), 2),
    }
    details = {"whole": _summary(whole), "ranges": _summary(ranges), "slow": crowd}
    report(figures, msgspec.json.format(msgspec.json.encode(details)).decode())
    shutil.rmtree(folder, ignore_errors=True)


def _ratios(runs: Runs, figure: str) -> list[float]:
    return [getattr(ours, figure) / getattr(theirs, figure) for ours, theirs in zip(*_pair(runs), strict=True)]


def _pair(runs: Runs) -> tuple[list[Load], list[Load]]:
    return runs["gateway"], runs["nginx"]


def _ratio(runs: Runs, figure: str) -> float:
    return round(statistics.median(_ratios(runs, figure)), 2)


def _median(runs: list[Load], figure: str) -> float:
    return float(statistics.median(getattr(one, figure) for one in runs))


def _summary(runs: Runs) -> dict[str, object]:
    """For readers: medians of each contender, and the ratios of all rounds, lowest first."""
    figures = ("mib_per_s", "requests_per_s", "cpu_per_gib", "cpu_per_request")
    ratios = {figure: sorted(round(each, 2) for each in _ratios(runs, figure)) for figure in figures}
    medians = {name: {figure: round(_median(runs[name], figure), 2) for figure in figures} for name in runs}
    return {"ratios": ratios, "medians": medians, "runs": runs}


def _processors() -> tuple[list[str], list[str]]:
    """What to put before the servers' commands and the generator's; nothing where there is one processor only."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2 or shutil.which("taskset") is None:
        return [], []
    return ["taskset", "-c", str(usable[0])], ["taskset", "-c", str(usable[1])]


def _cipher(service: Service, server: Server) -> str:
    """What OpenSSL, which the generator uses, too, agrees on with this server."""
    context = ssl.create_default_context(cadata=service.ca)
    with (
        socket.create_connection(("127.0.0.1", server.port)) as raw,
        context.wrap_socket(raw, server_hostname=FQDN) as secured,
    ):
        chosen = secured.cipher()
        return f"{secured.version()} {chosen[0] if chosen else ''}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


if __name__ == "__main__":
    main()
