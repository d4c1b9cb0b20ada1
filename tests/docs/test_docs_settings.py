"""docs/settings.md knows every setting of every role, with its default."""

from typing import Any

import msgspec
import pytest

_API = ("entrepot.protocol.siteapi", "entrepot.protocol.deviceapi")
"""Requests and replies of the API are in its OpenAPI document, whatever they are called."""


def settings_classes(modules) -> dict[str, Any]:
    """Structs that hold settings, by qualified name: those whose names say so."""
    found = {}
    for module in modules:
        for name, value in vars(module).items():
            struct = isinstance(value, type) and issubclass(value, msgspec.Struct)
            own = struct and value.__module__ == module.__name__ and module.__name__ not in _API
            if own and name.endswith(("Settings", "Config")):
                found[f"{module.__name__}.{name}"] = value
    return found


@pytest.fixture(scope="module")
def documented(repository, sections):
    """Sections of the page, by the class that each documents."""
    page = (repository / "docs" / "settings.md").read_text("utf-8")
    found = {}
    for heading, text in sections(page).items():
        named = [word.strip("`.,") for word in text.split() if word.startswith("`entrepot.")]
        if named:
            found[named[0]] = (heading, text)
    return found


def shown(field: Any) -> str:
    """A default as the page writes it."""
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    elif field.default is msgspec.NODEFAULT:
        return "required"
    else:
        value = field.default
    match value:
        case bool():
            return "`true`" if value else "`false`"
        case int():
            return f"`{value}`"
        case str() | float():
            return f"`{msgspec.json.encode(value).decode()}`"
        case msgspec.Struct():
            return "defaults"
        case _:
            assert not value, f"show {field.name} in the page, and teach this test how"
            return "empty"


def test_the_roles_settings_are_found(modules):
    assert {name.split(".")[1] for name in settings_classes(modules)} >= {"site", "cloud", "point", "client"}


def test_every_class_of_settings_has_a_section_and_every_section_a_class(modules, documented):
    assert sorted(documented) == sorted(settings_classes(modules))


def test_every_setting_is_documented_with_its_default_and_no_other(modules, documented, table_rows):
    for name, kind in settings_classes(modules).items():
        heading, text = documented[name]
        rows = {row[0].strip("`"): row for row in table_rows(text) if len(row) == 3}
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        assert sorted(rows) == sorted(fields), heading
        for key, (_, default, meaning) in rows.items():
            assert default == shown(fields[key]), f"{heading}: {key}"
            assert len(meaning) > 10, f"{heading}: {key}"
