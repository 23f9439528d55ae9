from __future__ import annotations

import json

import pytest

from amorsize.cache.entry import (
    Entry,
    FormatError,
    Key,
    StoredPlan,
    System,
    checked,
    decode,
    encode,
    fault,
    is_outdated,
    memory_changed,
    stored_plan,
)
from amorsize.plan.profile import WorkProfile

KEY = Key("0123456789abcdef", "medium", "fast")
SYSTEM = System(8, "fork", 10**9, "linux", "3.11.7")
PROFILE = WorkProfile(20, 0.0005, 0.0001, 0.001, 0.9, 10.5, None, 1e-6, 0.0)
PLAN = StoredPlan(4, 100, "processes", 3.5, "worth it", ("careful",))
ENTRY = Entry(KEY, "module.work", 500, 1e9, SYSTEM, PROFILE, PLAN)


def changed(**changes):
    """Return the content of ENTRY's file with dotted fields replaced."""
    content = json.loads(encode(ENTRY))
    for name, value in changes.items():
        place = content
        *path, last = name.split("__")
        for part in path:
            place = place[part]
        place[last] = value
    return json.dumps(content).encode()


def test_the_key_is_readable_text():
    """The key names fingerprint, buckets, route and format version."""
    assert KEY.text == "func:0123456789abcdef_size:medium_time:fast_route:caller_v:4"


def test_a_file_name_gives_its_key_back():
    """The file's name holds the whole key, without a character that a file system refuses."""
    for key in (KEY, KEY._replace(route="processes/fork"), KEY._replace(route="dask/8x4")):
        assert Key.of_filename(key.filename) == key
        assert not set(":/\\") & set(key.filename)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "notes.json",
        "0123456789abcdef-medium-fast-v1.txt",
        "0123456789abcdef-medium-fast-v.json",
        "0123456789abcdef-medium-fast-x1.json",
        "0123456789abcdef-medium-fast.json",
        "0123456789abcdef-huge-fast-v1.json",
        "0123456789abcdef-medium-quick-v1.json",
        "0123456789abcdeg-medium-fast-v1.json",
        "0123456789abcde-medium-fast-v1.json",
    ],
)
def test_other_file_names_are_not_ours(name):
    """Only names that an entry of some format version can have are recognised."""
    assert Key.of_filename(name) is None


def test_other_format_versions_are_ours():
    """A file of a later format is recognised as an entry, so that clearing leaves nothing behind."""
    assert Key.of_filename("0123456789abcdef-medium-fast-caller-v12.json") == KEY
    assert not is_outdated("0123456789abcdef-medium-fast-caller-v12.json")


def test_the_first_format_had_no_routes():
    """Its files are ours, and out of date."""
    assert Key.of_filename("0123456789abcdef-medium-fast-v1.json") == KEY
    assert is_outdated("0123456789abcdef-medium-fast-v1.json")
    assert not is_outdated(KEY.filename)
    assert not is_outdated("somebody-elses-v1.json")


def test_a_profile_belongs_to_its_keys_route():
    """What a file says of another route is no entry of this one."""
    with pytest.raises(ValueError, match="another route"):
        decode(changed(profile__route="processes/fork"), KEY)


def test_an_entry_survives_its_file():
    """Encoding and decoding give the same entry."""
    for entry in (ENTRY, ENTRY._replace(plan=None), ENTRY._replace(system=SYSTEM._replace(available_memory=None))):
        assert decode(encode(entry), KEY) == entry


