"""Orders that are answered with nothing say as JSON what they did."""

from pathlib import Path

ORDERS: list[tuple[list[str], str, object]] = [
    (["content", "remove", "7-Zip", "--from", "dp", "--yes"], "DELETE /api/v1/contents/7-Zip/distribution/dp",
     {"content": "7-Zip", "removed_from": "dp"}),
    (["point", "remove", "dp", "--yes"], "DELETE /api/v1/points/dp", {"removed": "dp"}),
    (["boundary", "remove", "Berlin", "--yes"], "DELETE /api/v1/boundary-groups/Berlin", {"removed": "Berlin"}),
    (["device", "remove", "pc", "--yes"], "DELETE /api/v1/devices/pc", {"removed": "pc"}),
    (["device", "withdraw", "code-1", "--yes"], "DELETE /api/v1/enrolment-codes/code-1", {"withdrawn": "code-1"}),
    (["collection", "join", "Laptops", "pc"], "PUT /api/v1/collections/Laptops/members/pc",
     {"collection": "Laptops", "device": "pc", "member": True}),
    (["collection", "leave", "Laptops", "pc"], "DELETE /api/v1/collections/Laptops/members/pc",
     {"collection": "Laptops", "device": "pc", "member": False}),
    (["collection", "remove", "Laptops", "--yes"], "DELETE /api/v1/collections/Laptops", {"removed": "Laptops"}),
    (["deploy", "remove", "dep-1", "--yes"], "DELETE /api/v1/deployments/dep-1", {"removed": "dep-1"}),
    (["settings", "remove", "kiosks", "--yes"], "DELETE /api/v1/client-settings/kiosks", {"removed": "kiosks"}),
    (["certificate", "remove", "mgmt", "--yes"], "DELETE /api/v1/management-certificates/mgmt", {"removed": "mgmt"}),
    (["alert", "subscription", "delete", "ops", "--yes"], "DELETE /api/v1/alert-subscriptions/ops",
     {"deleted": "ops"}),
    (["alert", "window", "delete", "patching", "--yes"], "DELETE /api/v1/maintenance-windows/patching",
     {"deleted": "patching"}),
    (["budget", "delete", "cloud-eu", "--yes"], "DELETE /api/v1/budgets/cloud-eu?of=cloud-point",
     {"of": "cloud-point", "deleted": "cloud-eu"}),
]  # fmt: skip


def test_what_is_removed_joined_and_left_is_told_as_json(logged_in, entrepot) -> None:
    for arguments, request, told in ORDERS:
        logged_in.replies[request] = None
        ran = entrepot(*arguments, "--json")
        assert ran.code == 0, ran.err
        assert ran.value == told
        assert logged_in.asked[-1][0] == request


def test_logging_out_tells_where(logged_in, entrepot) -> None:
    logged_in.replies["POST /api/v1/logout"] = None
    assert entrepot("logout", "--json").value == {"logged_out": logged_in.url}


def test_what_becomes_of_a_subscription_of_a_cloud_host_is_told_as_json(entrepot, tmp_path: Path) -> None:
    host = str(tmp_path / "host")
    assert entrepot("host", "init", "--home", host).code == 0
    made = entrepot("host", "subscription", "add", "contoso", "--home", host, "--json").value
    order = ("host", "subscription")
    assert entrepot(*order, "disable", "contoso", "--home", host, "--yes", "--json").value["state"] == "disabled"
    assert entrepot(*order, "enable", "contoso", "--home", host, "--json").value["state"] == "active"
    removed = entrepot(*order, "remove", "contoso", "--home", host, "--yes", "--json").value
    assert removed == {"removed": "contoso", "id": made["id"]}


def test_a_cleared_cache_tells_what_is_free_again(entrepot, tmp_path: Path) -> None:
    assert entrepot("client", "clear-cache", "--home", str(tmp_path), "--yes", "--json").value == {"freed": 0}
