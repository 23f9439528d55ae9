"""The machine as `amorsize.measure` reads it: containers from trees built here, the rest by its own rules."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from amorsize.measure import container, machine, platforms
from amorsize.measure.startup import (
    DEFAULT_BYTES_PER_SECOND,
    DEFAULT_CHUNK_SECONDS,
    DEFAULT_MODULE_SECONDS,
    DEFAULT_STARTS,
    LEAST_MODULES_OBSERVED,
    RUNNING_FORKSERVER,
    SLOW_OBSERVATION,
    Costs,
)

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's own files")


@pytest.fixture
def tree(tmp_path):
    """Return a function that writes files below a root of their own and returns that root."""

    def build(files):
        for path, text in files.items():
            target = tmp_path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(tmp_path)

    return build


V2 = {"proc/self/cgroup": "0::/\n"}
V1 = {"proc/self/cgroup": "9:name=systemd:/\n4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n"}


@pytest.mark.parametrize(
    ("cpu_max", "cores"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("150000", 2),
        ("800000 200000\n", 4),
        ("max 100000", None),
        ("", None),
        ("\n\n", None),
        ("max", None),
        ("none at all", None),
        ("100000 0", None),
        ("-1 100000", None),
        ("200000 odd", 2),
        (b"\xff\xfe\x00", None),
    ],
)
def test_cpu_quota_of_version_2(tree, cpu_max, cores):
    """A quota is rounded up to whole cores, and an odd file is no quota."""
    assert container.cpu_limit(tree({**V2, "sys/fs/cgroup/cpu.max": cpu_max})) == cores


@pytest.mark.parametrize(
    ("quota", "period", "cores"),
    [("200000", "100000", 2), ("-1", "100000", None), ("150000", "", 2), ("", "100000", None), ("50000", "50000", 1)],
)
@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_cpu_quota_of_version_1(tree, mount, quota, period, cores):
    """Version 1 tells quota and period in two files, below a mount named for one controller or several."""
    folder = f"sys/fs/cgroup/{mount}/docker/abc"
    root = tree({**V1, f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": period})
    assert container.cpu_limit(root) == cores


def test_least_quota_of_nested_groups_counts(tree):
    """A limit may stand at any level above the process's own group."""
    root = tree(
        {
            "proc/self/cgroup": "0::/pod/container/job\n",
            "sys/fs/cgroup/cpu.max": "max 100000",
            "sys/fs/cgroup/pod/cpu.max": "300000 100000",
            "sys/fs/cgroup/pod/container/cpu.max": "600000 100000",
        }
    )
    assert container.cpu_limit(root) == 3


def test_group_that_is_not_mounted_falls_back_to_what_is(tree):
    """Inside a container the group's path is often the host's, and its own folder stands at the mount's root."""
    folder = "sys/fs/cgroup/cpu,cpuacct"
    root = tree({**V1, f"{folder}/cpu.cfs_quota_us": "200000", f"{folder}/cpu.cfs_period_us": "100000"})
    assert container.cpu_limit(root) == 2


def test_group_outside_the_namespace_is_read_at_the_root(tree):
    """A path that climbs out of the mount is not followed."""
    root = tree({"proc/self/cgroup": "0::/../../other\n", "sys/fs/cgroup/cpu.max": "200000 100000"})
    assert container.cpu_limit(root) == 2


