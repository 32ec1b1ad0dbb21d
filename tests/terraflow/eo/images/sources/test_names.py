from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terraflow.eo.images.sources.names import parse_name
from terraflow.errors import DataError

MAY_14 = "2024-05-14"


def day_of(name: str, pattern: str = "", date_format: str = "") -> str | None:
    found = parse_name(f"/data/{name}", pattern, date_format, "/data/").date
    return f"{found:%Y-%m-%d}" if found else None


@pytest.mark.parametrize(
    "name",
    [
        "HLS.S30.T33TVL.2024135T100031.v2.0.B04.tif",
        "HLS.L30.T33TVL.2024135T095212.v2.0.Fmask.tif",
        "MOD13Q1.A2024135.h18v04.061.2024152123456.hdf",
        "MOD13Q1.A2024135.h18v04.061.2024152.250m_16_days_NDVI.tif",
        "VNP13A1.A2024135.h18v04.002.2024152080808.h5",
        "MYD021KM.A2024135.0950.061.2024135184512.hdf",
        "MOD13Q1.061__250m_16_days_NDVI_doy2024135_aid0001.tif",
        "MOD13Q1.061__250m_16_days_NDVI_doy2024135000000_aid0001.tif",
        "LC81910282024135LGN00_B4.TIF",
        "LT81910282024135XXX01.tif",
        "LC08_L2SP_191028_20240514_20240520_02_T1_SR_B4.TIF",
        "LE07_L1TP_191028_20240514_20240520_02_T2_B4.TIF",
        "LC08_CU_015008_20240514_20240520_02_SR_B4.tif",
        "LC081910282024051401T1-SC20240601123456.tif",
        "LC08_191028_20240514.tif",
        "S1A_IW_GRDH_1SDV_20240514T051234_20240514T051259_053868_068C5D_1A2B.tif",
        "S1A_IW_GRDH_1SDV_20240514T235950_20240515T000015_053868_068C5D_1A2B.tif",
        "s1a-iw-grd-vv-20240514t235950-20240515t000015-053868-068c5d-001.tiff",
        "S1A_IW_20240514T051234_DVP_RTC30_G_gpuned_ABCD_VV.tif",
        "S2A_MSIL2A_20240514T100031_N0510_R122_T33TVL_20240515T161000.tif",
        "T33TVL_20240514T100031_B04_10m.jp2",
        "20240514T100031_20240515T100533_T33TVL.tif",
        "S2A_OPER_PRD_MSIL1C_PDMC_20240601T070707_R122_V20240514T100031_20240514T100031.tif",
        "SENTINEL2A_20240514-100031-123_L2A_T33TVL_C_V3-1_FRE_B4.tif",
        "S3A_OL_2_LFR____20240514T093000_20240514T093300_20240515T120000_0179_112_193.nc",
        "S5P_OFFL_L2__NO2____20240514T235030_20240515T012200_34123_03_020600_20240516T0.nc",
        "20240514_100031_12_24a1_3B_AnalyticMS_SR_clip.tif",
        "2012345_2024-05-14_RE3_3A_Analytic.tif",
        "1056417_2012345_2024-05-14_1035_BGRN.tif",
        "IMG_PHR1A_MS_202405141000312_SEN_1234567101-001_R1C1.TIF",
        "SPOT7_MS_202405141000312_SEN_7654321.tif",
        "AST_L1T_00305142024100031_20240601123456_12345.tif",
        "OR_ABI-L2-CMIPF-M6C01_G16_s20241351000205_e20241351009513_c20241361009581.nc",
        "OR_ABI-L1b-RadC-M6C01_G16_s20241350000205_e20241351009513_c20241361009581.nc",
        "ENMAP01-____L2A-DT0000012345_20240514T100031Z_001_V010400_20240601T081522Z-IMAGE.TIF",
        "OPERA_L3_DSWx-HLS_T33TVL_20240514T100031Z_20240516T012345Z_S2A_30_v1.0_B01_WTR.tif",
        "EO1H1910282024135110KF.tif",
        "EMIT_L2A_RFL_001_20240514T100031_2413507_012.nc",
        "CBERS_4_MUX_20240514_123_102_L4_BAND5.tif",
        "20240514_LEVEL2_SEN2A_BOA.tif",
        "chirps-v2.0.2024.05.14.tif",
        "scene_2024-05-14.tif",
        "x2024_05_14.tif",
        "20240514100031.tif",
        "NDVI_2024135.tif",
        "orbit053868_20240514_T33.tif",
        "1234567890_20240514.tif",
        "scene_20240514_v20240601.tif",
        "scene_20240514_proc20240601.tif",
        "20240514_20240514_pair.tif",
    ],
)
def test_parse_name_finds_the_day_of_the_image_in_names_of_products(name: str) -> None:
    assert day_of(name) == MAY_14


