from __future__ import annotations

import functools
import json
import logging
import os
import random
import shutil
import threading

import pytest

import amorsize.cache.memory as memory_module
from amorsize.cache import disk, lookup
from amorsize.cache.entry import Key, System
from amorsize.cache.lookup import Found, cache_stats, clear_cache, find, prune_expired_cache, store
from amorsize.plan.profile import WorkProfile
from amorsize.state import reset_all

SYSTEM = System(8, "fork", 10**9, "linux", "3.11.7")
FAST = WorkProfile(20, 0.0005)
SLOW = WorkProfile(20, 0.05)
NOW = 1_000_000_000.0
DAY = 24 * 3600.0


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def work(x):
    return x + 1


def other(x):
    return x + 2


def the_file():
    (name,) = [name for name in os.listdir(disk.folder()) if name.endswith(".json")]
    return os.path.join(disk.folder(), name)


def content():
    with open(the_file()) as file:
        return json.load(file)


class Planned:
    """Stands for a plan, with the attributes that are kept of one."""

    n_jobs, chunksize, backend, estimated_speedup, reason, warnings = 2, 10, "processes", 1.8, "it pays", ()


class Unusual:
    """A callable whose attributes cannot be read."""

    def __getattr__(self, name):
        raise RuntimeError(name)

    def __call__(self, x):
        return x


def test_nothing_is_known_of_a_new_function():
    """The first look-up is a miss, and creates nothing on disk."""
    assert find(work, 500, SYSTEM) == Found(None, "new")
    assert not os.path.exists(disk.folder())


def test_what_was_stored_is_found():
    """A profile is found for every length of the same size."""
    store(work, 500, FAST, Planned(), SYSTEM)
    found = find(work, 999, SYSTEM)
    assert (found.profile, found.reason, found.plan_stale) == (FAST, "hit", False)
    assert found.key.endswith("_size:medium_time:fast_route:caller_v:4")
    assert find(work, 1_000, SYSTEM).reason == "new"
    assert find(other, 500, SYSTEM).reason == "new"


def test_the_next_process_finds_it_too():
    """What was stored is read from disk when nothing is in memory, with the plan for people to read."""
    store(work, 500, FAST, Planned(), SYSTEM)
    reset_all()
    assert find(work, 500, SYSTEM).profile == FAST
    assert content()["plan"]["reason"] == "it pays"
    assert content()["function"] == f"{__name__}.work"


def test_a_second_look_up_needs_no_disk(monkeypatch):
    """After the first look-up everything known is in memory, misses included."""
    store(work, 500, FAST, None, SYSTEM)
    reset_all()
    find(work, 500, SYSTEM)
    find(other, 500, SYSTEM)
    monkeypatch.setattr(disk, "usable_folder", None)
    assert find(work, 500, SYSTEM).reason == "hit"
    assert find(other, 500, SYSTEM).reason == "new"


def test_an_input_of_unknown_length_gets_the_newest_profile(clock):
    """Without a length, the newest entry of any size serves, from memory and disk together."""
    assert find(work, None, SYSTEM, clock=clock).reason == "new"
    store(work, 5, FAST, None, SYSTEM, clock=clock)
    clock.now += 1
    store(work, 50_000, SLOW, None, SYSTEM, clock=clock)
    assert find(work, None, SYSTEM, clock=clock).profile == SLOW
    reset_all()
    find(work, 5, SYSTEM, clock=clock)
    assert find(work, None, SYSTEM, clock=clock).profile == SLOW


def test_the_newest_time_bucket_is_trusted_provisionally(clock):
    """Before anything was timed, the newest entry of the size answers, in this process and the next."""
    store(work, 500, SLOW, None, SYSTEM, clock=clock)
    clock.now += 1
    store(work, 500, FAST, None, SYSTEM, clock=clock)
    assert find(work, 500, SYSTEM, clock=clock).profile == FAST
    clock.now += 1
    store(work, 500, SLOW, None, SYSTEM, clock=clock)
    assert find(work, 500, SYSTEM, clock=clock).profile == SLOW
    reset_all()
    assert find(work, 500, SYSTEM, clock=clock).profile == SLOW


