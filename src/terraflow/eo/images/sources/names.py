"""What the name of a file tells: the day of its image, its band, and its scene."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import NamedTuple

from terraflow.eo.images.sources.solar_days import why_implausible
from terraflow.errors import DataError

__all__ = ["IMAGE", "Name", "parse_name"]

#: Key of a file's asset, where the file's name tells no band.
IMAGE = "image"

#: Names of products that hold more than one time, or a day within other digits: which one is that
#: of the image. The others are of its end, its processing, or its production.
PRODUCTS = tuple(
    re.compile(rf"(?<![A-Za-z0-9]){rule}", re.IGNORECASE)
    for rule in (
        # Landsat's collections and its analysis ready data, as LC08_L2SP_191028_20240514_20240520_
        r"L[COTEM]\d\d_[A-Z0-9]{2,4}_\d{6}_(?P<date>\d{8})_\d{8}_",
        # Landsat before there were collections, as LC81910282024135LGN00
        r"L[COTEM]\d{7}(?P<date>\d{7})[A-Z]{3}\d\d",
        # Landsat processed on demand, as LC081910282024051401T1
        r"L[COTEM]\d{8}(?P<date>\d{8})\d\d(T1|T2|RT)",
        # Hyperion and ALI, as EO1H1910282004135110KF
        r"EO1[AH]\d{6}(?P<date>\d{7})\d{3}",
        # Sentinel-1, 3, 5P and 6: start, end, creation
        r"S(1[A-D]|3[A-D]|5P|6[AB])[_-].*?[_-](?P<date>\d{8})T\d{6}Z?[_-]\d{8}T\d{6}",
        # Sentinel-2 by ESA, of before December 2016, and by Earth Engine
        r"S2[A-D]_MSIL\w\w_(?P<date>\d{8})T\d{6}_N\d{4}_R\d{3}_T\w{5}_\d{8}T\d{6}",
        r"S2[A-D]_(OPER|USER)_.*_V(?P<date>\d{8})T\d{6}",
        r"S2[A-D]_(OPER|USER)_MSI_.*?_(?P<processed>\d{8})T\d{6}_A\d{6}_T\d\d[A-Z]{3}",
        r"(?P<date>\d{8})T\d{6}_\d{8}T\d{6}_T\d\d[A-Z]{3}",
        # MODIS and VIIRS, as MOD13Q1.A2024113.h18v04.061.2024130123456
        r"(MOD|MYD|MCD|VNP|VJ\d|VMOD)\w*[._]A(?P<date>\d{7})[._]",
        # ASTER: month, day, year
        r"AST_\w{2,4}_\d{3}(?P<american>\d{8})\d{6}",
        # GOES: start, end, creation
        r"OR_.*_s(?P<date>\d{7})\d{7}_e\d{14}",
        # EnMAP and OPERA: acquisition, processing
        r"(ENMAP|OPERA_L\d).*?_(?P<date>\d{8})T\d{6}Z_.*\d{8}T\d{6}Z",
        # tiles of Planet and RapidEye, whose number is of seven digits
        r"(\d+_)?\d{7}_(?P<date>\d{4}-\d\d-\d\d)_",
    )
)
TIME = r"(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d\d{0,3})?"
#: Of any other name: days that no other digit touches.
DAYS = re.compile(
    rf"(?<!\d)(?P<date>\d{{8}})(?:{TIME})?(?!\d)"
    r"|(?<!\d)(?P<parted>\d{4}(?P<sep>[-_. ])\d\d(?P=sep)\d\d)(?!\d)"
    r"|(?<![A-Za-z0-9])doy(?P<doy>\d{7})(?:\d{6})?(?!\d)"
    r"|(?<![A-Za-z0-9])[AD]?(?P<ordinal>\d{7})(?![0-9A-SU-Za-su-z])",
    re.IGNORECASE,
)
#: What stands before a version, or before the day when a file was made.
NO_ACQUISITION = re.compile(
    r"(?<![A-Za-z])(v|ver|version|proc|processed|processing|prod|produced|production|created|"
    r"creation|generated)[-_.]?$",
    re.IGNORECASE,
)


class Name(NamedTuple):
    """What a name tells.

    Attributes
    ----------
    scene : str
        What is the same in the names of all bands of an image.
    date : datetime or None
        Its day, at midnight UTC.
    band : str
        "image" where the name tells none.
    """

    scene: str
    date: datetime | None
    band: str


def parse_name(path: str, name_pattern: str, date_format: str, folder: str) -> Name:
    r"""Read the name of a file.

    Parameters
    ----------
    path : str
    name_pattern : str
        Regular expression with the groups date and band, both optional; one with a / is searched in
        the path below `folder`, any other in the name without what follows its last point. "" finds
        the day as products write it, or the only one there is.
    date_format : str
        Of the group date, as strptime reads it. "" reads YYYYMMDD with or without separators, and
        a time after it, and YYYYDDD, year and day of the year.
    folder : str
        That the path starts with.

    Returns
    -------
    Name

    Raises
    ------
    DataError
        The band is missing, or the day is none, lies before 1970 or in the future, is cut out of a
        longer number, or is one of several.

    Examples
    --------
    >>> parse_name("HLS.S30.T33TVL.2024135T100031.v2.0.B04.tif", "", "", "").date
    datetime.datetime(2024, 5, 14, 0, 0, tzinfo=datetime.timezone.utc)
    >>> parse_name("T33_20240514_B04.tif", r"(?P<date>\d{8})_(?P<band>B\d\d)", "", "")[::2]
    ('T33_20240514', 'B04')
    """
    name = re.sub(r"\.[^./]+$", "", path.rpartition("/")[2])
    if not name_pattern:
        return Name(name, _find_date(name, path), IMAGE)
    text = name
    if "/" in name_pattern:
        text = re.sub(r"\.[^./]+$", "", path.removeprefix(folder))
    match = re.search(name_pattern, text)
    groups = match.groupdict() if match else {}
    if "band" in re.compile(name_pattern).groupindex and not groups.get("band"):
        raise DataError(
            f"The name of {path} does not fit [data] name_pattern {name_pattern!r}, which should "
            "give its band; correct the pattern or [data] files."
        )
    if not match or not (groups.get("date") or groups.get("band")):
        return Name(name, None, IMAGE)
    found = _told_date(match, name_pattern, date_format, path) if groups.get("date") else None
    if not groups.get("band"):
        # each file is a scene of its own, whatever else its name holds
        return Name(name, found, IMAGE)
    rest = (text[: match.start()], f"{found:%Y%m%d}" if found else "", text[match.end() :])
    scene = "_".join(part for part in (r.strip("-_./ ") for r in rest) if part)
    return Name(scene.replace("/", "_") or "scene", found, groups["band"])


def _told_date(match: re.Match[str], pattern: str, date_format: str, path: str) -> datetime:
    """Read the group date of the user's pattern."""
    text = match["date"]
    if _is_cut_out(match, pattern):
        raise DataError(
            f"[data] name_pattern cuts the date {text!r} out of a longer number in the name of "
            f"{path}; write what stands before and after it into the pattern, or (?<!\\d) and "
            "(?!\\d) for anything but a digit."
        )
    if date_format:
        if found := _strptime(text, date_format):
            return _plausible(found, path)
        raise DataError(
            f"The name of {path} holds the date {text!r}, which is none of [data] date_format "
            f"{date_format!r}; correct it, or name_pattern."
        )
    found = _read(text)
    if found is None:
        raise DataError(
            f"The name of {path} holds the date {text!r}; expected digits YYYYMMDD, or YYYYDDD of "
            "the day of the year; correct [data] name_pattern, or state date_format, as "
            '"%d%m%Y".'
        )
    return _plausible(found, path)


