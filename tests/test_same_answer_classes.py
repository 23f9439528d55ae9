"""What comes back is the caller's: results, items and errors are of its own classes, and nothing is set on these."""

from __future__ import annotations

import programs
import pytest

PROGRAMS = {
    "a class counts what came back": """
        class Job:
            seen = 0
            def __init__(self, value): self.value = value
        for job in MAP(Job, range(30)):
            Job.seen += 1
            assert type(job) is Job
        print(Job.seen, job.value)
        """,
    "classes of every kind": """
        import abc, collections, dataclasses, enum, typing
        class Colour(enum.Enum):
            RED = 1
            BLUE = 2
        class Flags(enum.Flag):
            A = 1
            B = 2
        Point = collections.namedtuple("Point", "x y")
        class Typed(typing.NamedTuple):
            x: int = 0
        @dataclasses.dataclass
        class Data:
            x: int
            y: list = dataclasses.field(default_factory=list)
        class Slotted:
            __slots__ = ("x",)
            def __init__(self, x): self.x = x
        class Base(abc.ABC):
            @abc.abstractmethod
            def run(self): ...
        class Child(Base):
            def run(self): return super().__class__.__name__
        T = typing.TypeVar("T")
        class Box(typing.Generic[T]):
            def __init__(self, x): self.x = x
        def make(x):
            busy(.002)
            return [Colour.RED, Flags.A | Flags.B, Point(x, x), Typed(x), Data(x), Slotted(x), Child(), Box[int](x)]
        for row in MAP(make, range(40)):
            kinds = (Colour, Flags, Point, Typed, Data, Slotted, Child, Box)
            assert [type(one) for one in row] == list(kinds), row
            assert row[0] is Colour.RED and row[1] is Flags.A | Flags.B
        print(row[2], row[3], row[4], row[5].x, row[6].run(), row[7].x)
        """,
    "metaclasses and __init_subclass__ do not run again": """
        made = []
        class Meta(type):
            def __new__(meta, name, bases, space):
                made.append(name)
                return super().__new__(meta, name, bases, space)
        class Plugin(metaclass=Meta):
            registry = []
            def __init_subclass__(cls): Plugin.registry.append(cls)
        class One(Plugin): pass
        class Two(Plugin): pass
        def make(x):
            busy(.002)
            return (One if x % 2 else Two)()
        kinds = [type(one) for one in MAP(make, range(40))]
        assert set(kinds) == {One, Two}
        print(made, len(Plugin.registry), Plugin.registry == [One, Two])
        """,
    "patched methods and registries keep their identity": """
        class Job:
            registry = {}
            def __init__(self, value): self.value = value
            def score(self): return self.value
        def better(self): return -self.value
        registry = Job.registry
        def make(x):
            busy(.002)
            return Job(x)
        scores = []
        for number, job in enumerate(MAP(make, range(40))):
            if number == 0:
                Job.score = better
            Job.registry[job.value] = job
            scores.append(job.score())
        print(scores, Job.registry is registry, Job.score is better, len(registry))
        """,
    "methods see the caller's globals": """
        SCALE = 1
        class Job:
            def __init__(self, value): self.value = value
            def scaled(self): return self.value * SCALE
        def make(x):
            busy(.002)
            return Job(x)
        jobs = MAP(make, range(40))
        first = next(jobs)
        SCALE = 10
        print([job.scaled() for job in jobs], Job.scaled.__globals__ is globals())
        """,
    "items are of the caller's classes there too": """
        class Shape:
            unit = "cm"
            def __init__(self, side): self.side = side
            def __eq__(self, other): return type(self) is type(other) and self.side == other.side
        class Square(Shape):
            def area(self): return f"{self.side ** 2} {self.unit}"
        def area(shape):
            busy(.002)
            assert isinstance(shape, Shape) and type(shape) is Square
            return shape.area(), shape
        shapes = [Square(side) for side in range(40)]
        for turn in range(2):
            rows = list(MAP(area, shapes))
            assert [shape for _, shape in rows] == shapes
            print([text for text, _ in rows])
            Shape.unit = "mm"
        """,
    "items of classes that the function does not name": """
        class Base:
            def run(self): return "base"
        class Worker(Base):
            step = 1
            def run(self): return super().run(), self.step
        def call(item):
            busy(.002)
            return item.run()
        for turn in range(3):
            print(set(MAP(call, [Worker() for _ in range(40)])))
            Worker.step += 1
        """,
    "errors are caught by their own class": """
        class Odd(Exception):
            count = 0
            def __init__(self, value): super().__init__(value); self.value = value
        def check(x):
            busy(.002)
            if x == 33: raise Odd(x)
            return x
        try:
            for x in MAP(check, range(40)): Odd.count += 1
        except Odd as error:
            print(error.value, Odd.count, type(error) is Odd)
        """,
    "a class redefined between two calls": """
        def program(tag):
            exec(f"class Cell:\\n    tag = {tag!r}\\ndef make(x):\\n    busy(.002)\\n    return Cell()", globals())
        program("one")
        first, old = list(MAP(make, range(40))), Cell
        program("two")
        again = list(MAP(make, range(40)))
        print({one.tag for one in first}, {type(one) is old for one in first}, old is not Cell)
        print({one.tag for one in again}, {type(one) is Cell for one in again})
        """,
    "functions that come back": """
        OFFSET = 1
        def helper(x): return x + OFFSET
        def give(x):
            busy(.002)
            return [helper, lambda y: y * OFFSET, abs]
        rows = list(MAP(give, range(40)))
        OFFSET = 100
        assert all(row[0] is helper and row[2] is abs for row in rows)
        print({row[0](1) for row in rows}, {row[1](2) for row in rows}, rows[-1][1].__globals__ is globals())
        """,
    "bare names arrive right": """
        import functools, typing
        @functools.cache
        def cached(x): return x + 1
        @functools.lru_cache(maxsize=50)
        def fibonacci(n): return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)
        @functools.singledispatch
        def show(x): return "object"
        @show.register
        def _(x: int): return f"int {show(str(x))}"
        @show.register(list)
        def _(x): return f"list {show(x[0])}"
        class Missing:
            def __reduce__(self): return "MISSING"
        MISSING = Missing()
        UserId = typing.NewType("UserId", int)
        def use(x):
            busy(.002)
            given = MISSING if x is MISSING else cached(3) + fibonacci(20)
            return given, show([1]), UserId, cached, show
        rows = list(MAP(use, [1, MISSING] * 20))
        assert all(row[2] is UserId and row[3] is cached and row[4] is show for row in rows)
        print([row[0] is MISSING for row in rows], rows[0][:2], rows[1][1])
        print(list(MAP(fibonacci, range(30))), list(MAP(show, [1, [2], "x"])))
        """,
    "cached methods and properties": """
        import functools
        class Model:
            def __init__(self, x): self.x = x
            @functools.cached_property
            def square(self): return self.x ** 2
            @functools.lru_cache(maxsize=None)
            def cube(self): return self.x ** 3
            @classmethod
            def make(cls, x): return cls(x)
            @staticmethod
            def twice(x): return 2 * x
            @property
            def half(self): return self.x / 2
        def use(x):
            busy(.002)
            model = Model.make(x)
            return model.square, model.cube(), model.half, Model.twice(x)
        print(list(MAP(use, range(40))))
        """,
}
ONE_CLASS_FOR_ALL = """
    import collections
    def make(x):
        busy(.002)
        class Local:
            def __init__(self, value): self.value = value
            def get(self): return self.value
        Pair = collections.namedtuple("Pair", "a b")
        return Local(x), Pair(x, x)
    rows = list(MAP(make, range(40)))
    moved = rows[-20:]
    print([one.get() for one, _ in rows], [pair.a for _, pair in rows], [type(pair).__name__ for _, pair in rows][0])
    """