def test_a_file_has_the_documented_fields_in_about_a_kilobyte():
    """People can read profile, plan, time, version and system in the file."""
    data = encode(ENTRY)
    content = json.loads(data)
    assert set(content) == {"version", "key", "function", "n_items", "timestamp", "system", "profile", "plan"}
    assert set(content["plan"]) == {"n_jobs", "chunksize", "backend", "estimated_speedup", "reason", "warnings"}
    assert set(content["system"]) == {"physical_cores", "start_method", "available_memory", "platform", "python"}
    assert len(data) < 1_500


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"3",
        b"\xff\xfe",
        b'{"version": 1}',
        b"[" * 10_000,
        b'{"a":' * 3_000,
        b"9" * 10_000,
        changed(key="func:0_size:medium_time:fast_v:1"),
        changed(system=None),
        changed(system=[]),
        changed(system={}),
        changed(profile=None),
        changed(profile="x"),
        changed(plan=3),
        changed(plan={}),
        changed(timestamp="now"),
        changed(timestamp=-1),
        changed(timestamp=True),
        changed(timestamp=float("nan")),
        changed(function=3),
        changed(function="x" * 1_000),
        changed(n_items=None),
        changed(n_items=-1),
        changed(n_items=1.5),
        changed(n_items=10**30),
        changed(system__physical_cores=0),
        changed(system__physical_cores=True),
        changed(system__start_method=None),
        changed(system__available_memory=-1),
        changed(system__available_memory="much"),
        changed(system__platform=1),
        changed(system__python=[]),
        changed(profile__items=0),
        changed(profile__seconds_per_item=-1.0),
        changed(profile__seconds_per_item=float("nan")),
        changed(profile__seconds_per_item=float("inf")),
        changed(profile__seconds_per_item="0.0005"),
        changed(profile__seconds_per_item=0.5),
        changed(profile__seconds_std=-1),
        changed(profile__seconds_max=1e300),
        changed(profile__cpu_share=None),
        changed(profile__bytes_in=-1),
        changed(profile__bytes_out=10**400),
        changed(profile__transfer_seconds_per_item=[]),
        changed(profile__memory_bytes=None),
        changed(plan__n_jobs=0),
        changed(plan__chunksize=2.0),
        changed(plan__backend=7),
        changed(plan__estimated_speedup=-1),
        changed(plan__reason=None),
        changed(plan__warnings="text"),
        changed(plan__warnings=["x"] * 100),
        changed(plan__warnings=[3]),
    ],
)
def test_wrong_content_is_refused(data):
    """Every field has its type and range checked, and every malformed file is a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        decode(data, KEY)


@pytest.mark.parametrize("version", [0, 1, 2, 3, 5, "4", None, [3], "long" * 100])
def test_another_format_version_is_told_apart(version):
    """A file of another format is named as such."""
    with pytest.raises(FormatError, match="not 4"):
        decode(changed(version=version), KEY)


def test_numbers_are_given_out_as_floats():
    """A whole number in a file is as good as a float, and arrives as one."""
    found = decode(changed(profile__bytes_in=7, timestamp=1_000), KEY)
    assert type(found.profile.bytes_in) is float
    assert type(found.timestamp) is float


def test_a_profile_that_was_never_measured_is_refused_on_the_way_in():
    """What `decode` would refuse is not stored either."""
    with pytest.raises(ValueError, match="seconds_std"):
        checked(ENTRY._replace(profile=PROFILE._replace(seconds_std=float("nan"))))


@pytest.mark.parametrize(
    ("now", "system", "expected"),
    [
        (1e9, SYSTEM, None),
        (1e9 + 100, SYSTEM, None),
        (1e9 + 101, SYSTEM, "expired"),
        (1e9 - 101, SYSTEM, "expired"),
        (1e9, SYSTEM._replace(physical_cores=4), "physical_cores"),
        (1e9, SYSTEM._replace(start_method="spawn"), "start_method"),
        (1e9, SYSTEM._replace(available_memory=None), None),
    ],
)
def test_validity_follows_age_and_machine(now, system, expected):
    """An entry serves until its time is over or the machine is another."""
    assert fault(ENTRY, system, now, 100) == expected


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        (100, 80, False),
        (100, 79, True),
        (100, 120, False),
        (100, 121, True),
        (None, 1, False),
        (1, None, False),
        (0, 1, True),
    ],
)
def test_memory_has_changed_from_a_fifth_on(then, now, expected):
    """Free memory may move by a fifth either way."""
    assert memory_changed(then, now) is expected


class Planned:
    """Stands for a plan, with the attributes that are kept of one."""

    n_jobs = 2
    chunksize = 10
    backend = "processes"
    estimated_speedup = 1.8
    reason = "r" * 1_000
    warnings = ("w" * 1_000,) * 50


def test_a_stored_plan_is_bounded():
    """Long texts of a plan are cut, so that an entry stays small enough to be read."""
    plan = stored_plan(Planned())
    assert decode(encode(ENTRY._replace(plan=plan)), KEY).plan == plan
    assert len(encode(ENTRY._replace(plan=plan))) < 16_384


@pytest.mark.parametrize("speedup", [float("inf"), float("nan"), -1.0])
def test_a_speedup_that_is_no_number_is_left_out(speedup):
    """A plan that predicts no time at all is still stored."""
    plan = Planned()
    plan.estimated_speedup = speedup
    assert stored_plan(plan).estimated_speedup == 0.0