def _is_cut_out(match: re.Match[str], pattern: str) -> bool:
    """Tell whether a date touches digits that the pattern says nothing of; a time may follow."""
    start, end = match.span("date")
    before, after = match.string[:start], re.match(r"\d*", match.string[end:])
    if match.start() == start and before[-1:].isdigit() and "(?<=" not in pattern:
        return True
    rest = after[0] if after and match.end() == end else ""
    return bool(rest) and "(?=" not in pattern and not re.fullmatch(TIME, rest)


def _find_date(name: str, path: str) -> datetime | None:
    """Find the day in a name of which no pattern tells."""
    for product in PRODUCTS:
        if match := product.search(name):
            groups = match.groupdict()
            if groups.get("processed"):
                raise DataError(
                    f"The name of {path} holds the day of its processing alone; name the file by "
                    "the day of the image, or set [data] name_pattern to take that day."
                )
            american = groups.get("american") or ""
            text = groups.get("date") or american[4:] + american[:4]
            if found := _read(text):
                return _plausible(found, path)
    numbers = [
        match for match in DAYS.finditer(name) if not NO_ACQUISITION.search(name[: match.start()])
    ]
    read = [(_text(match), match) for match in numbers]
    days = [(found, match) for text, match in read if (found := _read(text)) and _is_sound(found)]
    if len({day for day, _ in days}) > 1:
        raise _several(path, name, days)
    if days:
        return _plausible(days[0][0], path)
    for text, match in read:
        if re.fullmatch(r"(19|20)\d\d\D?\d\d\D?\d\d", match[0]):
            if found := _read(text):
                return _plausible(found, path)
            raise DataError(
                f"The name of {path} holds the date {match[0]!r}; expected digits YYYYMMDD of a "
                "day that there is; correct the name, or set [data] name_pattern, which without "
                "the group date takes files as undated."
            )
    return None


