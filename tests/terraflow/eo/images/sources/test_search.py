from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import numpy as np
import planetary_computer.sas
import pystac
import pytest
import rasterio
import requests
from shapely.geometry import box, mapping
from shapely.geometry.base import BaseGeometry
from urllib3 import Retry

from area import Area, write_raster
from http_server import Fault, HttpServer
from terraflow.eo.config.addresses import checked_uri
from terraflow.eo.config.imagery import Data
from terraflow.eo.config.project_file import load_config
from terraflow.eo.images.sources import search
from terraflow.eo.images.sources.search import _absolute, find_items, read_catalogue
from terraflow.eo.images.sources.signing import sign
from terraflow.errors import ConfigError, DataError, StorageError
from terraflow.storage import Storage

HERE = box(15.0, 46.0, 15.1, 46.1)


def make_data(**changes: object) -> Data:
    return Data.model_validate({"bands": {"red": "B04"}} | changes)


def make_item(
    folder: Path, day: str, place: BaseGeometry = HERE, **properties: object
) -> pystac.Item:
    item = pystac.Item(
        day,
        mapping(place),
        list(place.bounds),
        datetime.fromisoformat(day).replace(tzinfo=UTC),
        {},
    )
    item.add_asset("B04", pystac.Asset(str(folder / f"{day}.tif")))
    return item


@pytest.fixture
def api(server: HttpServer) -> str:
    """A STAC API with six monthly items, the last far away, in pages of two."""
    items = [make_item(server.folder, f"2024-0{month}-10") for month in range(1, 6)]
    items.append(make_item(server.folder, "2024-03-20", box(100, 10, 101, 11)))
    server.serve_items([make_item(server.folder, "2024-03-01")], "another")
    return server.serve_items(items, "images")


def test_find_items_searches_an_api_by_collection_area_and_dates_over_pages(
    api: str, server: HttpServer, storage: Storage
) -> None:
    data = make_data(collection="images", start="2024-01-10", end="2024-04-10")
    items = find_items(data, api, storage, HERE)
    assert [item.id for item in items] == ["2024-01-10", "2024-02-10", "2024-03-10", "2024-04-10"]
    assert items[0].assets["B04"].href == f"{server.url}/2024-01-10.tif"
    assert server.requests.count(("POST", "/stac/search")) == 2


def test_find_items_of_an_api_without_dates_takes_all(api: str, storage: Storage) -> None:
    assert len(find_items(make_data(collection="images"), api, storage, HERE)) == 5


@pytest.mark.parametrize(
    ("name", "what"), [("", "is a STAC API"), ("imagse", "has no collection imagse")]
)
def test_find_items_of_an_api_without_its_collection_lists_them(
    name: str, what: str, api: str, storage: Storage
) -> None:
    wanted = rf"/stac {what}; set \[data\] collection to one of another, images\."
    with pytest.raises(DataError, match=wanted):
        find_items(make_data(collection=name), api, storage, HERE)


def test_find_items_of_an_api_without_an_area_is_refused(api: str, storage: Storage) -> None:
    with pytest.raises(DataError, match=r"not read as a whole; set \[data\] area"):
        find_items(make_data(collection="images"), api, storage, None)


def test_find_items_of_an_api_none_tells_area_and_dates(api: str, storage: Storage) -> None:
    wanted = r"no item of images in the area \[15, 46, 15\.1, 46\.1\] since 2025-01-01; change"
    with pytest.raises(DataError, match=wanted):
        find_items(make_data(collection="images", start="2025-01-01"), api, storage, HERE)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_find_items_api_fault_that_passes_is_tried_again(
    status: int, api: str, server: HttpServer, storage: Storage
) -> None:
    server.faults["/stac/search"] = [Fault(status)]
    assert len(find_items(make_data(collection="images"), api, storage, HERE)) == 5


def test_find_items_api_fault_that_stays_is_told(
    api: str, server: HttpServer, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "RETRY", search.RETRY.new(backoff_factor=0))
    server.always["/stac/search"] = Fault(500)
    with pytest.raises(DataError, match=r"/stac can't be read \(fault\); expected a STAC API"):
        find_items(make_data(collection="images"), api, storage, HERE)
    assert server.requests.count(("POST", "/stac/search")) == 5


def test_find_items_unreachable_address_is_told(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "RETRY", Retry(0))
    wanted = r"^Catalogue http://127\.0\.0\.1:1/stac can't be read \(.*refused.*the network\.$"
    with pytest.raises(DataError, match=wanted):
        find_items(make_data(), "http://127.0.0.1:1/stac", storage, HERE)