def test_version_2_beside_version_1_is_found(tree):
    """On a hybrid system the unified tree is mounted one level down."""
    root = tree({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/unified/job/cpu.max": "400000 100000"})
    assert container.cpu_limit(root) == 4


@pytest.mark.parametrize("text", ["", "nonsense", "::::", "0:", "0::", "a:b:c\n\n0:cpu"])
def test_odd_list_of_groups_is_no_limit(tree, text):
    """Whatever the process's list of groups holds, reading it does not raise."""
    root = tree({"proc/self/cgroup": text})
    assert container.cpu_limit(root) is None
    assert container.free_memory(root) is None


def test_no_control_groups_is_no_limit(tmp_path):
    """A system without the files has no limits to tell."""
    assert container.cpu_limit(str(tmp_path)) is None
    assert container.free_memory(str(tmp_path)) is None


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
def test_arbitrary_files_never_raise(tmp_path_factory, cpu_max, memory_max, current):
    """Any bytes at all in the files give a number of at least its least, or none."""
    root = tmp_path_factory.mktemp("root")
    group = root / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/\n")
    for name, text in (("cpu.max", cpu_max), ("memory.max", memory_max), ("memory.current", current)):
        (group / name).write_bytes(text)
    cores, free = container.cpu_limit(str(root)), container.free_memory(str(root))
    assert cores is None or cores >= 1
    assert free is None or free >= 0


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"memory.max": "1000", "memory.current": "400"}, 600),
        ({"memory.max": "1000", "memory.current": "400", "memory.stat": "anon 1\ninactive_file 100\n"}, 700),
        ({"memory.max": "1000", "memory.current": "400", "memory.stat": "inactive_file 9999\n"}, 1000),
        ({"memory.max": "1000", "memory.current": "400", "memory.stat": "inactive_file\n"}, 600),
        ({"memory.max": "1000", "memory.current": "1400"}, 0),
        ({"memory.max": "1000", "memory.high": "700", "memory.current": "400"}, 300),
        ({"memory.max": "max", "memory.current": "400"}, None),
        ({"memory.max": "1000"}, None),
        ({"memory.max": "", "memory.current": ""}, None),
    ],
)
def test_memory_of_version_2(tree, files, free):
    """What is granted is the limit less what is used, page cache that would be given back not counted as used."""
    root = tree({**V2, **{f"sys/fs/cgroup/{name}": text for name, text in files.items()}})
    assert container.free_memory(root) == free


def test_memory_of_version_1(tree):
    """Version 1 names the same facts otherwise, and says "no limit" with a huge number at the levels that have none."""
    mount = "sys/fs/cgroup/memory"
    root = tree(
        {
            **V1,
            f"{mount}/memory.limit_in_bytes": "9223372036854771712",
            f"{mount}/memory.usage_in_bytes": "5",
            f"{mount}/docker/abc/memory.limit_in_bytes": "1000",
            f"{mount}/docker/abc/memory.usage_in_bytes": "500",
            f"{mount}/docker/abc/memory.stat": "total_inactive_file 50",
        }
    )
    assert container.free_memory(root) == 550


@linux_only
def test_quota_narrows_cores_and_never_widens_them(monkeypatch):
    """The least of affinity and quota counts."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    monkeypatch.setattr(machine, "_cpu_limit", lambda: 3)
    assert machine.cores() == 3
    monkeypatch.setattr(machine, "_cpu_limit", lambda: 64)
    assert machine.cores() == 8


@linux_only
@pytest.mark.skipif(sys.version_info < (3, 13), reason="the variable is newer")
def test_python_cpu_count_narrows_the_affinity_and_never_widens_it(monkeypatch):
    """PYTHON_CPU_COUNT is heeded downwards only."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    monkeypatch.setattr(os, "process_cpu_count", lambda: 2)
    assert platforms.usable_cores() == 2
    monkeypatch.setattr(os, "process_cpu_count", lambda: 99)
    assert platforms.usable_cores() == 8