def test_first_items_that_contradict_the_entry_switch_to_another(clock):
    """With an entry in the right time bucket, that one answers instead."""
    store(work, 500, SLOW, None, SYSTEM, clock=clock)
    store(work, 500, FAST, None, SYSTEM, clock=clock)
    assert find(work, 500, SYSTEM, seconds_per_item=0.03, clock=clock).profile == SLOW


def test_first_items_that_contradict_every_entry_are_a_miss():
    """Without an entry in the right time bucket, the reason is the time."""
    store(work, 500, FAST, None, SYSTEM)
    assert find(work, 500, SYSTEM, seconds_per_item=0.5) == Found(None, "time")


def test_first_items_near_the_entry_confirm_it():
    """Noise around a boundary does not switch."""
    store(work, 500, FAST, None, SYSTEM)
    assert find(work, 500, SYSTEM).profile == FAST
    assert find(work, 500, SYSTEM, seconds_per_item=0.0019).profile == FAST


def test_what_was_measured_on_another_route_is_not_used():
    """Neither that of workers started otherwise, nor that of a standard Pool."""
    store(work, 500, FAST._replace(route="processes/spawn"), None, SYSTEM)
    store(work, 500, FAST._replace(route="pool/fork"), None, SYSTEM)

    assert find(work, 500, SYSTEM, route="processes/fork") == Found(None, "new")
    assert find(work, 500, SYSTEM) == Found(None, "new")


@pytest.mark.parametrize("fresh_process", [False, True])
def test_each_place_is_priced_by_its_own_measurement(fresh_process):
    """The caller by the caller's, workers by theirs; where one is known, it serves for both."""
    there = FAST._replace(route="processes/fork", seconds_per_item=2 * FAST.seconds_per_item)
    store(work, 500, there, None, SYSTEM)
    if fresh_process:
        reset_all()
    alone = find(work, 500, SYSTEM, route="processes/fork").profile
    store(work, 500, FAST, None, SYSTEM)
    both = find(work, 500, SYSTEM, route="processes/fork").profile

    assert alone == there._replace(worker_seconds_per_item=there.seconds_per_item)
    assert both == FAST._replace(worker_seconds_per_item=there.seconds_per_item)
    assert find(work, 500, SYSTEM).profile == FAST


def there(seconds):
    return FAST._replace(route="processes/fork", seconds_per_item=seconds)


def both(clock, seconds=0.0):
    """Return what is known in the caller and on workers, that much later."""
    clock.now += seconds
    return find(work, 500, SYSTEM, route="processes/fork", clock=clock).profile


def test_the_newer_measurement_says_what_items_take_now(clock):
    """Where one followed the other it was measured how many times as long workers take, and the newer one counts."""
    store(work, 500, FAST, None, SYSTEM, clock=clock)
    clock.now += 1
    store(work, 500, there(0.0008), None, SYSTEM, clock=clock)
    first = both(clock)
    clock.now += 1
    store(work, 500, there(0.0016), None, SYSTEM, clock=clock)
    longer_there = both(clock)
    clock.now += 1
    store(work, 500, FAST._replace(seconds_per_item=0.0004), None, SYSTEM, clock=clock)
    shorter_here = both(clock)

    assert [one.slowdown for one in (first, longer_there, shorter_here)] == pytest.approx([1.6] * 3)
    assert (first.seconds_per_item, first.worker_seconds_per_item) == pytest.approx((0.0005, 0.0008))
    assert (longer_there.seconds_per_item, longer_there.worker_seconds_per_item) == pytest.approx((0.001, 0.0016))
    assert (shorter_here.seconds_per_item, shorter_here.worker_seconds_per_item) == pytest.approx((0.0004, 0.00064))


def test_of_an_uncertain_comparison_half_is_believed(clock):
    """On the scale of ratios, where items are so unlike that their means are uncertain."""
    store(work, 500, FAST._replace(items=5, seconds_std=0.001), None, SYSTEM, clock=clock)
    clock.now += 1
    store(work, 500, there(0.002), None, SYSTEM, clock=clock)

    assert both(clock).slowdown == pytest.approx(2.0)


