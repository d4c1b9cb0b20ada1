"""Who may use the admin API: passwords, sessions, and a limit on guessing.

A session's token is 256 random bits; the database has its SHA-256 only. Passwords are argon2id; verifying takes 64 MiB,
so at most two are verified at a time. Guessing is slowed by name and address together, and by address alone; an IPv6
customer, who has a whole network of addresses, counts as one.
"""

import asyncio
import base64
import hashlib
import secrets
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import ARGON2_VERSION
from sqlalchemy import Connection

from entrepot.core.errors import LimitedError, UnauthenticatedError
from entrepot.core.names import name_key
from entrepot.core.secret import Secret
from entrepot.core.times import HOUR, MINUTE, Clock
from entrepot.database import administrators
from entrepot.database.administrators import Administrator
from entrepot.database.engine import Database
from entrepot.protocol.siteapi import Session
from entrepot.web.addresses import network_of

WINDOW: Final = 15 * MINUTE
MAX_FAILURES: Final = 5
MAX_FAILURES_OF_ADDRESS: Final = 50


class GuessingError(LimitedError):
    """Too many logins have failed."""

    code = "too_many_failures"
    retry_after = int(WINDOW)


class Sessions:
    """Logs administrators in and out.

    Args:
        hours: how long a session lasts.
    """

    def __init__(self, database: Database, *, clock: Clock, hours: int) -> None:
        self._database = database
        self._clock = clock
        self._lifetime = hours * HOUR
        self._hasher = PasswordHasher()
        self._decoy = _decoy(self._hasher)  # so that unknown names take as long as known ones
        self._verifying = asyncio.Semaphore(2)

    async def login(self, name: str, password: Secret, *, address: str) -> Session:
        """Begin a session.

        Raises:
            UnauthenticatedError: name or password is wrong; which of the two is not said.
            GuessingError: too many failures.
        """
        now = self._clock()
        network = network_of(address)
        keys = {f"{name_key(name)}@{network}": MAX_FAILURES, f"@{network}": MAX_FAILURES_OF_ADDRESS}
        administrator = await self._database.read(administrators.by_name, name)
        async with self._verifying:  # the limit is looked at in here, or a burst would pass it together
            await self._database.read(_refuse_guessing, keys, now)
            matches = await asyncio.to_thread(self._matches, administrator, password)
            if administrator is None or not matches:
                await self._database.write(_count_failure, list(keys), now)
                raise UnauthenticatedError("Name or password is wrong.")
        token = secrets.token_urlsafe(32)
        expires = now + self._lifetime
        await self._database.write(_open, administrator, _hash(token), now, expires, next(iter(keys)))
        return Session(token=token, name=administrator.name, expires=int(expires))

    async def check(self, token: str) -> Administrator:
        """Whose session a token is.

        Raises:
            UnauthenticatedError: unknown, ended, or the administrator was disabled.
        """
        owner = await self._database.read(administrators.session_owner, _hash(token), now=self._clock())
        if owner is None:
            raise UnauthenticatedError("The session has ended.", next_step="Log in again.")
        return owner

    async def logout(self, token: str) -> None:
        """End a session; harmless when it has ended."""
        await self._database.write(administrators.close_session, _hash(token))

    def _matches(self, administrator: Administrator | None, password: Secret) -> bool:
        stored = self._decoy if administrator is None else administrator.password_hash
        try:
            return self._hasher.verify(stored, password.reveal())
        except (VerificationError, InvalidHashError):
            return False


def _decoy(hasher: PasswordHasher) -> str:
    """What no password opens: it costs as much to verify as a real one, and nothing to make."""
    parameters = f"m={hasher.memory_cost},t={hasher.time_cost},p={hasher.parallelism}"
    salt, digest = (base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
    return f"$argon2id$v={ARGON2_VERSION}${parameters}${salt}${digest}"


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _refuse_guessing(connection: Connection, keys: dict[str, int], now: float) -> None:
    for key, limit in keys.items():
        if administrators.failure_count(connection, key, now=now, window=WINDOW) >= limit:
            raise GuessingError("Too many logins have failed.", next_step="Wait a quarter of an hour, then try again.")


def _count_failure(connection: Connection, keys: list[str], now: float) -> None:
    for key in keys:
        administrators.count_failure(connection, key, now=now, window=WINDOW)


def _open(
    connection: Connection, administrator: Administrator, token_hash: bytes, now: float, expires: float, key: str
) -> None:
    administrators.forget_failures(connection, key)
    administrators.open_session(
        connection, administrator=administrator.id, token_hash=token_hash, now=now, expires=expires
    )