@pytest.mark.parametrize(("count", "cores"), [(6, 6), (None, 1)])
def test_cores_without_affinity_are_the_logical_ones(monkeypatch, count, cores):
    """A system without affinity tells its logical cores, and one that tells nothing has one."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: count, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: count)
    assert platforms.usable_cores() == cores


@linux_only
def test_physical_cores_count_sibling_sets_once(tree):
    """Four logical processors in two pairs are two cores; one that is switched off has no topology."""
    folder = "sys/devices/system/cpu"
    files = {f"{folder}/cpu{n}/topology/core_cpus_list": f"{n % 2},{n % 2 + 2}\n" for n in range(4)}
    assert platforms.physical_cores(tree({**files, f"{folder}/cpu4/online": "0", f"{folder}/cpufreq/x": ""})) == 2


@linux_only
def test_physical_cores_from_the_older_name(tree):
    """Older kernels call the siblings' file otherwise."""
    files = {f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": "0-1\n" for n in range(2)}
    assert platforms.physical_cores(tree(files)) == 1


@linux_only
def test_physical_cores_from_cpuinfo(tree):
    """Without a topology the processor list tells, cores of different packages being different ones."""
    cpus = [(0, 0), (0, 1), (1, 0), (1, 0)]
    text = "\n\n".join(f"processor\t: {n}\nphysical id\t: {p}\ncore id\t\t: {c}" for n, (p, c) in enumerate(cpus))
    assert platforms.physical_cores(tree({"proc/cpuinfo": text})) == 3


@linux_only
def test_threads_of_a_folder_that_does_not_count_links_are_unknown(tmp_path, monkeypatch):
    """A count below one is no count: an emulated system may not keep it."""
    (tmp_path / "proc/self/task").mkdir(parents=True)
    monkeypatch.setattr(os, "stat", lambda _path: SimpleNamespace(st_nlink=1))
    assert platforms.native_threads(str(tmp_path)) is None


@linux_only
def test_nothing_told_is_unknown(tmp_path):
    """Without the system's files there is no figure, and no error."""
    root = str(tmp_path)
    assert platforms.physical_cores(root) is None
    assert platforms.free_memory(root) is None
    assert platforms.process_memory(root) is None
    assert platforms.native_threads(root) is None


def test_unknown_physical_cores_are_taken_for_the_usable_ones(monkeypatch):
    """The planner always gets a number."""
    monkeypatch.setattr(platforms, "physical_cores", lambda: None)
    monkeypatch.setattr(platforms, "usable_cores", lambda: 5)
    assert machine._read_physical_cores() == 5


@linux_only
def test_free_memory_is_what_is_available(tree):
    """Memory that the system would give back counts as free."""
    root = tree({"proc/meminfo": "MemTotal: 900 kB\nMemFree: 1 kB\nMemAvailable:  500 kB\n"})
    assert platforms.free_memory(root) == 512_000


@pytest.mark.parametrize(
    ("host", "granted", "free"), [(10, None, 10), (10, 4, 4), (4, 10, 4), (None, 7, 7), (None, None, None)]
)
def test_available_memory_honours_the_container(monkeypatch, host, granted, free):
    """The least of what the machine has and what the container grants counts."""
    monkeypatch.setattr(platforms, "free_memory", lambda: host)
    monkeypatch.setattr(container, "free_memory", lambda: granted)
    assert machine._read_available_memory() == free


@linux_only
def test_process_memory_never_exceeds_its_peak():
    """Resident memory is positive, and at most its highest."""
    memory = platforms.process_memory()
    assert memory is not None
    assert 0 < memory[0] <= memory[1]


def test_systems_without_files_of_their_own_are_asked_through_psutil(monkeypatch):
    """Where nothing quicker is known, psutil answers, within what this system's own files say."""
    threads = platforms.native_threads()
    monkeypatch.setattr(platforms, "sys", SimpleNamespace(platform="other", modules=sys.modules))
    assert platforms.native_threads() == threads
    assert (platforms.physical_cores() or 1) >= 1
    assert platforms.free_memory() > 0
    now, peak = platforms.process_memory()
    assert 0 < now <= peak


def test_forkserver_needs_fork(monkeypatch):
    """A forkserver exists where descriptors can be handed over, and nowhere without fork."""
    if hasattr(os, "fork"):
        assert platforms.has_forkserver() == ("forkserver" in multiprocessing.get_all_start_methods())
    monkeypatch.delattr(os, "fork", raising=False)
    assert not platforms.has_forkserver()


@pytest.mark.slow
def test_native_threads_counts_a_thread_more(python):
    """A running thread is seen at once. In a process of its own: here one of another test may still be ending."""
    program = """
import threading
from amorsize.measure import machine
release = threading.Event()
before = machine.native_threads()
thread = threading.Thread(target=release.wait)
thread.start()
print(machine.native_threads() - before)
release.set()
"""
    assert python("-c", program).stdout == "1\n"


def test_a_reading_is_kept_for_its_seconds():
    """The reader runs again only when the answer is as old as that."""
    now, reads = [0.0], []
    remembered = machine.Remembered(lambda: reads.append(now[0]) or len(reads), 1.0, lambda: now[0])
    answers = []
    for now[0] in (0.0, 0.5, 0.99, 1.0, 1.5, 2.5):
        answers.append(remembered())
    assert answers == [1, 1, 1, 2, 2, 3]
    assert reads == [0.0, 1.0, 2.5]


def test_an_unknown_answer_is_kept_too():
    """None is an answer, not a reason to ask again."""
    reads = []
    remembered = machine.Remembered(lambda: reads.append(1), 1.0, lambda: 0.0)
    assert remembered() is remembered() is None
    assert len(reads) == 1


@pytest.fixture
def plain_platform(monkeypatch):
    """A system with fork, where nobody set a global start method and one thread runs."""
    monkeypatch.setattr(platforms, "global_start_method", lambda: None)
    monkeypatch.setattr(platforms, "has_fork", lambda: True)
    monkeypatch.setattr(platforms, "native_threads", lambda: 1)
    monkeypatch.setattr(machine, "_has_forkserver", lambda: True)
    return monkeypatch


@pytest.mark.usefixtures("plain_platform")
def test_fork_with_one_thread():
    """A process with one native thread forks."""
    assert machine.start_method() == "fork"


@pytest.mark.parametrize("threads", [2, 40, None])
def test_no_fork_with_more_threads(plain_platform, threads):
    """More threads than one, or an unknown number, never fork."""
    plain_platform.setattr(platforms, "native_threads", lambda: threads)
    assert machine.start_method() == "forkserver"
    plain_platform.setattr(machine, "_has_forkserver", lambda: False)
    assert machine.start_method() == "spawn"


def test_spawn_without_fork(plain_platform):
    """Where fork is missing or unsafe, workers are spawned."""
    plain_platform.setattr(platforms, "has_fork", lambda: False)
    assert machine.start_method() == "spawn"
    assert machine.configured_start_method() == "spawn"


def test_macos_never_forks(monkeypatch):
    """On macOS fork exists, but the system's own libraries do not survive it."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not platforms.has_fork()


def test_requested_method_wins(plain_platform):
    """A request is obeyed before everything else."""
    plain_platform.setattr(platforms, "global_start_method", lambda: "forkserver")
    assert machine.start_method("spawn") == "spawn"
    assert machine.configured_start_method("spawn") == "spawn"


def test_global_method_beats_the_rule(plain_platform):
    """A start method set in multiprocessing is obeyed."""
    plain_platform.setattr(platforms, "global_start_method", lambda: "spawn")
    assert machine.start_method() == "spawn"


def test_configured_method_does_not_depend_on_threads(plain_platform):
    """What a cached plan depends on stays while threads come and go."""
    plain_platform.setattr(platforms, "native_threads", lambda: 9)
    assert machine.configured_start_method() == "fork"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("", "None False"),
        ("import multiprocessing", "None True"),
        ("import multiprocessing as m; m.get_start_method()", "None True"),
        ("import multiprocessing as m; m.set_start_method(m.get_all_start_methods()[0])", "None True"),
        ("import multiprocessing as m; m.set_start_method(m.get_all_start_methods()[-1])", "{last} True"),
    ],
)
def test_global_method_is_seen_only_where_it_was_chosen(code, answer):
    """The platform's default says nothing, and multiprocessing is not imported to find out."""
    from multiprocessing import get_all_start_methods

    program = f"{code}\nimport sys\nfrom amorsize.measure import platforms\n"
    program += "print(platforms.global_start_method(), 'multiprocessing' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == answer.format(last=get_all_start_methods()[-1])


def test_profile_of_this_machine():
    """The profile holds this machine's facts and the defaults of the start method asked for."""
    profile = machine.machine_profile("spawn", warm_workers=3)
    assert profile.cores == machine.cores() >= 1
    assert profile.physical_cores == machine.physical_cores() >= 1
    assert profile.start_method == "spawn"
    assert profile.warm_workers == 3
    assert profile.seconds_first_start > profile.seconds_next_start > 0
    assert profile.seconds_per_chunk == machine.seconds_per_chunk("processes/spawn")


def test_what_calls_miss_adds_up_until_workers_start():
    """Savings missed count together for a minute, and from nothing after a start."""
    costs = Costs()
    costs.miss(0.25, 100.0)
    costs.miss(0.5, 159.0)

    assert costs.missed(218.0) == 0.75
    assert costs.missed(219.0) == 0.0
    costs.miss(0.125, 300.0)
    assert costs.missed(300.0) == 0.125
    costs.learn_start("processes/fork", 0.01)
    assert costs.missed(300.0) == 0.0


def test_loading_is_priced_by_the_number_of_modules():
    """What many modules took teaches what one takes; a few say nothing of modules."""
    costs, route = Costs(), "processes/forkserver"
    assert costs.load_seconds(route, 0) == 0.0
    assert costs.load_seconds(route, 500) == 500 * DEFAULT_MODULE_SECONDS
    costs.learn_load(route, 5.0, LEAST_MODULES_OBSERVED - 1)
    assert costs.load_seconds(route, 500) == 500 * DEFAULT_MODULE_SECONDS
    costs.learn_load(route, 4 * 100 * DEFAULT_MODULE_SECONDS, 100)
    assert costs.load_seconds(route, 500) == pytest.approx(2 * 500 * DEFAULT_MODULE_SECONDS)
    assert costs.load_seconds("processes/spawn", 500) == 500 * DEFAULT_MODULE_SECONDS


def test_costs_begin_with_the_documented_defaults():
    """Nothing learnt, nothing changed."""
    costs = Costs()
    assert {method: costs.start(f"processes/{method}") for method in DEFAULT_STARTS} == DEFAULT_STARTS
    assert costs.chunk_seconds("processes/fork") == DEFAULT_CHUNK_SECONDS
    assert set(costs.bandwidth("processes/fork")) == {DEFAULT_BYTES_PER_SECOND}


def test_what_was_seen_on_one_route_never_prices_another():
    """Neither starts, nor chunks, nor bytes."""
    routes = ("processes/fork", "processes/spawn", "processes/forkserver", "pool/fork", "pool/spawn")
    for learnt in routes:
        costs, untouched = Costs(), Costs()
        costs.learn_start(learnt, 3.0)
        costs.learn_chunk(learnt, 3.0)
        costs.learn_bandwidth(learnt, 10_000_000, 3.0, out=True)
        for route in routes:
            same = [
                costs.start(route) == untouched.start(route),
                costs.chunk_seconds(route) == untouched.chunk_seconds(route),
                costs.bandwidth(route) == untouched.bandwidth(route),
            ]
            assert same == [route != learnt] * 3


def test_start_costs_follow_observations():
    """Equal observations are approached within a few per cent in six steps, following starts in proportion."""
    costs = Costs()
    for _ in range(6):
        costs.learn_start("processes/fork", 0.044)
    assert costs.start("processes/fork").first == pytest.approx(0.044, rel=0.03)
    assert costs.start("processes/fork").following == pytest.approx(0.012, rel=0.03)
    assert costs.start("processes/spawn") == DEFAULT_STARTS["spawn"]


def test_starts_with_and_without_a_fork_server_are_told_apart():
    """A server that runs makes starts cheap; one that must be started loads modules, which is told apart as well."""
    costs, route = Costs(), "processes/forkserver"
    before = costs.start(route).first

    assert costs.learn_start(route, before + 1.5) == pytest.approx(1.5)
    assert costs.start(route).first == pytest.approx(before)
    assert costs.start(route, served=True) == RUNNING_FORKSERVER
    assert costs.learn_start(route, RUNNING_FORKSERVER.first * 4, served=True) == 0.0
    assert costs.start(route, served=True).first == pytest.approx(RUNNING_FORKSERVER.first * 2)
    assert costs.start(route).first == pytest.approx(before)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("out", [False, True])
def test_bandwidth_follows_large_transfers_only(shared, out):
    """A small transfer's time is its fixed cost; the other way and the other direction are as they were."""
    costs, route = Costs(), "processes/fork"
    before, other = costs.bandwidth(route, shared=shared), costs.bandwidth(route, shared=not shared)
    costs.learn_bandwidth(route, 100, 1.0, shared=shared, out=out)
    assert costs.bandwidth(route, shared=shared) == before
    costs.learn_bandwidth(route, 4_000_000, 4e6 / before[out] / 4, shared=shared, out=out)
    assert costs.bandwidth(route, shared=shared)[out] == pytest.approx(2 * before[out])
    costs.learn_bandwidth(route, 4_000_000, 0.0, shared=shared, out=out)
    assert costs.bandwidth(route, shared=shared)[out] == pytest.approx(2 * before[out])
    assert costs.bandwidth(route, shared=shared)[not out] == before[not out]
    assert costs.bandwidth(route, shared=not shared) == other


def test_copying_tells_how_fast_results_come_until_some_have_come():
    """As a caller copies, so it takes results from shared memory; what was seen there counts for more."""
    costs, route = Costs(), "processes/fork"
    inward = costs.bandwidth(route, shared=True).bytes_per_second_in
    costs.learn_copying(route, 10, 1e-9)
    costs.learn_copying(route, 1_000_000, 0.0)
    assert costs.bandwidth(route, shared=True).bytes_per_second_out == inward
    costs.learn_copying(route, 1_000_000, 0.001)
    assert costs.bandwidth(route, shared=True) == (inward, 1e9)
    costs.learn_bandwidth(route, 4_000_000, 0.001, shared=True, out=True)
    costs.learn_copying(route, 1_000_000, 1.0)
    assert costs.bandwidth(route, shared=True) == (inward, pytest.approx(2e9))
    other = Costs()
    other.learn_copying(route, 1_000_000, 1e9)
    assert other.bandwidth(route, shared=True).bytes_per_second_out > inward / 100


def test_another_process_may_start_from_what_lasts():
    """It does so where it has learnt nothing itself; what a call costs is not handed on."""
    costs, other, route = Costs(), Costs(), "processes/fork"
    costs.learn_start(route, 0.1)
    costs.learn_bandwidth(route, 4_000_000, 1.0, shared=True, out=True)
    costs.learn_call(route, 1.0)
    costs.learn_prediction(route, 1.0, 2.0)
    other.learn_start(route, 0.2)
    known = other.start(route)
    other.take_over({**costs.lasting(), "pool/fork": {"nonsense": 1.0}})

    assert other.start(route) == known
    assert other.bandwidth(route, shared=True) == costs.bandwidth(route, shared=True)
    assert other.call_seconds(route) == Costs().call_seconds(route)
    assert other.prediction_error(route) == Costs().prediction_error(route)
    assert other.lasting().keys() == {route}


@given(st.lists(st.floats(), max_size=30))
def test_one_observation_moves_a_cost_by_a_bounded_factor(observations):
    """Whatever the clock says, not even nonsense makes a cost jump, vanish or become infinite."""
    costs = Costs()
    for seconds in observations:
        before = costs.chunk_seconds("pool")
        costs.learn_chunk("pool", seconds)
        bound = SLOW_OBSERVATION**0.5 * (1 + 1e-9)
        assert before / bound <= costs.chunk_seconds("pool") <= before * bound


@pytest.mark.slow
def test_reading_the_machine_loads_no_heavy_module():
    """On Linux the system's own files suffice: neither psutil nor multiprocessing is imported."""
    if sys.platform != "linux":
        pytest.skip("other systems ask psutil")
    program = (
        "import sys\nfrom amorsize.measure import machine\nmachine.machine_profile(machine.start_method())\n"
        "print(sorted({'psutil', 'multiprocessing', 'pickle', 'logging'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