def test_neighbours_tell_more_than_means_of_a_whole_call(clock):
    """Items that grow on the way make the later ones, on workers, longer than the first ones in the caller."""
    store(work, 500, FAST, None, SYSTEM, clock=clock)
    clock.now += 1
    store(work, 500, there(0.0025), None, SYSTEM, slowdown_seen=(1.1, 40), clock=clock)

    assert both(clock).slowdown == pytest.approx(1.1)
    assert both(clock).seconds_per_item == pytest.approx(0.0025 / 1.1)


@pytest.mark.parametrize(("whole", "neighbours", "expected"), [(1.3, 21.0, 1.3), (0.4, 1.1, 1.1), (1.8, 1.7, 1.7)])
def test_the_smaller_difference_counts(clock, whole, neighbours, expected):
    """Workers may have paid for something once, and items may shrink on the way."""
    store(work, 500, FAST, None, SYSTEM, clock=clock)
    clock.now += 1
    seen = neighbours, 40
    store(work, 500, there(whole * FAST.seconds_per_item), None, SYSTEM, slowdown_seen=seen, clock=clock)

    assert both(clock).slowdown == pytest.approx(expected)


def test_of_few_unlike_neighbours_half_is_believed(clock):
    """However many items the whole call had."""
    spread = FAST._replace(items=1000, seconds_std=FAST.seconds_per_item)
    store(work, 500, spread, None, SYSTEM, clock=clock)
    clock.now += 1
    store(work, 500, there(0.0025)._replace(items=1000), None, SYSTEM, slowdown_seen=(1.44, 40), clock=clock)

    assert both(clock).slowdown == pytest.approx(1.2)


def test_what_calls_on_workers_cost_is_kept_with_their_profile(clock):
    """It is told together with the caller's own profile."""
    store(work, 500, FAST, None, SYSTEM, clock=clock)
    clock.now += 1
    store(work, 500, there(0.0005)._replace(call_seconds=0.003, load_seconds=1.5), None, SYSTEM, clock=clock)
    reset_all()

    assert (both(clock).call_seconds, both(clock).load_seconds) == (0.003, 1.5)


def test_a_profile_is_not_written_again_at_once(clock):
    """Times vary from call to call, and a write takes as long as a short call."""
    store(work, 500, FAST, None, SYSTEM, clock=clock)
    before = content()
    clock.now += 0.5
    store(work, 500, FAST._replace(seconds_per_item=0.0009), None, SYSTEM, clock=clock)
    assert content() == before
    clock.now += 1.0
    store(work, 500, FAST._replace(seconds_per_item=0.0009), None, SYSTEM, clock=clock)
    assert content() != before


def test_files_of_older_formats_are_misses_and_pruned():
    """Nobody reads them any more; files of a later format may have their readers."""
    store(work, 500, FAST, None, SYSTEM)
    reset_all()
    file = the_file()
    name = os.path.basename(file)
    for other_name in (name.replace("-caller-v4", "-v1"), name.replace("-v4", "-v2"), name.replace("-v4", "-v5")):
        shutil.copy(file, os.path.join(disk.folder(), other_name))
    os.unlink(file)

    assert find(work, 500, SYSTEM) == Found(None, "new")
    assert prune_expired_cache() == 2
    assert os.path.basename(the_file()) == name.replace("-v4", "-v5")


def test_the_right_bucket_must_be_valid_too(clock):
    """An expired entry of the right time bucket is not switched to."""
    store(work, 500, SLOW, None, SYSTEM, clock=clock)
    clock.now += 8 * DAY
    store(work, 500, FAST, None, SYSTEM, clock=clock)
    assert find(work, 500, SYSTEM, seconds_per_item=0.03, clock=clock).reason == "time"


@pytest.mark.parametrize("fresh_process", [False, True])
def test_an_entry_expires(clock, fresh_process):
    """After seven days, or the time that was asked for, an entry is a miss."""
    store(work, 500, FAST, None, SYSTEM, clock=clock)
    if fresh_process:
        reset_all()
    clock.now += 7 * DAY
    assert find(work, 500, SYSTEM, clock=clock).reason == "hit"
    assert find(work, 500, SYSTEM, clock=clock, ttl_seconds=DAY).reason == "expired"
    clock.now += 1
    assert find(work, 500, SYSTEM, clock=clock).reason == "expired"