def test_find_items_missing_catalogue_is_named(storage: Storage) -> None:
    with pytest.raises(DataError, match=r"Catalogue /nowhere\.json can't be read \(.*not exist"):
        find_items(make_data(), "/nowhere.json", storage, None)


@pytest.mark.parametrize("text", ['{"hello": 1}', "[]", "no JSON", '{"type": "Catalog"}'])
def test_find_items_file_that_is_no_catalogue_is_refused(
    text: str, tmp_path: Path, storage: Storage
) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(DataError, match="expected a STAC API or a static STAC catalogue"):
        find_items(make_data(), str(tmp_path / "c.json"), storage, None)


def test_find_items_empty_catalogue_is_told(area: Area, storage: Storage) -> None:
    with pytest.raises(DataError, match="holds no item at all"):
        find_items(make_data(), str(area.save()), storage, None)


@pytest.mark.parametrize("by_http", [False, True], ids=["path", "http"])
def test_find_items_of_a_static_catalogue_gives_absolute_hrefs(
    by_http: bool, area: Area, server: HttpServer, storage: Storage
) -> None:
    area.items = [make_item(area.folder / day, day) for day in ("2024-02-01", "2024-01-01")]
    path = area.save(relative=True)
    base = server.url if by_http else str(area.folder)
    items = find_items(make_data(), f"{base}/{path.name}", storage, HERE)
    assert [item.assets["B04"].href for item in items] == [
        f"{base}/{day}/{day}.tif" for day in ("2024-01-01", "2024-02-01")
    ]


def test_find_items_of_a_static_catalogue_by_collection(tmp_path: Path, storage: Storage) -> None:
    items = [make_item(tmp_path, day) for day in ("2024-01-01", "2024-02-01")]
    items[0].collection_id, items[1].collection_id = "one", "two"
    path = tmp_path / "items.json"
    features = [item.to_dict() for item in items]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    found = find_items(make_data(collection="two"), str(path), storage, None)
    assert [item.id for item in found] == ["2024-02-01"]
    wanted = r"has no collection three; set \[data\] collection to one of one, two\."
    with pytest.raises(DataError, match=wanted):
        find_items(make_data(collection="three"), str(path), storage, None)


def test_find_items_of_a_catalogue_without_collections_is_told(
    area: Area, storage: Storage
) -> None:
    area.items = [make_item(area.folder, "2024-01-01")]
    with pytest.raises(DataError, match=r"has no collections; remove \[data\] collection = 'x'"):
        find_items(make_data(collection="x"), str(area.save()), storage, None)


def test_read_catalogue_reads_a_single_item(tmp_path: Path, storage: Storage) -> None:
    item = make_item(tmp_path, "2024-01-01")
    item.assets["B04"].href = "./image.tif"
    (tmp_path / "item.json").write_text(json.dumps(item.to_dict()))
    (found,) = read_catalogue(str(tmp_path / "item.json"), storage)
    assert found.assets["B04"].href == str(tmp_path / "image.tif")


def test_read_catalogue_nested_catalogues_are_read_whole(tmp_path: Path, storage: Storage) -> None:
    root, child = pystac.Catalog("root", "root"), pystac.Catalog("child", "child")
    root.add_child(child)
    root.add_item(make_item(tmp_path, "2024-01-01"))
    child.add_item(make_item(tmp_path, "2024-02-01"))
    root.normalize_and_save(str(tmp_path), pystac.CatalogType.SELF_CONTAINED)
    items = read_catalogue(str(tmp_path / "catalog.json"), storage)
    assert {item.id for item in items} == {"2024-01-01", "2024-02-01"}


@pytest.mark.parametrize("name", ["a#1", "a?1", "a%23 1"])
def test_read_catalogue_folder_with_any_name_is_read_whole(
    name: str, tmp_path: Path, storage: Storage
) -> None:
    area = Area(tmp_path / "area")
    area.items = [make_item(area.folder / "2024-01-01", "2024-01-01")]
    area.save(relative=True)
    folder = area.folder.rename(tmp_path / name)
    (item,) = read_catalogue(str(folder / "catalog.json"), storage)
    assert item.get_self_href() == str(folder / "2024-01-01/2024-01-01.json")
    assert item.assets["B04"].href == str(folder / "2024-01-01/2024-01-01.tif")


