"""The contract of a holder, for every adapter: near, and behind a real TLS socket."""

import contextlib

import pytest

from entrepot.core.errors import (
    BadInputError,
    FormatError,
    IntegrityError,
    LimitedError,
    NotFoundError,
    RefusedError,
    StorageError,
)
from entrepot.core.ids import ObjectId
from entrepot.core.sizes import KIB, MIB
from entrepot.objects.hashing import object_id_of
from entrepot.objects.shelf import key_of
from entrepot.protocol.dataplane import DocumentPage, ObjectPage
from entrepot.rules.verdicts import Verdict
from entrepot.web.copies import copies_of, decode_verdicts, encode_verdicts
from entrepot.web.dataplane import HttpHolder, ShelfHolder, check_document_page, check_object_page
from entrepot.web.objects import ObjectPlane

NOBODY = ObjectId(bytes(32))


@pytest.fixture(params=["near", "far"])
async def holder(request, shelf, plane, served, http):
    if request.param == "near":
        yield ShelfHolder(shelf)
    else:
        async with contextlib.AsyncExitStack() as stack:
            url = await stack.enter_async_context(served(plane))

            async def token():
                return "site"

            yield HttpHolder(http, url + "/", token)


def of(size: int, letter: bytes = b"x"):
    data = letter * size
    return object_id_of(data), data