def test_another_machine_is_a_miss():
    """Other cores or another start method make an entry unfit."""
    store(work, 500, FAST, None, SYSTEM)
    assert find(work, 500, SYSTEM._replace(physical_cores=4)).reason == "physical_cores"
    assert find(work, 500, SYSTEM._replace(start_method="spawn")).reason == "start_method"


def test_an_older_entry_serves_where_the_newest_does_not(clock):
    """The newest entry that is valid here is taken."""
    store(work, 500, SLOW, None, SYSTEM, clock=clock)
    clock.now += 1
    store(work, 500, FAST, None, SYSTEM._replace(physical_cores=4), clock=clock)
    assert find(work, 500, SYSTEM, clock=clock).profile == SLOW


def test_of_several_entries_that_do_not_serve_the_newest_gives_the_reason(clock):
    """The miss is explained by the entry that would have answered."""
    store(work, 500, SLOW, None, SYSTEM._replace(start_method="spawn"), clock=clock)
    clock.now += 1
    store(work, 500, FAST, None, SYSTEM._replace(physical_cores=4), clock=clock)
    assert find(work, 500, SYSTEM, clock=clock).reason == "physical_cores"


def test_changed_memory_discards_the_plan_and_keeps_the_profile():
    """What was measured stays true when memory is short; a plan does not."""
    store(work, 500, FAST, None, SYSTEM)
    found = find(work, 500, SYSTEM._replace(available_memory=10**8))
    assert (found.profile, found.reason, found.plan_stale) == (FAST, "available_memory", True)


def test_a_callable_that_cannot_be_described_is_a_miss():
    """Whatever a user's object raises when it is looked at stays inside the cache."""
    assert find(Unusual(), 500, SYSTEM) == Found(None, "function")
    store(Unusual(), 500, FAST, None, SYSTEM)
    assert not os.path.exists(disk.folder())


def test_a_profile_out_of_range_is_not_stored():
    """A measurement that went wrong is left out, and the run goes on."""
    store(work, 500, FAST._replace(seconds_per_item=float("nan")), None, SYSTEM)
    store(work, 500, FAST._replace(seconds_std=-1.0), None, SYSTEM)
    assert find(work, 500, SYSTEM).reason == "new"


def test_partials_are_labelled_by_their_function():
    """A partial is listed under the name of the function in it, another callable under its class."""
    for func in (functools.partial(work), functools.partial(functools.partial(print, 1)), len):
        store(func, 500, FAST, None, SYSTEM)
    assert {entry.function for entry in lookup.entries()} == {f"{__name__}.work", "builtins.print", "builtins.len"}


def stored_again(clock, profile=FAST, system=SYSTEM):
    """Tell whether storing a second profile writes to disk again."""
    store(work, 500, FAST, None, SYSTEM, clock=clock)
    clock.now += 1
    store(work, 500, profile, None, system, clock=clock)
    assert find(work, 500, system, clock=clock).profile == profile
    return content()["timestamp"] == clock.now


@pytest.mark.parametrize(
    ("profile", "system", "written"),
    [
        (FAST, SYSTEM, False),
        (FAST._replace(seconds_per_item=0.00055), SYSTEM, False),
        (FAST._replace(seconds_per_item=0.00061), SYSTEM, True),
        (FAST._replace(seconds_per_item=0.00039), SYSTEM, True),
        (FAST._replace(bytes_in=10.0), SYSTEM, True),
        (FAST._replace(bytes_out=10.0), SYSTEM, True),
        (FAST, SYSTEM._replace(physical_cores=4), True),
        (FAST, SYSTEM._replace(available_memory=10**8), True),
    ],
)
def test_only_news_is_written(clock, profile, system, written):
    """A profile that would not change the next process's start stays in memory."""
    assert stored_again(clock, profile, system) is written


def test_small_changes_add_up_to_news(clock):
    """What is compared is what the file holds, so that a slow drift is written too."""
    for step in range(5):
        clock.now += 1
        store(work, 500, FAST._replace(seconds_per_item=0.0005 * 1.1**step), None, SYSTEM, clock=clock)
    assert content()["profile"]["seconds_per_item"] > 0.0006


