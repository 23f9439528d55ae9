"""Workers see the program as it was when the call first sent work: edited, patched, reloaded, whatever they are."""

from __future__ import annotations

import programs
import pytest

PROGRAMS = {
    "a helper redefined behind a cache": """
        import functools
        def define(answer):
            @functools.cache
            def helper(x): return answer
            globals()["helper"] = helper
        def f(x):
            busy(.003)
            return helper(x)
        for answer in ["old", "new", "newer"]:
            define(answer)
            print(set(MAP(f, range(40))))
        """,
    "a module reloaded that is reached through others": """
        import importlib
        put("low", "def g(x): return 'old'")
        put("middle", "import low\\ndef h(x): return low.g(x)")
        put("high", "from middle import h\\nTABLE = {'h': h}\\ndef run(x): return TABLE['h'](x)")
        import low, high
        def f(x):
            busy(.003)
            return high.run(x)
        print(set(MAP(f, range(40))))
        put("low", "def g(x): return 'new'")
        importlib.reload(low)
        print(set(MAP(f, range(40))))
        """,
    "settings bound at run time": """
        put("settings", "SCALE = 1\\nNAME = 'a'\\ndef mode(x): return 'plain'\\nclass Parser:\\n    kind = 'slow'\\n"
            "class Fast(Parser):\\n    kind = 'fast'\\nLIMITS = (1, 2)\\nGONE = 1")
        put("work", "import settings\\ndef f(x):\\n    from time import sleep\\n    sleep(.003)\\n"
            "    return (settings.SCALE, settings.NAME, settings.mode(x), settings.Parser.kind, settings.LIMITS,\\n"
            "            getattr(settings, 'GONE', 0) if hasattr(settings, 'GONE') else settings.SCALE)")
        import settings, work
        print(set(MAP(work.f, range(40))))
        settings.SCALE = 2.5
        settings.NAME = None
        settings.LIMITS = (3, "x")
        print(set(MAP(work.f, range(40))))
        settings.mode = lambda x: "other"
        settings.Parser = settings.Fast
        print(set(MAP(work.f, range(40))))
        settings.SCALE = 1
        print(set(MAP(work.f, range(40))))
        """,
    "a mock while it lasts and not after": """
        from unittest import mock
        put("remote", "def fetch(x): return 'real'\\nclass Client:\\n    def get(self): return 'real'")
        import remote, json, time
        def f(x):
            busy(.003)
            return remote.fetch(x), remote.Client().get(), json.dumps(x), time.gmtime(0).tm_year
        print(set(MAP(f, [1] * 40)))
        with mock.patch("remote.fetch", lambda x: "patched"):
            print(set(MAP(f, [1] * 40)))
        with mock.patch.object(remote.Client, "get", lambda self: "patched"):
            print(set(MAP(f, [1] * 40)))
        def dumps(x): return "patched"
        with mock.patch("json.dumps", dumps):
            print(set(MAP(f, [1] * 40)))
        print(set(MAP(f, [1] * 40)))
        """,
    "data changed in place": """
        put("config", "CONFIG = {'x': 1}\\nNAMES = ['a']\\nSEEN = {1}\\nRAW = bytearray(b'a')")
        put("user", "from config import CONFIG, NAMES, SEEN, RAW\\nimport config\\nfrom time import sleep\\n"
            "def f(x):\\n    sleep(.003)\\n    assert CONFIG is config.CONFIG\\n"
            "    return CONFIG['x'], tuple(NAMES), sorted(SEEN)[-1], bytes(RAW)")
        import config, user
        print(set(MAP(user.f, range(40))))
        config.CONFIG["x"] = 2
        print(set(MAP(user.f, range(40))))
        config.NAMES.append("b"); config.SEEN.add(5); config.RAW += b"b"
        print(set(MAP(user.f, range(40))))
        """,
    "patched methods and class attributes": """
        put("shapes", "class Base:\\n    sides = 0\\n    def name(self): return 'base'\\n"
            "class Square(Base):\\n    @classmethod\\n    def make(cls): return cls()\\n"
            "    @staticmethod\\n    def unit(): return 'cm'\\n    @property\\n    def size(self): return 1\\n"
            "def describe(x):\\n    from time import sleep\\n    sleep(.003)\\n    s = Square.make()\\n"
            "    return s.sides, s.name(), s.unit(), s.size")
        import shapes
        print(set(MAP(shapes.describe, range(40))))
        shapes.Base.sides = 4
        shapes.Base.name = lambda self: "patched " + type(self).__name__
        print(set(MAP(shapes.describe, range(40))))
        shapes.Square.unit = staticmethod(lambda: "mm")
        shapes.Square.size = property(lambda self: 2)
        shapes.Square.make = classmethod(lambda cls: cls())
        print(set(MAP(shapes.describe, range(40))))
        """,
    "a file edited since it was imported": """
        put("edited", "LIMIT = 1\\ndef g(x): return 'old', LIMIT\\ndef f(x):\\n    from time import sleep\\n"
            "    sleep(.003)\\n    return g(x)")
        import edited
        put("edited", "LIMIT = 2\\ndef g(x): return 'new', LIMIT\\ndef f(x): return 'new f'")
        print(set(MAP(edited.f, range(40))))
        """,
    "decorated helpers": """
        import importlib
        put("deco", "import functools\\nFACTOR = 2\\ndef twice(f):\\n    @functools.wraps(f)\\n    def inner(x):\\n"
            "        return FACTOR * f(x)\\n    return inner\\n")
        put("helpers", "import functools\\nfrom deco import twice\\n@twice\\ndef double(x): return x\\n"
            "@functools.lru_cache(None)\\ndef cached(x): return 'old'\\n")
        import helpers, deco
        def f(x):
            busy(.003)
            return helpers.double(x), helpers.cached(x)
        print(set(MAP(f, [3] * 40)))
        deco.FACTOR = 5
        put("helpers", "import functools\\nfrom deco import twice\\n@twice\\ndef double(x): return x + 1\\n"
            "@functools.lru_cache(None)\\ndef cached(x): return 'new'\\n")
        importlib.reload(helpers)
        print(set(MAP(f, [3] * 40)))
        """,
    "reached through partials, methods and instances": """
        from functools import partial
        put("parts", "BASE = 1\\ndef g(x): return BASE\\n"
            "class Tool:\\n    def __init__(self, step): self.step = step\\n"
            "    def run(self, x):\\n        from time import sleep\\n        sleep(.003)\\n"
            "        return self.step, g(x), BASE\\n    __call__ = run\\n"
            "def add(tool, x): return tool.run(x)")
        import parts
        tool = parts.Tool(7)
        for turn in range(3):
            parts.BASE = turn
            tool.step = 10 * turn
            for f in (tool.run, tool, partial(parts.add, tool)):
                print(set(MAP(f, range(40))))
        """,
    "classes of items": """
        from unittest import mock
        put("things", "class Base:\\n    def run(self): return 'base'\\nclass Thing(Base):\\n    size = 1\\n"
            "    def __init__(self, x): self.x = x\\n    def whole(self): return self.run(), self.size")
        import things
        def f(thing):
            busy(.003)
            return thing.whole()
        items = [things.Thing(x) for x in range(40)]
        print(set(MAP(f, items)))
        things.Thing.size = 2
        print(set(MAP(f, items)))
        with mock.patch.object(things.Base, "run", lambda self: "patched"):
            print(set(MAP(f, items)))
        print(set(MAP(f, items)))
        """,
    "in a package": """
        import importlib
        os.mkdir("pack")
        put("pack/__init__", "from .inner import g")
        put("pack/inner", "from . import low\\ndef g(x): return low.VALUE")
        put("pack/low", "VALUE = 1")
        import pack.low, pack.inner
        def f(x):
            busy(.003)
            import pack
            return pack.g(x), pack.inner.low.VALUE
        print(set(MAP(f, range(40))))
        pack.low.VALUE = 2
        print(set(MAP(f, range(40))))
        """,
    "other functions in between": """
        put("one", "X = 1\\ndef f(x):\\n    from time import sleep\\n    sleep(.003)\\n    return X")
        put("two", "import one\\ndef g(x):\\n    from time import sleep\\n    sleep(.003)\\n    return one.X, one.f(0)")
        import one, two
        print(set(MAP(one.f, range(40))), set(MAP(two.g, range(40))))
        one.X = 2
        print(set(MAP(one.f, range(40))), set(MAP(two.g, range(40))))
        one.X = 1
        print(set(MAP(one.f, range(40))), set(MAP(two.g, range(40))))
        """,
}


@pytest.mark.parametrize("options", programs.choices())
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_prints_the_same(name, options, tmp_path):
    """Replacements count wherever the function runs, however old the workers are."""
    programs.assert_same(PROGRAMS[name], options, tmp_path)