@pytest.fixture(params=programs.choices())
def options(request):
    return request.param


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_prints_the_same(name, options, tmp_path):
    """Classes, functions and named objects of the main module are the caller's own, whatever went where."""
    programs.assert_same(PROGRAMS[name], options, tmp_path)


def test_classes_made_in_the_function(options, tmp_path):
    """A class that the caller does not have is built from what the worker says of it."""
    programs.assert_same(ONE_CLASS_FOR_ALL, options, tmp_path)


def test_a_class_made_in_the_function_is_one_for_all_results(one_method, tmp_path):
    """Results of two workers are instances of one class, though each worker made its own."""
    program = """
    import functools
    @functools.cache
    def the_class():
        class Local:
            names = {"one", "two", "three"}
        return Local
    def make(x):
        busy(.002)
        return the_class()()
    print(len({type(one) for one in MAP(make, range(40))}))
    """
    options = f"backend='processes', n_jobs=2, start_method={one_method['start_method']!r}"

    programs.assert_same(program, options, tmp_path)


@pytest.mark.parametrize("where", ["item", "result", "closure", "global"])
def test_an_open_file_is_refused(where, tmp_path):
    """A file stays a file: where it would have to cross, the item fails, and is not given the file's text instead."""
    program = """
        text = open("program.py")
        WHERE = {where!r}
        inside = [text] if WHERE == "item" else [0]
        def use(x, file=[text] if WHERE == "closure" else []):
            if WHERE == "global":
                return type(text).__name__
            if WHERE == "result":
                return open("program.py")
            return [type(one).__name__ for one in (x if type(x) is list else file)]
        try:
            print([str(type(one)) for one in MAP(use, [inside, [0]])])
        except amorsize.SerializationError as error:
            print("refused")
        """.replace("{where!r}", repr(where))

    printed = programs.run(program, programs.MAPS["spawn"], tmp_path)

    assert printed == "refused\n"
