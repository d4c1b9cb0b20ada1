"""Reports on downloads: written to disk first, sent when the management point takes them (R28)."""

import contextlib
from pathlib import Path
from typing import Final

from entrepot.client.folders import folder_errors
from entrepot.client.home import Home
from entrepot.client.managementpoint import ManagementPoint
from entrepot.client.sources import Used
from entrepot.core.encoding import from_json, to_json
from entrepot.core.errors import EntrepotError, Family, FormatError
from entrepot.durable.files import write_private
from entrepot.protocol.policy import DownloadReport, SourceBytes

MAX_QUEUED: Final = 1000
MAX_ONCE: Final = 50
_MAX_BYTES: Final = 256 * 1024
_FINAL: Final = (Family.USAGE, Family.NOT_FOUND, Family.CONFLICT, Family.REFUSED)


def source_bytes(used: tuple[Used, ...]) -> tuple[SourceBytes, ...]:
    """What a download used, as a report says it."""
    return tuple(
        SourceBytes(kind=one.kind, form=one.form, point=one.point, bytes=one.bytes, requests=one.requests)
        for one in used
    )


class ReportQueue:
    """Reports of one home that wait to be sent, oldest first; at most 1,000, then the oldest are dropped."""

    def __init__(self, home: Home) -> None:
        self._folder = home.reports

    def add(self, report: DownloadReport) -> None:
        """Keep a report until it is sent.

        Raises:
            StorageError: the disk refuses.
        """
        with folder_errors(str(self._folder)):
            write_private(self._folder / f"{report.finished:012d}-{report.id}.json", to_json(report))
            for path in self._waiting()[:-MAX_QUEUED]:
                path.unlink(missing_ok=True)

    def _waiting(self) -> list[Path]:
        return sorted(self._folder.glob("*.json"))

    def __len__(self) -> int:
        return len(self._waiting())

    async def send(self, site: ManagementPoint) -> int:
        """Send what waits; returns how many were taken. A site that does not answer is asked again another time."""
        sent = 0
        for path in self._waiting()[:MAX_ONCE]:
            try:
                report = _read(path)
            except OSError:
                continue  # it may be readable the next time: a scanner holds it, or the disk refuses
            if report is not None:
                try:
                    await site.report(report)
                except EntrepotError as error:
                    if error.family not in _FINAL:
                        break
                    # It was refused for good: keeping it would block those behind it.
                else:
                    sent += 1
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        return sent


def _read(path: Path) -> DownloadReport | None:
    """A report that waits; None when it is damaged for good."""
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES)
    try:
        return from_json(data, DownloadReport, "report")
    except FormatError:
        return None