@pytest.mark.parametrize(
    "name",
    [
        "scene.tif",
        "scene_1234520240514.tif",  # the end of another number
        "scene_202405141.tif",
        "scene_20240514999999.tif",  # no time follows
        "orbit_2024135678.tif",
        "tile_3012345.tif",
        "x2024400y.tif",
        "R2024135.tif",  # an orbit
        "v20240514.tif",
        "scene_proc_20240514.tif",
        "ndvi_202405.tif",
        "scene_140524.tif",
        "scene_14052024.tif",
        "global_monthly_2024_05_mosaic_L15-1234E-5678N.tif",
        "24MAY14100031-M2AS-012345678901_01_P001.tif",
    ],
)
def test_parse_name_takes_no_other_number_for_a_day(name: str) -> None:
    assert day_of(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "mosaic_20240514_20240601.tif",
        "mosaic_2024-05-14_2024-06-01.tif",
        "SVDNB_npp_20240514-20240531_75N060W_vcmcfg_v10_c202406101200.avg_rade9.tif",
        "S1AA_20240514T051234_20240526T051234_VVP012_INT80_G_ueF_ABCD.tif",
        "2024135_20240601.tif",
        "a[1]_20240514(b)_2024160.tif",
    ],
)
def test_parse_name_two_days_are_refused_and_the_remedy_takes_the_first(name: str) -> None:
    wanted = r"holds the days 2024-05-14 and 2024-0\d-\d\d, and nothing tells which.*'(.*)' for the"
    with pytest.raises(DataError, match=wanted) as caught:
        day_of(name)
    (pattern,) = re.findall(r"as '(.*)' for the first", str(caught.value))
    assert day_of(name, pattern) == MAY_14


@pytest.mark.parametrize("name", ["20241301.tif", "s_20240230.tif", "s_2024-02-30.tif"])
def test_parse_name_day_that_there_is_not_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="expected digits YYYYMMDD of a day that there is"):
        day_of(name)


@pytest.mark.parametrize("name", ["s_19690720.tif", "s_20991231.tif", "s_2099-12-31.tif"])
def test_parse_name_day_before_images_or_to_come_is_refused_and_the_remedy_works(name: str) -> None:
    with pytest.raises(DataError, match="that has been; correct the name"):
        day_of(name)
    assert day_of(name, "s_") is None


def test_parse_name_tomorrow_passes_since_clocks_differ() -> None:
    now = datetime.now(UTC)
    assert day_of(f"{now:%Y%m%d}.tif")
    with pytest.raises(DataError, match="has been"):
        day_of(f"{now + timedelta(days=3):%Y%m%d}.tif")


@pytest.mark.parametrize("pattern", [r"(?P<date>\d{8})_(?P<band>B\d)", r"(?P<date>\d{8})"])
@pytest.mark.parametrize("day", ["19650801", "20991231"])
def test_parse_name_implausible_day_of_a_pattern_is_refused(day: str, pattern: str) -> None:
    with pytest.raises(DataError, match=r"by its name, which (is 1970-01-01 or|lies in the fu)"):
        day_of(f"{day}_B4.tif", pattern)


def test_parse_name_that_holds_the_day_of_processing_alone_is_refused_and_the_remedy_works() -> (
    None
):
    name = "S2A_OPER_MSI_L1C_TL_SGS__20240514T162000_A046123_T33TVL_B04.jp2"
    with pytest.raises(DataError, match="holds the day of its processing alone"):
        day_of(name)
    assert day_of(name, r"__(?P<date>\d{8})T") == MAY_14


@pytest.mark.parametrize(
    ("name", "pattern", "date_format"),
    [
        ("HLS.S30.T33TVL.2024135T100031.v2.0.B04.tif", r"(?P<date>\d{7})T\d{6}", ""),
        ("LC81910282024135LGN00_B4.TIF", r"LC8\d{6}(?P<date>\d{7})LGN", ""),
        ("LC81910282024135LGN00_B4.TIF", r"(?<=191028)(?P<date>\d{7})LGN", ""),
        ("x_2024-135.tif", r"_(?P<date>[\d-]+)", ""),
        ("x_2024.05.14.tif", r"_(?P<date>\d{4}\.\d\d\.\d\d)", ""),
        ("x_20240514T100031.tif", r"_(?P<date>\w+)", ""),
        ("x_20240514100031.tif", r"_(?P<date>\d{8})", ""),
        ("x_14052024.tif", r"_(?P<date>\d{8})", "%d%m%Y"),
        ("x_05142024.tif", r"_(?P<date>\d{8})", "%m%d%Y"),
        ("x_140524.tif", r"_(?P<date>\d{6})", "%d%m%y"),
        ("24MAY14100031-M2AS.tif", r"^(?P<date>\d\d[A-Z]{3}\d\d)\d{6}", "%y%b%d"),
        ("x_24135.tif", r"_(?P<date>\d{5})", "%y%j"),
        ("x 14. May 2024.tif", r"x (?P<date>.*)", "%d. %B %Y"),
    ],
)
def test_parse_name_reads_the_group_date(name: str, pattern: str, date_format: str) -> None:
    assert day_of(name, pattern, date_format) == MAY_14


