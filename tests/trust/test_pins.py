"""What a participant remembers: no root but the pinned one, nothing older than what it has seen."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.core.errors import FormatError, ReplayError, TrustError
from entrepot.protocol import Freshness, SignedType
from entrepot.protocol.trust import KeyEntry, Role
from entrepot.trust.authority import create_authority
from entrepot.trust.pins import FreshnessLog, TrustStore
from entrepot.trust.root import RootKey
from entrepot.trust.signing import kid_of, sign

NOW = 1_000_000


def fresh(counter, *, epoch=0, expires=NOW + 100):
    return Freshness(epoch=epoch, counter=counter, issued=NOW, expires=expires)


@pytest.fixture
def store(hierarchy, tmp_path):
    return TrustStore(tmp_path / "trust.json", fingerprint=hierarchy.root.fingerprint)


def test_a_store_keeps_root_and_document_over_a_restart(hierarchy, store, tmp_path):
    signed = hierarchy.root.sign_trust(hierarchy.document(3))
    assert store.accept(signed)
    again = TrustStore(tmp_path / "trust.json")
    assert again.document == hierarchy.document(3)
    assert again.jws == signed
    assert again.fingerprint == hierarchy.root.fingerprint
    document = sign(b"{}", typ=SignedType.POLICY, key=hierarchy.keys[Role.POLICY])
    assert again.ring.verify(document, typ=SignedType.POLICY, role=Role.POLICY, now=hierarchy.now).site == "PS1"


def test_the_held_document_is_accepted_again_and_changes_nothing(hierarchy, store):
    signed = hierarchy.root.sign_trust(hierarchy.document(3))
    assert store.accept(signed)
    assert not store.accept(signed)


def test_an_older_document_is_refused_also_after_a_restart(hierarchy, store, tmp_path):
    store.accept(hierarchy.root.sign_trust(hierarchy.document(3)))
    for holder in (store, TrustStore(tmp_path / "trust.json")):
        with pytest.raises(ReplayError, match="number 2 is older than number 3"):
            holder.accept(hierarchy.root.sign_trust(hierarchy.document(2)))
        assert holder.document.number == 3


def test_a_lower_epoch_is_refused_whatever_the_number(hierarchy, store):
    store.accept(hierarchy.root.sign_trust(hierarchy.document(3, epoch=2)))
    with pytest.raises(ReplayError):
        store.accept(hierarchy.root.sign_trust(hierarchy.document(4, epoch=1)))


def test_two_documents_with_one_number_are_refused(hierarchy, store):
    store.accept(hierarchy.root.sign_trust(hierarchy.document(3)))
    with pytest.raises(TrustError, match="two different trust documents"):
        store.accept(hierarchy.root.sign_trust(hierarchy.document(3, issued=5)))


def test_another_root_is_refused(hierarchy, store, tmp_path):
    with pytest.raises(TrustError, match="another root"):
        store.accept(RootKey.generate().sign_trust(hierarchy.document()))
    with pytest.raises(TrustError, match="No trust document"):
        _ = store.ring
    store.accept(hierarchy.root.sign_trust(hierarchy.document()))
    with pytest.raises(TrustError, match="another hierarchy root"):
        TrustStore(tmp_path / "trust.json", fingerprint=bytes(32))


def test_another_hierarchys_name_is_refused(hierarchy, store):
    store.accept(hierarchy.root.sign_trust(hierarchy.document(1)))
    with pytest.raises(TrustError, match="another hierarchy"):
        store.accept(hierarchy.root.sign_trust(hierarchy.document(2, hierarchy="Fabrikam")))


def test_nothing_is_trusted_before_something_is_pinned(tmp_path):
    with pytest.raises(TrustError, match="No hierarchy root"):
        TrustStore(tmp_path / "trust.json")


def test_a_file_changed_by_hand_is_noticed(hierarchy, store, tmp_path):
    store.accept(hierarchy.root.sign_trust(hierarchy.document(3)))
    path = tmp_path / "trust.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(FormatError, match="damaged"):
        TrustStore(path)
    stranger = RootKey.generate().sign_trust(hierarchy.document(9))
    path.write_bytes(whole.replace(store.jws.encode(), stranger.encode()))
    with pytest.raises(TrustError):
        TrustStore(path)


def test_issuers_are_given_as_pem_only_while_they_are_valid(hierarchy, store):
    first = create_authority("Contoso", 10, now=hierarchy.now)
    second = create_authority("Contoso", 1000, now=hierarchy.now)
    keys = (*hierarchy.document().keys, first.key_entry("PS1"), second.key_entry("PS1"))
    store.accept(hierarchy.root.sign_trust(hierarchy.document(keys=keys)))
    assert store.ca_certificates() == first.pem() + second.pem()
    assert store.ca_certificates(now=hierarchy.now + 20 * 86_400) == second.pem()


def test_an_issuer_that_is_no_certificate_is_named(hierarchy, store):
    bad = KeyEntry(kid=kid_of(b"junk"), role=Role.CA, site="PS1", public=b"junk", not_before=0, not_after=1)
    store.accept(hierarchy.root.sign_trust(hierarchy.document(keys=(bad,))))
    with pytest.raises(FormatError, match=r"not an X\.509 certificate"):
        store.ca_certificates()


@pytest.fixture
def freshness(tmp_path):
    return FreshnessLog(tmp_path / "fresh.json")


def test_higher_counters_and_epochs_are_taken_lower_ones_refused(freshness, tmp_path):
    freshness.accept("control", fresh(5), now=NOW)
    freshness.accept("control", fresh(6), now=NOW)
    freshness.accept("control", fresh(1, epoch=1), now=NOW)
    for log in (freshness, FreshnessLog(tmp_path / "fresh.json")):
        assert log.highest("control") == (1, 1)
        for old in (fresh(0, epoch=1), fresh(99, epoch=0)):
            with pytest.raises(ReplayError, match="older"):
                log.accept("control", old, now=NOW)


def test_subjects_do_not_disturb_each_other(freshness):
    freshness.accept("a", fresh(5), now=NOW)
    freshness.accept("b", fresh(1), now=NOW)
    assert (freshness.highest("a"), freshness.highest("b"), freshness.highest("c")) == ((0, 5), (0, 1), None)


def test_the_same_document_is_taken_again_another_one_of_that_counter_not(freshness):
    freshness.accept("control", fresh(5), now=NOW, document="one")
    freshness.accept("control", fresh(5), now=NOW, document=b"one")
    with pytest.raises(ReplayError, match="two different documents"):
        freshness.accept("control", fresh(5), now=NOW, document="two")
    freshness.accept("control", fresh(6), now=NOW, document="two")


def test_answers_that_echo_a_nonce_may_share_a_counter(freshness):
    freshness.accept("location:pkg-1", fresh(5), now=NOW)
    freshness.accept("location:pkg-1", fresh(5), now=NOW)
    assert freshness.highest("location:pkg-1") == (0, 5)


def test_an_expired_document_is_refused_and_not_remembered(freshness):
    with pytest.raises(ReplayError, match="expired at"):
        freshness.accept("control", fresh(5, expires=NOW), now=NOW)
    with pytest.raises(ReplayError, match="expired at"):
        freshness.accept("control", fresh(5, expires=-(10**15)), now=NOW)
    assert freshness.highest("control") is None


def test_an_epoch_that_has_ended_is_refused(freshness):
    with pytest.raises(ReplayError):
        freshness.accept("control", fresh(5, epoch=1), now=NOW, minimum_epoch=2)
    freshness.accept("control", fresh(5, epoch=2), now=NOW, minimum_epoch=2)


def test_a_known_document_is_not_written_again(freshness, tmp_path):
    freshness.accept("control", fresh(5), now=NOW, document="one")
    path = tmp_path / "fresh.json"
    before = path.stat().st_ino
    freshness.accept("control", fresh(5), now=NOW, document="one")
    assert path.stat().st_ino == before


def test_what_could_not_be_written_is_not_taken(tmp_path, hierarchy):
    log = FreshnessLog(tmp_path / "missing" / "fresh.json")
    with pytest.raises(OSError):
        log.accept("control", fresh(5), now=NOW)
    assert log.highest("control") is None


def test_a_damaged_log_is_refused(tmp_path):
    (tmp_path / "fresh.json").write_bytes(b'{"control": [1')
    with pytest.raises(FormatError, match="damaged"):
        FreshnessLog(tmp_path / "fresh.json")


def test_threads_that_race_leave_the_highest(freshness, tmp_path):
    refused = []

    def take(counter):
        try:
            freshness.accept("control", fresh(counter), now=NOW)
        except ReplayError:
            refused.append(counter)

    threads = [threading.Thread(target=take, args=(counter,)) for counter in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert freshness.highest("control") == (0, 19)
    assert 19 not in refused
    assert FreshnessLog(tmp_path / "fresh.json").highest("control") == (0, 19)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=12))
def test_what_is_accepted_never_falls(tmp_path_factory, offered):
    path = tmp_path_factory.mktemp("log") / "fresh.json"
    highest = None
    for epoch, counter in offered:
        log = FreshnessLog(path)
        if highest is not None and (epoch, counter) < highest:
            with pytest.raises(ReplayError):
                log.accept("x", fresh(counter, epoch=epoch), now=NOW)
        else:
            log.accept("x", fresh(counter, epoch=epoch), now=NOW)
            highest = (epoch, counter)
        assert FreshnessLog(path).highest("x") == highest


def test_a_document_in_bytes_and_text_is_kept_alike(hierarchy, store):
    signed = hierarchy.root.sign_trust(hierarchy.document())
    assert store.accept(signed.encode())
    assert store.jws == signed
