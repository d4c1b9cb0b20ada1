"""What a cloud point refuses (R14 to R20)."""

import pytest

from entrepot.core.errors import RefusedError
from entrepot.protocol.contentapi import ContentType
from entrepot.protocol.deviceapi import RunMode as WireRunMode
from entrepot.rules.restrictions import (
    REFUSALS,
    Feature,
    PointKind,
    RunMode,
    check_deployment,
    check_distribution,
    check_features,
    cloud_problem,
)


def test_every_refusal_says_why_and_what_to_do_instead():
    assert set(REFUSALS) == set(Feature)
    for refusal in REFUSALS.values():
        assert "cloud distribution point" in refusal.reason
        assert refusal.instead
    assert {refusal.requirement for refusal in REFUSALS.values()} == {f"R{number}" for number in range(14, 21)}


def test_r14_software_update_packages_are_refused_by_the_cloud_only():
    with pytest.raises(RefusedError, match="software update packages"):
        check_distribution(PointKind.CLOUD, ContentType.SOFTWARE_UPDATE_PACKAGE)
    check_distribution(PointKind.STANDARD, ContentType.SOFTWARE_UPDATE_PACKAGE)


def test_r14_every_other_type_is_welcome():
    for content_type in ContentType:
        if content_type is not ContentType.SOFTWARE_UPDATE_PACKAGE:
            check_distribution(PointKind.CLOUD, content_type)


def test_r19_prestaged_content_is_refused_by_the_cloud_only():
    with pytest.raises(RefusedError, match="prestaged"):
        check_distribution(PointKind.CLOUD, ContentType.PACKAGE, prestaged=True)
    check_distribution(PointKind.STANDARD, ContentType.PACKAGE, prestaged=True)


@pytest.mark.parametrize("feature", [Feature.PXE, Feature.MULTICAST, Feature.PULL, Feature.PRESTAGED])
def test_r15_r20_features_of_points_on_premises_are_refused_by_the_cloud(feature):
    with pytest.raises(RefusedError) as caught:
        check_features(PointKind.CLOUD, [feature])
    assert caught.value.message == REFUSALS[feature].reason
    assert caught.value.next_step == REFUSALS[feature].instead
    check_features(PointKind.STANDARD, [feature])


def test_a_cloud_point_without_special_features_is_fine():
    check_features(PointKind.CLOUD, [])


USES = [RunMode.ON_DEMAND, RunMode.RUN_FROM_POINT, RunMode.STREAM]


@pytest.mark.parametrize("run", USES)
def test_r16_r17_r18_a_deployment_that_only_the_cloud_could_serve_is_refused(run):
    with pytest.raises(RefusedError, match="on cloud distribution points only"):
        check_deployment(run, [PointKind.CLOUD, PointKind.CLOUD])


@pytest.mark.parametrize("run", USES)
def test_with_a_point_on_premises_it_is_a_warning(run):
    (warning,) = check_deployment(run, [PointKind.CLOUD, PointKind.STANDARD])
    assert "points on premises only" in warning
    assert check_deployment(run, [PointKind.STANDARD]) == ()
    assert check_deployment(run, []) == ()


def test_downloading_first_is_fine_everywhere():
    assert check_deployment(RunMode.DOWNLOAD, [PointKind.CLOUD]) == ()
    assert cloud_problem(RunMode.DOWNLOAD) == ""
    assert all(cloud_problem(run) for run in USES)


def test_the_words_are_those_of_the_protocol():
    assert [run.value for run in RunMode] == [run.value for run in WireRunMode]
