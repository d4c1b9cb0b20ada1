"""The words of a message, in the subscriber's language, as text and as HTML.

``languages/<language>.json`` is the catalogue of a language: titles, remedies and single words by their English text,
sentences with figures by their ids (``rules.sentences``, where they stand in English). What is missing stays English,
and what somebody else said, such as a cloud's own error, is quoted in his words.
"""

import functools
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

import jinja2
import msgspec

from entrepot.core.times import iso
from entrepot.protocol.alertapi import AlertMessage, Language
from entrepot.rules.alerts import ALERT_TYPES
from entrepot.rules.sentences import Said, in_words

_SUBJECT: Final = (
    "{% if events|length == 1 %}[{{ t(events[0].severity) }}] {{ events[0].subject_name }}: {{ t(events[0].title) }}"
    " ({{ t(events[0].event) }})"
    "{% else %}[Entrepôt {{ site }}] {{ t('%d messages')|format(events|length) }}{% endif %}"
)
_TEXT: Final = """\
{% for e in events %}{{ t(e.severity)|upper }}: {{ t(e.title) }} ({{ t(e.event) }})
{{ t('About') }}: {{ e.subject_name }}
{{ t('At') }}: {{ iso(e.at) }}
{% if e.message %}{{ e.message }}
{% endif %}{% if e.event != 'closed' and e.remedies %}
{{ t('What one can do') }}:
{% for r in e.remedies %}- {{ t(r) }}
{% endfor %}{% endif %}
{% endfor %}
Entrepôt, {{ t('site') }} {{ site }}. {{ t('You receive this by the subscription') }} "{{ subscription }}".
"""
_HTML: Final = """\
<!doctype html><html lang="{{ language }}"><head><meta charset="utf-8"><title>{{ subject }}</title></head>
<body style="font-family:sans-serif;color:#222;max-width:40em">
{% for e in events %}<h2 style="font-size:1.1em;border-left:.4em solid {{ colours[e.severity] }};padding-left:.5em">
{{ t(e.title) }} <small>({{ t(e.event) }})</small></h2>
<table><tr><th align="left">{{ t('Severity') }}</th><td>{{ t(e.severity) }}</td></tr>
<tr><th align="left">{{ t('About') }}</th><td>{{ e.subject_name }}</td></tr>
<tr><th align="left">{{ t('At') }}</th><td>{{ iso(e.at) }}</td></tr></table>
{% if e.message %}<p>{{ e.message }}</p>{% endif %}
{% if e.event != 'closed' and e.remedies %}<p>{{ t('What one can do') }}:</p><ul>
{% for r in e.remedies %}<li>{{ t(r) }}</li>{% endfor %}</ul>{% endif %}
{% endfor %}<hr><p><small>Entrepôt, {{ t('site') }} {{ site }}.
{{ t('You receive this by the subscription') }} “{{ subscription }}”.</small></p></body></html>
"""
_COLOURS: Final = {"critical": "#b00020", "warning": "#c77700", "informational": "#00639b"}
TEST: Final = "This is a test: alerts will reach you this way."


class Rendered(msgspec.Struct, frozen=True, kw_only=True):
    """A message, ready to send."""

    language: str
    subject: str
    text: str
    html: str


def catalogue(language: Language) -> dict[str, str]:
    """Translations from English; empty for English itself."""
    return _catalogue(language.value)


@functools.cache
def _catalogue(language: str) -> dict[str, str]:
    if language == Language.ENGLISH.value:
        return {}
    text = (files(__package__) / "languages" / f"{language}.json").read_text("utf-8")
    found: dict[str, str] = json.loads(text)
    return found


def described(message: AlertMessage) -> AlertMessage:
    """The message with title and remedies of its type, as they are now."""
    kind = ALERT_TYPES.get(message.type)
    if kind is None:
        return message
    return msgspec.structs.replace(message, title=kind.title, remedies=kind.remedies)


def translated(message: AlertMessage, language: Language) -> AlertMessage:
    """The message with title and remedies in a language."""
    words, whole = catalogue(language), described(message)
    return msgspec.structs.replace(
        whole,
        title=words.get(whole.title, whole.title),
        remedies=tuple(words.get(remedy, remedy) for remedy in whole.remedies),
    )


def worded(message: AlertMessage, said: Sequence[Said], language: Language) -> AlertMessage:
    """The message with its sentences in a language; one of an earlier version has its words already."""
    return msgspec.structs.replace(message, message=in_words(said, catalogue(language))) if said else message


def render(events: Sequence[AlertMessage], *, language: Language, site: str, subscription: str) -> Rendered:
    """Subject, text and HTML of one message about these events."""
    words = catalogue(language)
    facts = {
        "events": [msgspec.to_builtins(described(event)) for event in events],
        "site": site,
        "subscription": subscription,
        "language": language.value,
        "t": lambda text: words.get(text, text),
        "iso": iso,
        "colours": _COLOURS,
    }
    plain = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)  # noqa: S701  # text, not HTML
    safe = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    subject = " ".join(plain.from_string(_SUBJECT).render(facts).split())[:250]
    return Rendered(
        language=language.value,
        subject=subject,
        text=plain.from_string(_TEXT).render(facts),
        html=safe.from_string(_HTML).render(facts, subject=subject),
    )