def test_read_catalogue_catalogues_that_name_one_another_are_read_once(
    tmp_path: Path, storage: Storage
) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        catalogue = pystac.Catalog(name, name).to_dict() | {
            "links": [{"rel": "child", "href": f"{other}.json"}, {"rel": "item", "href": "i.json"}]
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(catalogue))
    (tmp_path / "i.json").write_text(json.dumps(make_item(tmp_path, "2024-01-01").to_dict()))
    assert len(read_catalogue(str(tmp_path / "a.json"), storage)) == 1


def write_pages(folder: Path, base: str = "", **link: object) -> None:
    """Three pages of an item collection, of one item each."""
    folder.mkdir(exist_ok=True)
    for number in (1, 2, 3):
        page: dict[str, object] = {"type": "FeatureCollection"}
        page["features"] = [make_item(folder, f"2024-0{number}-01").to_dict(False)]
        if number < 3:
            page["links"] = [{"rel": "next", "href": f"{base}page{number + 1}.json"} | link]
        (folder / f"page{number}.json").write_text(json.dumps(page))


@pytest.mark.parametrize("by_http", [False, True], ids=["path", "http"])
@pytest.mark.parametrize("relative", [False, True], ids=["absolute", "relative"])
def test_read_catalogue_item_collection_in_pages_is_read_whole(
    by_http: bool, relative: bool, server: HttpServer, storage: Storage
) -> None:
    base = server.url if by_http else str(server.folder)
    write_pages(server.folder, base="" if relative else f"{base}/", method="GET")
    items = read_catalogue(f"{base}/page1.json", storage)
    assert {item.id for item in items} == {"2024-01-01", "2024-02-01", "2024-03-01"}


def test_read_catalogue_next_page_by_post_is_refused(tmp_path: Path, storage: Storage) -> None:
    write_pages(tmp_path, method="POST", body={"token": 2})
    wanted = r"page1\.json has a next page that is asked for by POST.*; name the STAC API itself"
    with pytest.raises(DataError, match=wanted):
        read_catalogue(str(tmp_path / "page1.json"), storage)


def test_read_catalogue_pages_without_end_are_refused(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pages(tmp_path)
    monkeypatch.setattr(search, "MAX_PAGES", 3)
    assert len(read_catalogue(str(tmp_path / "page1.json"), storage)) == 3
    monkeypatch.setattr(search, "MAX_PAGES", 2)
    with pytest.raises(DataError, match=r"page1\.json has more than 2 pages, so that"):
        read_catalogue(str(tmp_path / "page1.json"), storage)


def test_read_catalogue_next_page_that_fails_is_told_without_its_token(
    server: HttpServer, storage: Storage
) -> None:
    write_pages(server.folder, base="nowhere/", href="nowhere/page2.json?token=secret")
    with pytest.raises(DataError, match=r"page1\.json can't be read") as caught:
        read_catalogue(f"{server.url}/page1.json", storage)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("https://user:hush@example.org/c.json", "https://example.org/c.json"),
        ("https://hush@example.org/c.json", "https://example.org/c.json"),
        ("s3://user:hush@bucket/c.json", "s3://bucket/c.json"),
        ("/vsicurl/https://user:hush@example.org/c.json", "/vsicurl/https://example.org/c.json"),
        *(
            (f"https://example.org/c.json?f=json&{name}=hush", "https://example.org/c.json")
            for name in (
                "token",
                "access_token",
                "sig",
                "Signature",
                "key",
                "api_key",
                "apikey",
                "password",
                "subscription-key",
                "client_secret",
                "AWSAccessKeyId",
                "X-Amz-Signature",
                "X-Amz-Credential",
                "api%5Fkey",
            )
        ),
        ("https://example.org/c.json#token=hush", "https://example.org/c.json"),
    ],
)
def test_checked_uri_with_credentials_is_refused_without_printing_them(uri: str, told: str) -> None:
    with pytest.raises(ConfigError, match="holds credentials, which would be written") as caught:
        checked_uri(uri)
    assert str(caught.value).startswith(f"{told} holds")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.org/items?limit=10&collections=a&keywords=b&author=c&design=d",
        "https://example.org/@me/items?mail=a@b",
        "s3://bucket/c.json",
        "/data/token=?.tif",
        "/data/a@b:c/items.json",
        "file:///data/items.json",
        "",
    ],
)
def test_checked_uri_without_credentials_passes(uri: str) -> None:
    assert checked_uri(uri) == uri