def test_parse_name_examples_in_the_documentation_are_read() -> None:
    text = (Path(__file__).parents[5] / "docs/data.md").read_text()
    pattern, name = re.findall(r"^name_pattern = '(.*)' +# (survey\S+)$", text, re.MULTILINE)[0]
    written, two_digits, months = re.findall(
        r'^date_format = "(.*?)" +# "(.*?)" for 240514, "(.*?)" for 202405$', text, re.MULTILINE
    )[0]
    assert day_of(name, pattern, written) == MAY_14
    assert day_of("240514.tif", r"(?P<date>\d+)", two_digits) == MAY_14
    assert day_of("202405.tif", r"(?P<date>\d+)", months) == "2024-05-01"
    (pattern,) = re.findall(r"as `'(.*)'` for `scenes/2024-05-14/B04.tif`", text)
    assert day_of("scenes/2024-05-14/B04.tif", pattern) == MAY_14


def test_parse_name_month_by_a_format_is_its_first_day() -> None:
    assert day_of("ndvi_202405.tif", r"_(?P<date>\d{6})", "%Y%m") == "2024-05-01"


def test_parse_name_day_out_of_another_number_is_refused_and_the_remedy_works() -> None:
    """Seven digits of 20240514 would be 20 February."""
    for name, pattern in (
        ("x_20240514.tif", r"(?P<date>\d{7})"),
        ("x_120240514.tif", r"(?P<date>\d{8})$"),
        ("LC81910282024135LGN00.tif", r"(?P<date>\d{7})LGN"),
    ):
        with pytest.raises(DataError, match=r"cuts the date '\d+' out of a longer number"):
            day_of(name, pattern)
    assert day_of("x_20240514.tif", r"(?<!\d)(?P<date>\d{8})(?!\d)") == MAY_14
    assert day_of("LC81910282024135LGN00.tif", r"L.8\d{6}(?P<date>\d{7})LGN") == MAY_14


@pytest.mark.parametrize("text", ["20241301", "2023366", "2024000", "202405", "2024-05-1"])
def test_parse_name_group_that_is_no_day_is_refused_with_a_format_as_remedy(text: str) -> None:
    with pytest.raises(DataError, match=r'or YYYYDDD .*or state date_format, as "%d%m%Y"'):
        day_of(f"x_{text}.tif", r"_(?P<date>[\d-]+)")


def test_parse_name_last_day_of_a_leap_year() -> None:
    assert day_of("x_2024366.tif") == "2024-12-31"
    assert day_of("x_2023366.tif") is None
    with pytest.raises(DataError, match="none of"):
        day_of("x_23366.tif", r"_(?P<date>\d{5})", "%y%j")


def test_parse_name_day_that_does_not_fit_the_format_is_refused() -> None:
    with pytest.raises(DataError, match=r"'20240514', which is none of \[data\] date_format"):
        day_of("x_20240514.tif", r"_(?P<date>\d{8})", "%d%m%Y")


def test_parse_name_pattern_with_a_slash_is_searched_in_folders() -> None:
    pattern = r"(?P<date>\d{4}-\d\d-\d\d)/(?P<band>B\d\d)$"
    names = {
        parse_name(f"/data/{tile}/2024-05-14/B04.tif", pattern, "", "/data/")
        for tile in ("T33TVL", "T33TVM")
    }
    assert {name.scene for name in names} == {"T33TVL_20240514", "T33TVM_20240514"}
    assert {name.date for name in names} == {datetime(2024, 5, 14, tzinfo=UTC)}
    assert {name.band for name in names} == {"B04"}


@given(
    day=st.dates(date(1970, 1, 2), date(2026, 1, 1)),
    written=st.sampled_from(["%Y%m%d", "%Y-%m-%d", "%Y_%m_%d", "%Y.%m.%d", "%Y%j"]),
    before=st.sampled_from(["", "s_", "T33TVL-", "12345_", "a.", "été "]),
    after=st.sampled_from(["", "_B04", "T100031", "-v2", ".061", "_12345"]),
)
def test_parse_name_finds_any_day_in_any_place(
    day: date, written: str, before: str, after: str
) -> None:
    assert day_of(f"{before}{day.strftime(written)}{after}.tif") == f"{day:%Y-%m-%d}"


@given(
    day=st.dates(date(1970, 1, 2), date(2026, 1, 1)),
    written=st.sampled_from(["%Y%m%d", "%Y%j"]),
    before=st.text("0123456789", max_size=3),
    after=st.text("0123456789", max_size=3),
)
def test_parse_name_finds_no_day_within_a_number(
    day: date, written: str, before: str, after: str
) -> None:
    number = f"{before}{day.strftime(written)}{after}"
    if len(number) not in (7, 8, 12, 14):  # of which some are a day, or a day and a time
        assert day_of(f"s_{number}_x.tif") is None