def test_an_old_file_is_written_again(clock):
    """A function in daily use does not expire on disk."""
    store(work, 500, FAST, None, SYSTEM, clock=clock)
    clock.now += DAY + 1
    store(work, 500, FAST, None, SYSTEM, clock=clock)
    assert content()["timestamp"] == clock.now


def test_a_failed_write_is_made_up_for(monkeypatch):
    """A full disk costs the file, not the memory, and the next run tries again."""
    with monkeypatch.context() as patch:
        patch.setattr(disk, "write", lambda *args: (_ for _ in ()).throw(OSError("full")))
        store(work, 500, FAST, None, SYSTEM)
    assert find(work, 500, SYSTEM).profile == FAST
    assert cache_stats().entries == 0
    store(work, 500, FAST, None, SYSTEM)
    assert cache_stats().entries == 1


def test_the_number_of_files_is_bounded(clock, monkeypatch):
    """At each hundredth write the oldest files beyond the room go."""
    monkeypatch.setattr(disk, "ROOM_ENTRIES", 3)
    for number in range(100):
        clock.now += 1
        store(functools.partial(work, number), 500, FAST, None, SYSTEM, clock=clock)
    assert cache_stats().entries == 3
    assert [entry.timestamp for entry in lookup.entries()] == [NOW + 100, NOW + 99, NOW + 98]


def test_memory_is_bounded(monkeypatch):
    """Beyond the bound the functions not used for longest leave memory, and are found on disk."""
    monkeypatch.setattr(memory_module, "_MAX_GROUPS", 2)
    functions = [functools.partial(work, number) for number in range(4)]
    for function in functions:
        store(function, 500, FAST, None, SYSTEM)
    assert len(memory_module.memory._groups) == 2
    assert all(find(function, 500, SYSTEM).profile == FAST for function in functions)
    assert len(memory_module.memory._groups) == 2


def test_clearing_removes_everything_and_counts_it():
    """Entries in memory and on disk go, each counted once; other files stay."""
    assert clear_cache() == 0
    store(work, 500, FAST, None, SYSTEM)
    store(work, 5, FAST, None, SYSTEM)
    stranger = os.path.join(disk.folder(), "notes.txt")
    with open(stranger, "w"):
        pass
    assert clear_cache() == 2
    assert os.listdir(disk.folder()) == ["notes.txt"]
    assert find(work, 500, SYSTEM).reason == "new"


def test_pruning_removes_what_is_expired_and_counts_it(clock):
    """Entries older than the limit go from memory and disk; younger ones stay."""
    assert prune_expired_cache(clock=clock) == 0
    store(work, 500, FAST, None, SYSTEM, clock=clock)
    clock.now += 100
    store(other, 500, FAST, None, SYSTEM, clock=clock)
    assert prune_expired_cache(clock=clock) == 0
    assert prune_expired_cache(ttl_seconds=50, clock=clock) == 1
    assert find(work, 500, SYSTEM, clock=clock).reason == "new"
    assert find(other, 500, SYSTEM, clock=clock).reason == "hit"


@pytest.mark.parametrize("wrong", [True, "7", None])
def test_pruning_wants_a_number(wrong):
    """An age that is not a number is a TypeError."""
    with pytest.raises(TypeError, match="ttl_seconds must be a number"):
        prune_expired_cache(wrong)


@pytest.mark.parametrize("wrong", [-1, float("nan")])
def test_pruning_wants_a_number_of_seconds(wrong):
    """A negative or undefined age is a ValueError."""
    with pytest.raises(ValueError, match="ttl_seconds must be 0 or more"):
        prune_expired_cache(wrong)


def test_statistics_tell_hits_from_misses():
    """Look-ups are counted by outcome, and files by number and length."""
    find(work, 500, SYSTEM)
    store(work, 500, FAST, None, SYSTEM)
    find(work, 500, SYSTEM)
    find(work, 500, SYSTEM, seconds_per_item=1.0)
    stats = cache_stats()
    assert (stats.hits, stats.misses, stats.misses_by_reason) == (1, 2, {"new": 1, "time": 1})
    assert (stats.entries, stats.bytes) == (1, os.path.getsize(the_file()))


def test_the_folder_is_told_as_a_path(amorsize_cache):
    """`get_cache_dir` answers before anything was written."""
    assert lookup.get_cache_dir() == amorsize_cache / "optimization_cache"