@pytest.mark.parametrize(
    "section",
    [
        '[data]\nbands = { red = "B04" }\ncatalogue = "URI"',
        '[data]\nbands = { red = "B04" }\nfiles = "URI"',
        '[data]\nbands = { red = "B04" }\narea = "URI"',
        '[data]\nbands = { red = "B04" }\n[labels]\nsource = "URI"',
        '[data]\nbands = { red = "B04" }\n[features]\nlayers = { elevation = "URI" }',
    ],
    ids=["catalogue", "files", "area", "labels", "layers"],
)
@pytest.mark.parametrize(
    "uri", ["https://user:hush@example.org/x", "https://example.org/x?sig=hush"]
)
def test_load_config_address_with_credentials_is_refused_without_printing_them(
    uri: str, section: str, tmp_path: Path
) -> None:
    path = tmp_path / "project.toml"
    path.write_text(section.replace("URI", uri))
    with pytest.raises(
        ConfigError, match=r"(source|elevation|data\.\w+) holds cred.*~/\.netrc"
    ) as e:
        load_config(path, project="land_cover")
    assert "hush" not in f"{e.value} {e.value.__cause__}"


def test_read_catalogue_item_that_is_missing_is_named(area: Area, storage: Storage) -> None:
    area.items = [make_item(area.folder, "2024-01-01")]
    path = area.save()
    (area.folder / "2024-01-01" / "2024-01-01.json").unlink()
    with pytest.raises(DataError, match=r"2024-01-01\.json does not exist"):
        read_catalogue(str(path), storage)


def test_sign_none_leaves_the_address() -> None:
    href = "https://a.blob.core.windows.net/c/x.tif"
    assert sign(href, make_data()) == href


@pytest.fixture
def tokens(server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpServer]:
    """A signing service in the place of Planetary Computer's."""
    monkeypatch.setenv("PC_SDK_SAS_URL", f"{server.url}/token")
    planetary_computer.settings.Settings.get.cache_clear()
    planetary_computer.sas.TOKEN_CACHE.clear()
    yield server
    monkeypatch.undo()
    planetary_computer.settings.Settings.get.cache_clear()
    planetary_computer.sas.TOKEN_CACHE.clear()


def test_sign_planetary_computer_asks_once_for_a_token(tokens: HttpServer) -> None:
    expiry = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    folder = tokens.folder / "token/account"
    folder.mkdir(parents=True)
    (folder / "container").write_text(json.dumps({"msft:expiry": expiry, "token": "sig=abc"}))
    data = make_data(sign="planetary-computer")
    for name in ("x", "y"):
        href = f"https://account.blob.core.windows.net/container/{name}.tif"
        assert sign(href, data) == f"{href}?sig=abc"
    assert tokens.count("/token/account/container") == 1
    assert sign("/local/x.tif", data) == "/local/x.tif"


def test_sign_service_that_refuses_is_told(tokens: HttpServer) -> None:
    tokens.always["/token/account/container"] = Fault(403)
    href = "https://account.blob.core.windows.net/container/x.tif"
    with pytest.raises(DataError, match=r"Planetary Computer does not sign https:.*x\.tif: 403"):
        sign(href, make_data(sign="planetary-computer"))


@pytest.mark.parametrize(
    ("href", "base", "expected"),
    [
        ("./red.tif", "/data/a/item.json", "/data/a/red.tif"),
        ("../b/red.tif", "s3://eo-data/a/item.json", "s3://eo-data/b/red.tif"),
        ("red.tif", "https://example.org/a/item.json", "https://example.org/a/red.tif"),
        ("s3://other/red.tif", "/data/a/item.json", "s3://other/red.tif"),
        ("/data/red.tif", "s3://eo-data/item.json", "/data/red.tif"),
        ("/data/red.tif", "https://example.org/a/item.json", "https://example.org/data/red.tif"),
        ("//other.org/red.tif", "https://example.org/a/item.json", "https://other.org/red.tif"),
        ("/vsis3/other/red.tif", "https://example.org/a/item.json", "/vsis3/other/red.tif"),
        ("./red.tif", "/data/a#1/item.json", "/data/a#1/red.tif"),
        ("../b?/red#2.tif", "/data/a?1/item.json", "/data/b?/red#2.tif"),
        ("red.tif", "file:///data/a#1/item.json", "file:///data/a#1/red.tif"),
        ("red.tif", "s3://eo-data/a#1/item.json", "s3://eo-data/a#1/red.tif"),
    ],
)
def test_absolute_href(href: str, base: str, expected: str) -> None:
    assert _absolute(href, base) == expected


ODD = ["a b", "été", "[2024]", "{a}", "a*b", "a?b", "a#1", "a%20b", "100%", "a!b", "a:b", "a&b"]