def _text(match: re.Match[str]) -> str:
    return next(match[key] for key in ("date", "parted", "doy", "ordinal") if match[key])


def _read(text: str) -> date | None:
    """Read YYYYMMDD, maybe with separators and a time after it, or YYYYDDD."""
    digits = re.sub(r"\D", "", text)
    written = "%Y%m%d"
    if re.fullmatch(r"\d{4}[-_.]?\d{3}", text):
        written = "%Y%j"
    elif len(digits) > 8 and re.fullmatch(TIME, digits[8:]):
        digits = digits[:8]
    elif len(digits) != 8:
        return None
    return _strptime(digits, written)


def _strptime(text: str, written: str) -> date | None:
    try:
        day = datetime.strptime(text, written).date()
    except ValueError:
        return None
    # day 366 of any year passes, as the first of the next one
    return None if "%j" in written and day.strftime(written) != text else day


def _is_sound(day: date) -> bool:
    return not why_implausible(_midnight(day))


def _plausible(day: date, path: str) -> datetime:
    time = _midnight(day)
    if why := why_implausible(time):
        raise DataError(
            f"{path} is of {day} by its name, which {why}; expected a day since 1970 that has "
            "been; correct the name, [data] name_pattern or date_format; a name_pattern without "
            "the group date takes files as undated."
        )
    return time


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _several(path: str, name: str, days: list[tuple[date, re.Match[str]]]) -> DataError:
    """Write what to do about two days, with a pattern that takes the first."""
    (first, one), (second, other) = days[0], next(d for d in days if d[0] != days[0][0])
    between = name[one.start() : other.end()]
    text = _text(one)
    after = between[between.index(text) + len(text) :]
    pattern = f"(?P<date>{_digits(text)}){_digits(after)}"
    return DataError(
        f"The name of {path} holds the days {first} and {second}, and nothing tells which of them "
        f"is that of the image; state it by the group date of [data] name_pattern, as "
        f"'{pattern}' for the first."
    )


def _digits(text: str) -> str:
    """Write a regular expression of a text with any digits in the place of its own."""
    escaped = "".join("\0" if c.isdigit() else re.escape(c) for c in text)
    return re.sub("\0+", lambda run: rf"\d{{{len(run[0])}}}", escaped)
