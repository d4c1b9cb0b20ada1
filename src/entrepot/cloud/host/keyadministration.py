"""What the host's administrator does about the host's own key (``entrepot host identity …``), while it runs or not."""

import contextlib
import time
from pathlib import Path
from typing import Final

import msgspec

from entrepot.cloud.host.database import HostDatabase
from entrepot.cloud.host.identity import HostKey, Rotation, Standing
from entrepot.cloud.host.settings import Folders, audit_log, load_settings
from entrepot.cloud.host.subscriptions import ACTIVE, Subscriptions
from entrepot.core.errors import BadInputError
from entrepot.core.times import DAY, Clock
from entrepot.protocol.removalapi import Removal, named

GRACE_DAYS: Final = 14
MOST_DAYS: Final = 365
_LOCAL: Final = "local"
_NONE: Final = "No next key is announced."


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A management certificate that is let in. ``knows``: since when its holder has kept the next pin; 0: not yet."""

    subscription: str
    certificate: str
    thumbprint: str
    knows: int

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.subscription}: {self.certificate} ({self.thumbprint[:16]})"


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """The host's key as it is now; pins in hexadecimal digits. ``next_pin`` empty: none is announced."""

    url: str
    pin: str
    next_pin: str = ""
    announced: int = 0
    due: int = 0
    holders: tuple[Holder, ...] = ()


class KeyAdministration:
    """Of one host's home.

    Raises:
        NotFoundError: the home was not set up.
    """

    def __init__(self, home: Path, *, clock: Clock = time.time) -> None:
        self._settings = load_settings(home)
        self._folders = Folders(home)
        self._key = HostKey(self._folders.tls)
        self._audit = audit_log(self._folders, self._settings, clock)
        self._clock = clock

    def show(self) -> KeyView:
        """The present pin, the next one, and who has kept that.

        Raises:
            StorageError: the disk refuses.
        """
        standing = self._key.standing()
        rotation = standing.rotation
        return KeyView(
            url=self._settings.url,
            pin=standing.pin,
            next_pin=rotation.pin if rotation else "",
            announced=rotation.announced if rotation else 0,
            due=rotation.due if rotation else 0,
            holders=self._holders(rotation),
        )

    def rotate(self, days: int) -> KeyView:
        """Make the next key and announce it; it is used after so many days.

        Raises:
            BadInputError: not 1 to 365 days.
            ConflictError: one is announced already.
        """
        if not 1 <= days <= MOST_DAYS:
            raise BadInputError(f"Sites are told of a next key 1 to {MOST_DAYS} days before it is used.")
        rotation = self._key.prepare(self._settings, grace=days * DAY, now=self._clock())
        self._audit.note("identity.announce", actor=_LOCAL, subject=rotation.pin, due=rotation.due)
        return self.show()

    def replace(self) -> KeyView:
        """Use a new key at once: the present one is known to somebody."""
        before = self._key.standing().pin
        return self._switched(before, self._key.replace(self._settings, now=self._clock()))

    def switch(self) -> KeyView:
        """Use the announced key at once.

        Raises:
            ConflictError: none is announced.
        """
        before, after = self._key.standing().pin, self._key.switch()
        assert after is not None, "without a time it is always done"
        return self._switched(before, after)

    def cancel(self) -> KeyView:
        """Take the announcement back.

        Raises:
            ConflictError: none is announced.
        """
        rotation = self._key.cancel()
        self._audit.note("identity.cancel", actor=_LOCAL, subject=rotation.pin)
        return self.show()

    def announcement(self) -> Removal:
        """Who would be told of a next key."""
        view = self.show()
        told = named("sites that are told of the next pin when they ask", (one.label for one in view.holders))
        refusal = "A next key is announced already." if view.next_pin else ""
        then = "Use it (entrepot host identity switch) or take it back (entrepot host identity cancel)." * bool(refusal)
        return Removal(
            what="key of the cloud host", id=view.pin, name=view.url, effects=(told,), refusal=refusal, next_step=then
        )

    def cancellation(self) -> Removal:
        """Who has kept the next pin, and would forget it."""
        view = self.show()
        return Removal(
            what="next key of the cloud host",
            id=view.next_pin,
            name=view.url,
            effects=(named("sites that forget it", (one.label for one in view.holders if one.knows)),),
            refusal="" if view.next_pin else _NONE,
        )

    def foresight(self, *, announced: bool) -> Removal:
        """What the end of the present key would do.

        Args:
            announced: the next one takes its place; else one that nobody knows.
        """
        view = self.show()
        known = [one for one in view.holders if announced and one.knows]
        others = [one for one in view.holders if one not in known]
        none = announced and not view.next_pin
        return Removal(
            what="key of the cloud host",
            id=view.pin,
            name=view.url,
            effects=(
                named("sites that must accept the new pin by hand", (one.label for one in others)),
                named("sites that know the next pin and go on", (one.label for one in known)),
            ),
            refusal=_NONE if none else "",
            next_step="Make one: entrepot host identity rotate" if none else "",
        )

    def _switched(self, before: str, after: Standing) -> KeyView:
        self._audit.note("identity.switch", actor=_LOCAL, subject=after.pin, before=before)
        return self.show()

    def _holders(self, rotation: Rotation | None) -> tuple[Holder, ...]:
        """Whoever may ask this host now."""
        now = self._clock()
        with contextlib.closing(HostDatabase(self._folders.database)) as database:
            subscriptions = Subscriptions(database)
            knowing = subscriptions.knowing(rotation.pin) if rotation else {}
            return tuple(
                Holder(
                    subscription=account.name,
                    certificate=one.name,
                    thumbprint=one.thumbprint,
                    knows=knowing.get((account.id, one.thumbprint), 0),
                )
                for account in subscriptions.all()
                for one in subscriptions.certificates(account.id)
                if account.state == ACTIVE and one.revoked is None and one.not_after > now
            )