async def test_what_was_put_is_no_longer_missing(holder, shelf):
    (one, first), (two, _) = of(700 * KIB), of(5, b"y")
    assert await holder.missing([two, one, two]) == [two, one, two]
    counted = []
    await holder.put(one, len(first), lambda: [first[: MIB // 2], first[MIB // 2 :]], count=counted.append)
    assert await holder.missing([two, one, two]) == [two, two]
    assert sum(counted) == len(first)
    assert shelf.read_whole(one) == first


async def test_putting_twice_is_fine(holder, shelf):
    one, data = of(3 * MIB)
    for _ in range(2):
        await holder.put(one, len(data), lambda: [data])
    assert [size for _, size in shelf.page()] == [len(data)]


async def test_an_empty_object_can_be_put(holder, shelf):
    one, data = of(0)
    await holder.put(one, 0, list)
    assert shelf.read_whole(one) == data


async def test_wrong_bytes_are_refused_and_not_kept(holder, shelf):
    with pytest.raises(IntegrityError):
        await holder.put(NOBODY, 5, lambda: [b"wrong"])
    assert shelf.page() == []


@pytest.mark.parametrize("size", [4, 6])
async def test_a_wrong_size_is_noticed_by_the_sender(holder, shelf, size):
    one, data = of(5)
    with pytest.raises(BadInputError):
        await holder.put(one, size, lambda: [data])
    assert shelf.page() == []


async def test_a_source_that_cannot_be_read_is_not_blamed_on_the_network(holder, shelf):
    one, data = of(5)

    def pieces():
        yield data[:2]
        raise StorageError("The disk is gone.")

    with pytest.raises(StorageError):
        await holder.put(one, len(data), pieces)
    assert shelf.page() == []


async def test_more_ids_than_one_question_holds(holder):
    ids = [ObjectId(number.to_bytes(32, "big")) for number in range(5000)]
    assert await holder.missing(ids) == ids
    assert await holder.missing([]) == []


async def test_pages_cover_everything_in_order(holder):
    made = sorted(of(size)[0] for size in range(1, 8))
    for size in range(1, 8):
        one, data = of(size)
        await holder.put(one, len(data), lambda data=data: [data])
    seen, after = [], None
    while True:
        page = await holder.page(after, 3)
        seen += page.ids
        if not page.more:
            break
        after = ObjectId(bytes.fromhex(page.ids[-1]))
    assert seen == [object_id.hex() for object_id in made]


async def test_deleting_is_idempotent(holder):
    one, data = of(9)
    await holder.put(one, len(data), lambda: [data])
    for _ in range(2):
        await holder.delete(one)
    assert await holder.missing([one]) == [one]


async def test_documents_are_replaced_listed_and_removed(holder):
    one, data = of(9)
    await holder.put(one, len(data), lambda: [data])
    for key in ("tx/0001/i-1/00000000", "control", "tx/0001/i-1/00000001", "zz"):
        await holder.put_document(key, b"1")
    await holder.put_document("control", b"12")
    assert await holder.get_document("control") == b"12"
    page = await holder.list_documents()
    assert page.keys == ("control", "tx/0001/i-1/00000000", "tx/0001/i-1/00000001", "zz")
    assert page.sizes == (2, 1, 1, 1)
    first = await holder.list_documents("tx/", limit=1)
    rest = await holder.list_documents("tx/", after=first.keys[-1])
    assert (first.keys, first.more, rest.keys, rest.more) == (page.keys[1:2], True, page.keys[2:3], False)
    for _ in range(2):
        await holder.delete_document("control")
    with pytest.raises(NotFoundError):
        await holder.get_document("control")


@pytest.mark.parametrize(
    ("keys", "sizes"),
    [
        (("b",), (1,)),  # where the listing was already
        (("c", "a"), (1, 1)),
        (("c",), (-1,)),
        (("c",), ()),
        (("c", "d", "e"), (1, 1, 1)),
    ],
)
def test_a_page_that_leads_nowhere_or_cannot_be_is_refused(keys, sizes):
    """A holder that answers the same page again and again keeps nobody listing for ever."""
    with pytest.raises(FormatError):
        check_document_page(DocumentPage(keys=keys, sizes=sizes, more=True), "b", 2)
    ids = tuple(key.zfill(64) for key in keys)
    with pytest.raises(FormatError):
        check_object_page(ObjectPage(ids=ids, sizes=sizes, more=True), ObjectId(bytes(31) + b"\x0b"), 2)


async def test_a_document_larger_than_expected_is_refused(holder):
    await holder.put_document("tx/a", b"12345")
    with pytest.raises(LimitedError):
        await holder.get_document("tx/a", limit=4)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/control",
        "../control",
        "a/../b",
        "objects",
        "objects/00/00",
        "OBJECTS/x",
        ".staging/x",
        "a//b",
        "a\x00",
        "nul",
    ],
)
async def test_hostile_document_keys_are_refused(holder, key):
    with pytest.raises((BadInputError, NotFoundError)):
        await holder.put_document(key, b"x")


@pytest.mark.parametrize(
    "key", ["%2e%2e/control", "..%2fcontrol", "objects%2f00%2f00", "%2fetc%2fpasswd", "a%00b", ".staging/x"]
)
async def test_hostile_keys_on_the_wire_are_refused(plane, served, http, key, tmp_path):
    async with served(plane) as url:
        for method in ("GET", "PUT", "DELETE"):
            with pytest.raises((BadInputError, NotFoundError)):
                await http.request(method, f"{url}/documents/{key}", body=b"x", bearer="site")
    assert [path for path in tmp_path.rglob("*") if path.name in ("control", "passwd")] == []


class OddGuard:
    """Accepts documents of odd length only."""

    def __init__(self):
        self.told = []

    async def check(self, key, data):
        if len(data) % 2 == 0:
            raise RefusedError("Even.")

    async def changed(self, key):
        self.told.append(key)


async def test_a_guard_decides_before_a_document_is_stored(shelf, keyring, served, http):
    guard = OddGuard()
    plane = ObjectPlane(shelf, keyring, guard=guard)
    async with served(plane) as url:
        holder = HttpHolder(http, url, lambda: "site")
        await holder.put_document("a", b"1")
        with pytest.raises(RefusedError):
            await holder.put_document("a", b"22")
        assert await holder.get_document("a") == b"1"
        await holder.delete_document("a")
    assert guard.told == ["a", "a"]
    plane.close()


async def test_a_holder_reads_its_objects_again_and_says_what_it_finds(holder, shelf):
    (good, data), (broken, other), (lost, _) = of(300 * KIB), of(9, b"y"), of(7, b"z")
    for object_id, stored in ((good, data), (broken, other)):
        await holder.put(object_id, len(stored), lambda stored=stored: [stored])
    shelf.store.put(key_of(broken), b"not that")
    assert await holder.verify([lost, broken, good]) == [Verdict.MISSING, Verdict.DAMAGED, Verdict.GOOD]


async def test_what_is_damaged_is_replaced_when_it_is_sent_again(holder, shelf):
    one, data = of(300 * KIB)
    await holder.put(one, len(data), lambda: [data])
    shelf.store.put(key_of(one), data[:-1] + b"!")
    await holder.put(one, len(data), lambda: [data])
    assert await holder.verify([one]) == [Verdict.GOOD]
    assert shelf.read_whole(one) == data


async def test_a_copy_is_whole_or_an_error(holder, shelf):
    one, data = of(300 * KIB)
    await holder.put(one, len(data), lambda: [data])
    assert await holder.get(one) == data
    with pytest.raises(NotFoundError):
        await holder.get(NOBODY)
    shelf.store.put(key_of(one), data[:-1] + b"!")
    with pytest.raises(IntegrityError):
        await holder.get(one)


def test_an_answer_about_damage_is_checked():
    assert decode_verdicts(encode_verdicts([*Verdict]), 3) == [*Verdict]
    for wrong in (b"", b"\0\0", b"\3", b"\xff"):
        with pytest.raises(FormatError):
            decode_verdicts(wrong, 1)


def test_both_holders_can_be_looked_at(shelf, http):
    for holder in (ShelfHolder(shelf), HttpHolder(http, "https://x", lambda: None)):
        assert copies_of(holder) is holder
    with pytest.raises(RefusedError):
        copies_of(object())