@pytest.mark.parametrize("data", [b"", b"garbage", b"[" * 9_000, b"x" * 100_000, b'{"version": 4}'])
def test_a_damaged_file_is_a_miss_and_one_debug_line(data, caplog):
    """Whatever stands in a file, the look-up answers, says why at debug level, and the next store mends it."""
    store(work, 500, FAST, None, SYSTEM)
    with open(the_file(), "wb") as file:
        file.write(data)
    reset_all()
    with caplog.at_level(logging.DEBUG, "amorsize"):
        assert find(work, 500, SYSTEM) == Found(None, "damaged")
    assert len(caplog.records) == 1
    assert lookup.entries() == []
    store(work, 500, FAST, None, SYSTEM)
    reset_all()
    assert find(work, 500, SYSTEM).profile == FAST


def test_a_file_of_another_format_is_a_miss_with_that_reason():
    """A later version's entry is left for that version."""
    store(work, 500, FAST, None, SYSTEM)
    changed = {**content(), "version": 99}
    with open(the_file(), "w") as file:
        json.dump(changed, file)
    reset_all()
    assert find(work, 500, SYSTEM) == Found(None, "format")


def test_two_hundred_damaged_files_are_all_answered():
    """Random damage gives the right profile or a miss, never an error and never a profile out of range."""
    store(work, 500, FAST, Planned(), SYSTEM)
    with open(the_file(), "rb") as file:
        whole = file.read()
    for seed in range(200):
        damaged = damage(whole, random.Random(seed))
        with open(the_file(), "wb") as file:
            file.write(damaged)
        reset_all()
        found = find(work, 500, SYSTEM)
        assert found.profile is None or 1e-4 <= found.profile.seconds_per_item < 1e-3


def damage(data, rng):
    """Return `data` after one to four random injuries: cut, doubled, or with something foreign in it."""
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        end = place + rng.randrange(40)
        foreign = rng.choice([b"9", b"-", b"e99", b"[", b"null", b"true", rng.randbytes(10), data[place:end] * 3])
        data = data[:place] + foreign + data[rng.choice([place, end, len(data)]) :]
    return data


def test_an_untrusted_folder_is_a_miss_and_is_left_alone(caplog):
    """With a file where the folder should be, look-ups miss, stores keep to memory, and nothing is removed."""
    os.makedirs(os.path.dirname(disk.folder()), 0o700)
    with open(disk.folder(), "w"):
        pass
    with caplog.at_level(logging.DEBUG, "amorsize"):
        assert find(work, 500, SYSTEM).reason == "new"
    assert len(caplog.records) == 1
    store(work, 500, FAST, None, SYSTEM)
    assert find(work, 500, SYSTEM).profile == FAST
    assert (cache_stats().entries, prune_expired_cache(), clear_cache()) == (0, 0, 1)
    assert os.path.isfile(disk.folder())


def test_another_thread_may_be_faster():
    """Of two threads that read the same entries from disk, both use what the first one kept."""
    store(work, 500, FAST, None, SYSTEM)
    (held,) = memory_module.memory.get(lookup.fingerprints.fingerprint(work), "medium", "caller")
    key = held.entry.key
    assert memory_module.memory.fill(key.func, key.size, key.route, ()) == (held,)


def test_many_threads_look_up_and_store_at_once():
    """Nothing is lost or counted twice under concurrent use."""
    barrier = threading.Barrier(4)
    found = []

    def use():
        barrier.wait()
        for number in range(50):
            store(functools.partial(work, number), 500, FAST, None, SYSTEM)
            found.append(find(functools.partial(work, number), 500, SYSTEM).profile)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [FAST] * 200
    assert (cache_stats().hits, cache_stats().entries) == (200, 50)


def test_entries_are_listed_newest_first(clock):
    """What is on disk can be listed for people."""
    with pytest.raises(FileNotFoundError):
        lookup.entries()
    for func in (work, other):
        clock.now += 1
        store(func, 500, FAST, None, SYSTEM, clock=clock)
    assert [entry.function for entry in lookup.entries()] == [f"{__name__}.other", f"{__name__}.work"]
    assert lookup.entries()[0].key == Key(lookup.fingerprints.fingerprint(other), "medium", "fast")
