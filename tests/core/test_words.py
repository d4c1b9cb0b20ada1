"""Sizes, times, identifiers, secrets, errors."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core import errors
from entrepot.core.errors import BadInputError, EntrepotError, Family
from entrepot.core.ids import is_prefixed_id, object_id_from_hex, prefixed_id, service_name, site_code
from entrepot.core.secret import Secret
from entrepot.core.sizes import GB, KIB, MIB, format_size, parse_size
from entrepot.core.times import HOUR, hour_of, iso


class TestSizes:
    @pytest.mark.parametrize(
        ("count", "text"),
        [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_500_000, "1.5 MB"),
            (12_345_678_901, "12.3 GB"),
            (10**15, "1000.0 TB"),
        ],
    )
    def test_are_shown_in_decimal_units(self, count: int, text: str) -> None:
        assert format_size(count) == text

    @given(st.integers(0, 10**15))
    def test_never_show_a_thousand_of_a_unit(self, count: int) -> None:
        number, unit = format_size(count).split()
        assert float(number) < 1000 or unit == "TB"

    @pytest.mark.parametrize(
        ("text", "count"),
        [
            ("10 GB", 10 * GB),
            ("64KiB", 64 * KIB),
            ("1000", 1000),
            (" 1.5 mib ", 3 * MIB // 2),
            ("7b", 7),
            ("9007199254740993", 2**53 + 1),
        ],
    )
    def test_are_read(self, text: str, count: int) -> None:
        assert parse_size(text) == count

    @pytest.mark.parametrize("text", ["", "GB", "-1", "1 XB", "1,5 GB", "1e9", "0x10", "1 G B", "9" * 400, "\u0661 GB"])
    def test_other_texts_are_refused(self, text: str) -> None:
        with pytest.raises(BadInputError, match="is not a size"):
            parse_size(text)


class TestTimes:
    def test_hours_begin_on_the_hour(self) -> None:
        assert hour_of(2 * HOUR - 0.001) == HOUR
        assert hour_of(2 * HOUR) == 2 * HOUR

    def test_are_written_in_utc(self) -> None:
        assert iso(0) == "1970-01-01T00:00:00Z"
        assert iso(1_774_276_200.9) == "2026-03-23T14:30:00Z"

    def test_beyond_all_years_are_written_too(self) -> None:
        assert (iso(-(10**30)), iso(10**30)) == ("1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z")


class TestIds:
    @given(st.binary(min_size=32, max_size=32))
    def test_object_ids_read_back(self, raw: bytes) -> None:
        assert object_id_from_hex(raw.hex()) == raw

    @pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n", "../" + "0" * 61])
    def test_other_object_ids_are_refused(self, text: str) -> None:
        with pytest.raises(BadInputError):
            object_id_from_hex(text)

    def test_site_codes(self) -> None:
        assert site_code("PS1") == "PS1"
        for text in ("ps1", "PS", "PS12", "P 1", "PS1\n", "Ä01"):
            with pytest.raises(BadInputError, match="three capital letters"):
                site_code(text)

    def test_prefixed_ids(self) -> None:
        made = prefixed_id("dev", bytes(range(8)))
        assert made == "dev-0001020304050607"
        assert is_prefixed_id(made, "dev")
        for text in (
            "dev-",
            "pkg-0001020304050607",
            "dev-000102030405060",
            "DEV-0001020304050607",
            made + "\n",
            f"x{made}",
        ):
            assert not is_prefixed_id(text, "dev")

    def test_service_names_are_dns_labels(self) -> None:
        for text in ("a", "west-europe", "x" * 63, "0"):
            assert service_name(text) == text
        for text in ("", "-a", "a-", "A", "a.b", "x" * 64, "a_b", "a\n"):
            with pytest.raises(BadInputError, match="service name"):
                service_name(text)


class TestSecret:
    SECRET = Secret("hunter2")

    def test_never_prints(self) -> None:
        assert "hunter2" not in f"{self.SECRET} {self.SECRET!r} {[self.SECRET]}"
        assert str(self.SECRET) == "***"

    def test_is_revealed_on_request(self) -> None:
        assert self.SECRET.reveal() == b"hunter2"
        assert self.SECRET.reveal_text() == "hunter2"
        assert len(self.SECRET) == 7

    def test_is_not_compared_hashed_pickled_or_copied(self) -> None:
        with pytest.raises(TypeError, match="compare_digest"):
            bool(Secret("hunter2") == self.SECRET)
        with pytest.raises(TypeError):
            hash(self.SECRET)
        for use in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="pickled"):
                use(self.SECRET)


def all_errors(root: type[EntrepotError] = EntrepotError) -> list[type[EntrepotError]]:
    return [root, *(below for each in root.__subclasses__() for below in all_errors(each))]


class TestErrors:
    def test_each_has_a_code_of_its_own(self) -> None:
        own = [each for each in all_errors() if each.__module__ == errors.__name__]
        assert len(own) > 10
        assert len({each.code for each in own}) == len(own)

    def test_exit_codes_and_families_are_one_to_one(self) -> None:
        codes = [family.exit_code for family in Family]
        assert sorted(codes) == list(range(1, len(codes) + 1))
        assert all(400 <= family.status < 600 for family in Family)

    def test_each_is_documented(self) -> None:
        assert all(each.__doc__ for each in all_errors())

    def test_the_text_ends_with_the_next_step(self) -> None:
        assert str(EntrepotError("It broke.", next_step="Mend it.")) == "It broke. Mend it."
        assert str(EntrepotError("It broke.")) == "It broke."
