"""Is a published program slower with `amorsize.map` in place of `map`? Whole runs of others' clients.

    pip install emcee zeus-mcmc scipy scikit-learn deap pymoo dynesty
    python benchmarks/clients.py [--turns 3] [--only emcee] [--kind cheap]

Nothing is configured. Each cell is a fresh process; imports are outside the clock. A client runs with an objective of
some microseconds ("cheap") and with one of some milliseconds ("dear"), over four maps: the builtin, ours with an empty
cache ("first"), ours with the cache that this left ("again"), and that of a stock Pool made inside the clock. The
builtin runs twice, which gives the A/A floor. Ratios are paired within a turn; the table shows their medians, and
whether all answers were the same, bit for bit. Written to benchmarks/results/clients.txt.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from statistics import median
from time import perf_counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = HERE / "results" / "clients.txt"
WAYS = ("builtin", "builtin again", "first", "again", "pool")
KINDS = ("cheap", "dear")
LIMITS = {"cheap": (1.15, 1.08), "dear": (1.15, 1.2)}
DEAR_TURNS = 60_000  # of a plain loop: 2 to 4 ms


def burn(turns: int) -> int:
    """Turn a plain loop."""
    total = 0
    for number in range(turns):
        total += number
    return total


def sphere(x: Any) -> float:
    """Be a cheap objective."""
    return float(sum(value * value for value in x))


def dear_sphere(x: Any) -> float:
    """Be a dear one."""
    burn(DEAR_TURNS)
    return float(sum(value * value for value in x))


def log_density(x: Any) -> float:
    """Be a cheap log density, of a normal distribution."""
    return -0.5 * sphere(x)


def dear_log_density(x: Any) -> float:
    """Be a dear one."""
    return -0.5 * dear_sphere(x)


def uniform(u: Any) -> Any:
    """Transform the unit cube."""
    return 10.0 * u - 5.0


def with_scipy(mapping: Callable[..., Any], kind: str) -> Any:
    """Differential evolution, whose `workers` is any map."""
    from scipy.optimize import differential_evolution

    function, iterations, runs = (sphere, 3000, 12) if kind == "cheap" else (dear_sphere, 95, 1)
    found = [
        differential_evolution(
            function, [(-5, 5)] * 5, workers=mapping, updating="deferred", maxiter=iterations, popsize=15, rng=seed,
            tol=0, polish=False,
        )
        for seed in range(runs)
    ]  # fmt: skip
    return [(one.x, one.nfev) for one in found]


def with_emcee(mapping: Callable[..., Any], kind: str) -> Any:
    """An ensemble sampler, whose pool needs a `map`."""
    import emcee
    import numpy as np

    function, steps = (log_density, 5500) if kind == "cheap" else (dear_log_density, 230)
    np.random.seed(7)  # what emcee draws from
    sampler = emcee.EnsembleSampler(32, 5, function, pool=SimpleNamespace(map=mapping))
    sampler.run_mcmc(np.random.default_rng(7).normal(size=(32, 5)), steps)
    return sampler.get_chain()


def with_zeus(mapping: Callable[..., Any], kind: str) -> Any:
    """Another one, whose pool is called for lists of different lengths."""
    import numpy as np
    import zeus

    function, steps = (log_density, 1800) if kind == "cheap" else (dear_log_density, 72)
    np.random.seed(7)  # what zeus draws from
    random.seed(7)
    sampler = zeus.EnsembleSampler(20, 5, function, pool=SimpleNamespace(map=mapping), verbose=False)
    sampler.run_mcmc(np.random.default_rng(7).normal(size=(20, 5)), steps, progress=False)
    return sampler.get_chain()


def fit(alpha: float, dear: bool) -> float:
    """Fit one model."""
    import numpy as np
    from sklearn.linear_model import Ridge
    from sklearn.tree import DecisionTreeRegressor

    generator = np.random.default_rng(7)
    x = generator.normal(size=(3000 if dear else 100, 10))
    y = x @ np.arange(10.0) + generator.normal(size=len(x))
    model = DecisionTreeRegressor(random_state=7, min_samples_leaf=max(1, int(alpha))) if dear else Ridge(alpha=alpha)
    return float(model.fit(x, y).score(x, y))


def cheap_fit(alpha: float) -> float:
    """Fit a linear model."""
    return fit(alpha, dear=False)


def dear_fit(alpha: float) -> float:
    """Fit a tree."""
    return fit(alpha, dear=True)


def with_sklearn(mapping: Callable[..., Any], kind: str) -> Any:
    """Fits over a grid of settings, round after round."""
    function, rounds, number = (cheap_fit, 20, 100) if kind == "cheap" else (dear_fit, 15, 40)
    return [list(mapping(function, [0.1 * (1 + index) for index in range(number)])) for _ in range(rounds)]


def evaluate(individual: Any) -> tuple[float]:
    """Be what DEAP calls an evaluation."""
    return (sphere(individual),)


def dear_evaluate(individual: Any) -> tuple[float]:
    """Be a dear one."""
    return (dear_sphere(individual),)


def with_deap(mapping: Callable[..., Any], kind: str) -> Any:
    """A genetic algorithm, which reads its map by `zip`."""
    from deap import algorithms, base, creator, tools

    function, generations = (evaluate, 600) if kind == "cheap" else (dear_evaluate, 60)
    if not hasattr(creator, "Fit"):
        creator.create("Fit", base.Fitness, weights=(-1.0,))
        creator.create("Individual", list, fitness=creator.Fit)
    random.seed(7)
    box = base.Toolbox()
    box.register("attribute", random.uniform, -5, 5)
    box.register("individual", tools.initRepeat, creator.Individual, box.attribute, n=10)
    box.register("population", tools.initRepeat, list, box.individual)
    box.register("evaluate", function)
    box.register("mate", tools.cxTwoPoint)
    box.register("mutate", tools.mutGaussian, mu=0, sigma=1, indpb=0.2)
    box.register("select", tools.selTournament, tournsize=3)
    box.register("map", mapping)
    population, _ = algorithms.eaSimple(box.population(n=200), box, 0.5, 0.2, generations, verbose=False)
    return [list(individual) for individual in population]


def with_pymoo(mapping: Callable[..., Any], kind: str) -> Any:
    """A multi-objective optimizer, which wants a starmap."""
    import numpy as np
    from pymoo.algorithms.soo.nonconvex.ga import GA
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.optimize import minimize
    from pymoo.parallelization.starmap import StarmapParallelization

    function, generations = (sphere, 250) if kind == "cheap" else (dear_sphere, 72)

    class Problem(ElementwiseProblem):  # type: ignore[misc]  # it ships no types
        """One objective over ten variables."""

        def __init__(self, **given: Any) -> None:
            super().__init__(n_var=10, n_obj=1, xl=-5.0, xu=5.0, **given)

        def _evaluate(self, x: Any, out: dict[str, Any], *_: Any, **__: Any) -> None:
            out["F"] = function(x)

    problem = Problem(elementwise_runner=StarmapParallelization(mapping))
    found = minimize(problem, GA(pop_size=100), ("n_gen", generations), seed=7)
    return np.asarray(found.X)


def with_dynesty(mapping: Callable[..., Any], kind: str) -> Any:
    """A nested sampler, which asks for a few likelihoods at a time."""
    import dynesty
    import numpy as np

    function, calls = (log_density, 100_000) if kind == "cheap" else (dear_log_density, 6_500)
    sampler = dynesty.NestedSampler(
        function, uniform, 3, nlive=800 if kind == "cheap" else 200, pool=SimpleNamespace(map=mapping), queue_size=8,
        rstate=np.random.default_rng(7),
    )  # fmt: skip
    sampler.run_nested(maxcall=calls, print_progress=False)
    return np.asarray(sampler.results.samples)


CLIENTS = {
    "scipy": with_scipy,
    "emcee": with_emcee,
    "zeus": with_zeus,
    "scikit-learn": with_sklearn,
    "DEAP": with_deap,
    "pymoo": with_pymoo,
    "dynesty": with_dynesty,
}


def cell(client: str, kind: str, way: str) -> None:
    """Run one client once and print the seconds and a digest of its answer."""
    run = CLIENTS[client]
    warnings.simplefilter("ignore")
    run_imports(client)
    if way == "pool":
        began = perf_counter()
        with multiprocessing.Pool(2) as pool:
            answer = run(pool.starmap if client == "pymoo" else pool.map, kind)
            seconds = perf_counter() - began
    else:
        import itertools

        mapping: Any = itertools.starmap if client == "pymoo" else map
        if not way.startswith("builtin"):
            import amorsize

            mapping = amorsize.starmap if client == "pymoo" else amorsize.map
        began = perf_counter()
        answer = run(mapping, kind)
        seconds = perf_counter() - began
    print(json.dumps({"seconds": seconds, "answer": hashlib.sha256(repr(told(answer)).encode()).hexdigest()}))


def run_imports(client: str) -> None:
    """Import what a client needs, outside the clock."""
    names = {
        "scipy": ("scipy.optimize",),
        "emcee": ("emcee",),
        "zeus": ("zeus",),
        "scikit-learn": ("sklearn.linear_model", "sklearn.tree"),
        "DEAP": ("deap.algorithms", "deap.base", "deap.creator", "deap.tools"),
        "pymoo": ("pymoo.algorithms.soo.nonconvex.ga", "pymoo.optimize", "pymoo.parallelization.starmap"),
        "dynesty": ("dynesty",),
    }
    for name in names[client]:
        __import__(name)


def told(answer: Any) -> Any:
    """Return an answer so that its text is the same whenever its bits are."""
    if hasattr(answer, "tobytes"):
        return answer.tobytes()
    if isinstance(answer, list | tuple):
        return [told(part) for part in answer]
    return answer.hex() if isinstance(answer, float) else answer


def ask(client: str, kind: str, way: str, cache: str) -> dict[str, Any]:
    """Run a cell in a process of its own."""
    environ = {**os.environ, "AMORSIZE_CACHE_DIR": cache}
    command = [sys.executable, __file__, "--cell", client, kind, way]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode and way == "pool":
        return {"seconds": float("nan"), "answer": None}  # what some clients send, a stock Pool cannot
    if done.returncode:
        raise SystemExit(f"{client}, {kind}, {way}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run all cells and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", nargs=3)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", action="append", choices=list(CLIENTS))
    parser.add_argument("--kind", choices=KINDS, action="append")
    given = parser.parse_args()
    if given.cell:
        cell(*given.cell)
        return
    lines = [
        f"CPython {sys.version.split()[0]}, {os.cpu_count()} cores; {given.turns} turns; medians of ratios",
        f"{'':<22} {'builtin, s':>10} {'A/A':>6} {'first':>6} {'again':>6} {'pool':>6}  {'limits':<12} answers",
    ]
    print(*lines, sep="\n", flush=True)
    for client in given.only or CLIENTS:
        for kind in given.kind or KINDS:
            seconds: dict[str, list[float]] = {way: [] for way in WAYS}
            answers = set()
            for _ in range(given.turns):
                with tempfile.TemporaryDirectory() as cache:
                    for way in WAYS:
                        found = ask(client, kind, way, cache)
                        seconds[way].append(found["seconds"])
                        answers.add(found["answer"])
            answers.discard(None)
            lines.append(row(f"{client}, {kind}", kind, seconds, len(answers) == 1))
            print(lines[-1], flush=True)
    if not given.only and not given.kind:
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def row(name: str, kind: str, seconds: dict[str, list[float]], same: bool) -> str:
    """Return one line of the table."""

    def over(way: str, what: str = "builtin") -> float:
        return median(one / other for one, other in zip(seconds[way], seconds[what], strict=True))

    most_first, most_again = LIMITS[kind]
    pool = over("pool")
    best = pool if kind == "dear" and pool < 1.0 else 1.0
    held = over("first") <= most_first and over("again") <= most_again * best
    return (
        f"{name:<22} {median(seconds['builtin']):>10.2f} {over('builtin again'):>6.2f} {over('first'):>6.2f} "
        f"{over('again'):>6.2f} {over('pool'):>6.2f}  {'held' if held else 'MISSED':<12} {'same' if same else 'DIFFER'}"
    )


if __name__ == "__main__":
    main()