@pytest.mark.parametrize("encoded", [False, True], ids=["plain", "encoded"])
@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("name", ODD)
def test_read_catalogue_local_hrefs_with_odd_characters(
    name: str, scheme: str, encoded: bool, tmp_path: Path, storage: Storage
) -> None:
    """A catalogue with a child item in a folder, whose image lies in another."""

    def written(text: str) -> str:
        return quote(text) if encoded else text

    home = tmp_path / name
    image = home / "images" / name / f"{name}.tif"
    write_raster(image, np.ones((4, 4), "uint8"))
    item = make_item(tmp_path, "2024-01-01")
    item.assets["B04"].href = written(f"../images/{name}/{name}.tif")
    item.assets["B05"] = pystac.Asset(f"{scheme}{written(str(image))}")
    (home / "items").mkdir()
    (home / "items" / f"{name}.json").write_text(json.dumps(item.to_dict(transform_hrefs=False)))
    link = {"rel": "item", "href": written(f"./items/{name}.json")}
    document = {"type": "Catalog", "stac_version": "1.0.0", "id": "x", "links": [link]}
    (home / "catalog.json").write_text(json.dumps(document))
    where = f"{scheme}{quote(str(home)) if scheme and encoded else home}/catalog.json"
    (found,) = read_catalogue(where, storage)
    for asset in found.assets.values():
        assert asset.href == str(image)
        with rasterio.open(asset.href) as file:
            assert file.width == 4


@pytest.mark.parametrize("href", ["my images/été.tif", "my%20images/%C3%A9t%C3%A9.tif"])
def test_read_catalogue_hrefs_by_http_are_encoded_once(
    href: str, server: HttpServer, storage: Storage
) -> None:
    write_raster(server.folder / "my images" / "été.tif", np.ones((4, 4), "uint8"))
    item = make_item(server.folder, "2024-01-01")
    item.assets["B04"].href = href
    (server.folder / "item.json").write_text(json.dumps(item.to_dict(transform_hrefs=False)))
    (found,) = read_catalogue(f"{server.url}/item.json", storage)
    assert found.assets["B04"].href == f"{server.url}/my%20images/%C3%A9t%C3%A9.tif"
    assert requests.get(found.assets["B04"].href, timeout=10).ok


class Bucket(Storage):
    """A store of known objects, some of which nobody may ask for."""

    objects = ("s3://eo/my images/B04.tif", "s3://eo/a%20b/B04.tif", "s3://eo/a#1/B04.tif")

    def exists(self, uri: str) -> bool:
        if uri.startswith("s3://closed/"):
            raise StorageError("no credentials")
        return uri in self.objects


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        ("my%20images/B04.tif", "s3://eo/my images/B04.tif"),
        ("my images/B04.tif", "s3://eo/my images/B04.tif"),
        ("a%20b/B04.tif", "s3://eo/a%20b/B04.tif"),  # the object has this very name
        ("a%231/B04.tif", "s3://eo/a#1/B04.tif"),
        ("nowhere%20/B04.tif", "s3://eo/nowhere%20/B04.tif"),
        ("s3://closed/my%20images/B04.tif", "s3://closed/my%20images/B04.tif"),
    ],
)
def test_find_object_decodes_hrefs_unless_one_has_the_name(
    href: str, expected: str, storage: Storage
) -> None:
    source = search._Source(Bucket(storage.settings))
    assert source.find(href, "s3://eo/item.json") == expected


def test_find_items_deprecated_ones_are_told_in_our_words(
    tmp_path: Path,
    storage: Storage,
    recwarn: pytest.WarningsRecorder,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old, new = make_item(tmp_path, "2024-01-01"), make_item(tmp_path, "2024-02-01")
    old.properties["deprecated"] = True
    path = tmp_path / "items.json"
    features = [item.to_dict(transform_hrefs=False) for item in (old, new)]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    recwarn.clear()
    assert len(find_items(make_data(), str(path), storage, None)) == 2
    assert not recwarn.list
    assert "1 of 2 items are marked as deprecated there, as 2024-01-01" in capsys.readouterr().out


def test_http_server_search_filters_as_the_specification_says(api: str, storage: Storage) -> None:
    # the tests above mean something only if the API itself leaves items out
    data = make_data(collection="images", start=date(2024, 3, 1), end=date(2024, 3, 31))
    source = search._Source(storage)
    client = search.Client.open(api, stac_io=source.http)
    assert len(search._search(client, data, api, HERE)) == 1
    assert len(search._search(client, data, api, box(99, 9, 102, 12))) == 1
