"""The load generator (wrk): one run against one server, and what the server and everybody else spent meanwhile."""

import os
import resource
import subprocess
from pathlib import Path

import msgspec

from benchmarks.gateway import FQDN, Server
from entrepot.core.sizes import GIB, MIB

CONNECTIONS = 16
RANGES = 16
"""So many ranges of each object are asked for."""
# Requests are made before the run, so that the generator spends little on each: all objects in turn, then the next
# range of all; each request as another device than the one before.
LUA = """
local paths = {{{paths}}}
local tokens = {{{tokens}}}
local range = {range}
local requests, at = {{}}, 0
init = function()
  for number = 0, #paths * (range > 0 and {ranges} or 1) - 1 do
    local headers = {{["Host"] = "{fqdn}"}}
    if #tokens > 0 then headers["Authorization"] = "Bearer " .. tokens[number * 7 % #tokens + 1] end
    if range > 0 then
      local first = math.floor(number / #paths) * range
      headers["Range"] = "bytes=" .. first .. "-" .. (first + range - 1)
    end
    requests[number + 1] = wrk.format("GET", paths[number % #paths + 1], headers)
  end
end
request = function()
  at = at % #requests + 1
  return requests[at]
end
done = function(summary)
  local bad = summary.errors
  io.write(string.format('\\nJSON {{"requests":%d,"bytes":%d,"microseconds":%d,"errors":%d}}\\n', summary.requests,
    summary.bytes, summary.duration, bad.connect + bad.read + bad.write + bad.status + bad.timeout))
end
"""


class Load(msgspec.Struct, frozen=True):
    """One run: what the generator saw.

    ``cpu``: processor seconds that the server spent; ``others``: processors that were busy with neither of the two.
    """

    requests: int
    bytes: int
    microseconds: int
    errors: int
    cpu: float = 0.0
    others: float = 0.0

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

    @property
    def cpu_per_request(self) -> float:
        """Processor microseconds of the server for a request."""
        return self.cpu * 1e6 / self.requests


def load(server: Server, script: Path, seconds: int, pin: list[str]) -> Load:
    """Run the generator against a server.

    Args:
        pin: what to put before the command, so that it stays on its processor.
    """
    busy, own, spent = _busy_seconds(), server.cpu_seconds(), _children()
    command = [*pin, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script)]
    command.append(f"https://127.0.0.1:{server.port}")
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = msgspec.json.decode(output.rpartition("JSON ")[2], type=Load)
    cpu = server.cpu_seconds() - own
    others = _busy_seconds() - busy - cpu - (_children() - spent)
    return msgspec.structs.replace(found, cpu=cpu, others=round(max(0.0, others) / (found.microseconds / 1e6), 2))


def write_script(path: Path, paths: list[str], tokens: list[str], range_bytes: int) -> Path:
    """Write the generator's script: tokens belong into no command line."""
    path.touch(0o600)
    path.write_text(
        LUA.format(paths=_quoted(paths), tokens=_quoted(tokens), range=range_bytes, ranges=RANGES, fqdn=FQDN)
    )
    return path


def _quoted(texts: list[str]) -> str:
    return ",".join(f'"{one}"' for one in texts)


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _busy_seconds() -> float:
    """Seconds that all processors together were busy since the start of the machine."""
    fields = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")
