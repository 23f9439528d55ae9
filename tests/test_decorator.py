from __future__ import annotations

import copy
import functools
import gc
import inspect
import pickle
import types
import warnings

import pytest
import workers

import amorsize
from amorsize.decorator import Parallelized, ParallelizedOver


@amorsize.parallelize
def with_keywords(number, **keywords):
    return number, keywords


class TestPlainCall:
    """A decorated function is still the function."""

    def test_a_call_is_a_plain_call(self):
        """Calling gives one result, by position or by keyword."""
        assert workers.area(3, 4) == 12
        assert workers.area(width=3) == 3

    def test_it_looks_like_the_function(self):
        """Name, docstring, module and signature are the original's, which is at `__wrapped__`."""
        area = workers.area

        assert (area.__name__, area.__qualname__, area.__module__) == ("area", "area", "workers")
        assert workers.area.__doc__ == "Return the area of a rectangle."
        assert str(inspect.signature(workers.area)) == "(width, height=1)"
        assert isinstance(workers.area.__wrapped__, types.FunctionType)
        assert workers.area._amorsize_function is workers.area.__wrapped__

    def test_attributes_of_the_function_are_kept(self):
        """What other decorators left on the function is there."""

        def marked(number):
            return number

        marked.mark = "here"

        assert amorsize.parallelize(marked).mark == "here"

    def test_its_repr_names_the_function(self):
        """The representation says what is wrapped."""
        assert repr(workers.area).startswith("<parallelized <function area at ")

    def test_a_parameter_may_have_any_name(self):
        """The function's own parameters never collide with the wrapper's."""

        @amorsize.parallelize
        def odd(self, function, iterable=0):
            return (self, function, iterable)

        assert odd(self=1, function=2) == (1, 2, 0)
        assert list(odd.map([1], function=2, iterable=3)) == [(1, 2, 3)]


class TestMap:
    """`.map` and `.starmap` run the function over items."""

    def test_bare_and_called_are_the_same(self):
        """The decorator works with and without parentheses."""
        expected = [0, 1, 4]

        assert list(amorsize.parallelize(workers.square).map(range(3))) == expected
        assert list(amorsize.parallelize()(workers.square).map(range(3))) == expected
        assert list(amorsize.parallelize(n_jobs=1)(workers.square).map(range(3))) == expected

    def test_iterables_fill_parameters_in_order(self):
        """Several iterables are the function's parameters, the shortest ending it."""
        assert list(workers.area.map([1, 2, 3], [4, 5])) == [4, 10]

    def test_keywords_are_the_functions_own(self, anywhere):
        """Keywords of `.map` and `.starmap` are constants of the function."""
        area = workers.area.with_options(**anywhere)

        assert list(area.map([1, 2], height=10)) == [10, 20]
        assert list(area.starmap([(1,), (2,)], height=10)) == [10, 20]
        assert list(area.starmap([(1, 2), (3, 4)])) == [2, 12]

    def test_an_option_among_the_constants_is_refused(self):
        """An option given to `.map` is a TypeError that says where it belongs, at the call."""
        with pytest.raises(TypeError, match=r"area\(\) has no parameter 'n_jobs'.*with_options\(n_jobs=\.\.\.\)"):
            workers.area.map([1], n_jobs=2)

    def test_an_option_s_name_may_be_the_functions_own(self):
        """A function that takes such a name gets it."""

        @amorsize.parallelize
        def wait(item, timeout):
            return item, timeout

        assert list(wait.map([1], timeout=2)) == [(1, 2)]
        assert list(with_keywords.map([1], seed=2)) == [(1, {"seed": 2})]

    def test_an_unknown_constant_is_the_functions_error(self):
        """Any other wrong keyword is the function's own TypeError, as in a plain call."""
        with pytest.raises(TypeError, match="unexpected keyword argument 'depth'"):
            list(workers.area.map([1], depth=3))

    def test_no_input_is_a_type_error(self):
        """`.map` needs an input, as the builtin does."""
        with pytest.raises(TypeError, match="iterable"):
            workers.area.map()

    def test_recursion_through_the_decorated_name(self, anywhere):
        """A function that calls itself by its decorated name works in workers."""
        assert list(workers.factorial.with_options(**anywhere).map(range(5))) == [1, 1, 2, 6, 24]


class TestNeverIterated:
    """A dropped result is a mistake that is told."""

    @pytest.mark.parametrize("verb", ["map", "starmap"])
    def test_a_dropped_result_warns(self, verb):
        """A result that nobody iterated warns when it goes, naming the function, as nothing ran."""
        dropped = getattr(workers.area, verb)

        with pytest.warns(RuntimeWarning, match=rf"area\.{verb} was never iterated"):
            dropped([(1, 2)])

    def test_a_started_result_does_not_warn(self):
        """One `next` is enough to be quiet, and so is an empty input."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            next(workers.area.map([1, 2]))
            list(workers.area.map([]))
            gc.collect()

    def test_amorsize_map_does_not_warn(self):
        """A plain `amorsize.map` is as silent as the builtin."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            amorsize.map(workers.square, [1])
            gc.collect()


class TestOptions:
    """Options of the decorator, and further ones."""

    def test_with_options_gives_a_new_one(self):
        """Further options win, and the original keeps its own."""
        quiet = amorsize.parallelize(on_error="return", backend="serial")(workers.fail_at_seven)
        loud = quiet.with_options(on_error="raise")

        assert isinstance(next(quiet.map([7])), KeyError)
        with pytest.raises(KeyError):
            next(loud.map([7]))
        assert isinstance(next(quiet.map([7])), KeyError)
        assert loud.__wrapped__ is quiet.__wrapped__

    def test_the_decorator_beats_config_and_the_environment(self, monkeypatch):
        """An option of the decorator wins over the farther places."""
        monkeypatch.setenv("AMORSIZE_BACKEND", "threads")
        serial = amorsize.parallelize(backend="serial")(workers.square)

        with amorsize.config(backend="dask", on_error="return"):
            assert list(serial.map([2])) == [4]

    @pytest.mark.parametrize(
        ("options", "error"),
        [
            ({"njobs": 2}, TypeError),
            ({"n_jobs": "2"}, TypeError),
            ({"n_jobs": 0}, ValueError),
            ({"over": 3}, TypeError),
        ],
    )
    def test_unfit_options_are_refused_at_the_decoration(self, options, error):
        """A wrong option fails where it is written."""
        with pytest.raises(error, match=next(iter(options))):
            amorsize.parallelize(**options)(workers.square)

    def test_an_unknown_option_is_refused_before_there_is_a_function(self):
        """`parallelize(njobs=2)` itself is the TypeError, and names the decorator."""
        with pytest.raises(TypeError, match=r"parallelize\(\) got an unexpected option 'njobs'"):
            amorsize.parallelize(njobs=2)
        with pytest.raises(TypeError, match=r"with_options\(\) got an unexpected option 'njobs'"):
            workers.area.with_options(njobs=2)

    def test_a_function_with_options_beside_it_is_refused(self):
        """`parallelize(function, n_jobs=2)` is no way to write it, and says how to."""
        with pytest.raises(TypeError, match=r"parallelize\(\.\.\.\)\(function\)"):
            amorsize.parallelize(workers.square, n_jobs=2)

    def test_optimize_uses_the_plain_function_and_the_options(self):
        """`.optimize` gives a plan for the input, which comes back whole."""
        plan = workers.area.with_options(n_jobs=1).optimize(iter([1, 2, 3]))

        assert (plan.backend, plan.n_jobs) == ("serial", 1)
        assert list(plan.data) == [1, 2, 3]


class TestRefused:
    """What cannot be mapped is refused at the decoration."""

    def test_a_class(self):
        """Decorating a class is a TypeError."""
        with pytest.raises(TypeError, match=r"not the class Cart; decorate its methods"):
            amorsize.parallelize(workers.Cart)

    def test_an_asynchronous_generator(self):
        """Decorating an asynchronous generator function is a TypeError, through `staticmethod` too."""

        async def pages(url):
            yield url

        with pytest.raises(TypeError, match=r"pages is an asynchronous generator function"):
            amorsize.parallelize(staticmethod(pages))

    def test_what_is_not_callable(self):
        """Decorating a value is a TypeError that shows it."""
        with pytest.raises(TypeError, match=r"takes a function, not int 3"):
            amorsize.parallelize(3)

    def test_a_decorated_function(self):
        """Decorating twice is a TypeError that names the way to other options."""
        with pytest.raises(TypeError, match=r"area is parallelized already; use \.with_options"):
            amorsize.parallelize(workers.area)


class TestOver:
    """With `over=`, a call maps over that parameter."""

    def test_a_call_maps_and_gives_a_list(self, anywhere):
        """The other arguments are constant, whichever way they are given."""
        shout = workers.shout.with_options(**anywhere)

        assert shout(["a", "b"], mark="?") == ["A?", "B?"]
        assert shout(word=("a",), mark="?") == ["A?"]
        assert shout(iter("ab"), "?") == ["A?", "B?"]
        assert shout([]) == []

    def test_every_kind_of_parameter_can_be_mapped_over(self, anywhere):
        """Keyword-only parameters, and ones before variable arguments, map as well."""
        assert workers.shout_by_keyword.with_options(**anywhere)("!", word=["a", "b"]) == ["A!", "B!"]
        assert workers.shout_before.with_options(**anywhere)(["a", "b"], "1", "2", end=".") == ["A12.", "B12."]

    def test_a_later_parameter_can_be_mapped_over(self):
        """Arguments before the parameter stay constant, given or not."""

        @amorsize.parallelize(over="height")
        def area(width=3, height=1, /, depth=1):
            return (width, height, depth)

        assert area(2, [5, 6], 7) == [(2, 5, 7), (2, 6, 7)]
        assert area(2, [5]) == [(2, 5, 1)]

    def test_a_parameter_after_an_omitted_default(self):
        """A default that was left out before the parameter stays the function's own."""

        @amorsize.parallelize(over="height")
        def area(width=3, height=1):
            return (width, height)

        assert area(height=[5, 6]) == [(3, 5), (3, 6)]

    @pytest.mark.parametrize("value", ["text", b"bytes", 3, None, 2.5])
    def test_text_or_a_scalar_is_a_type_error(self, value):
        """One item where items belong is refused, text too."""
        with pytest.raises(TypeError, match=r"shout\(\) maps over 'word' and needs an iterable there, not"):
            workers.shout(value)

    def test_arguments_that_do_not_fit_are_a_type_error(self):
        """Wrong arguments fail at the call, as they do for the function."""
        with pytest.raises(TypeError, match="mork"):
            workers.shout(["a"], mork="?")
        with pytest.raises(TypeError, match="word"):
            workers.shout(mark="?")

    def test_map_and_wrapped_stay_scalar(self):
        """`.map`, `.starmap` and `__wrapped__` take single items."""
        assert list(workers.shout.map(["a", "b"], mark="?")) == ["A?", "B?"]
        assert list(workers.shout.starmap([("a", "?")])) == ["A?"]
        assert workers.shout.__wrapped__("a") == "A!"

    @pytest.mark.parametrize("over", ["words", "marks", "rest"])
    def test_an_unknown_parameter_is_refused_at_the_decoration(self, over):
        """A name that is no parameter, or a variable one, is a TypeError that lists the parameters."""

        def shout(word, mark, *marks, **rest):
            return word

        with pytest.raises(TypeError, match=rf"over='{over}' is no parameter of .*shout\(\); it has word, mark"):
            amorsize.parallelize(over=over)(shout)

    def test_a_dropped_list_does_not_warn(self):
        """The call iterates its own stream."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            workers.shout(["a"])

    def test_an_error_is_the_functions(self):
        """An item that fails raises from the call."""

        @amorsize.parallelize(over="number")
        def fail(number):
            raise KeyError(number)

        with pytest.raises(KeyError):
            fail([1, 2])


class TestMethods:
    """A decorated method binds to its object."""

    def test_a_method_is_called_and_mapped_on_its_object(self, anywhere):
        """`cart.price(10)` and `cart.price.map(amounts)` both see the object, wherever they run."""
        cart = workers.Cart(discount=1)

        assert cart.price(10) == 9
        assert list(cart.price.with_options(**anywhere).map([10, 20], count=2)) == [18, 38]
        assert list(cart.price.with_options(**anywhere).starmap([(10, 1), (20, 3)])) == [9, 57]

    def test_over_works_on_methods(self, anywhere):
        """A method with `over=` maps over the parameter when called on its object, and `.map` stays scalar."""
        cart = workers.Cart(discount=1)

        assert cart.prices([10, 20], count=2) == [18, 38]
        assert cart.prices.with_options(**anywhere)([10, 20], 2) == [18, 38]
        assert list(cart.prices.with_options(**anywhere).map([10, 20])) == [9, 19]

    def test_through_the_class_it_takes_the_object(self):
        """`Cart.price` is the function, whose first argument is the cart."""
        cart = workers.Cart(discount=1)

        assert workers.Cart.price(cart, 10) == 9
        assert list(workers.Cart.price.map([cart, cart], [10, 20])) == [9, 19]

    def test_a_bound_method_looks_like_one(self):
        """Its signature has no `self`, and its name and docstring are the method's."""
        price = workers.Cart(1).price

        assert str(inspect.signature(price)) == "(amount, count=1)"
        assert (price.__name__, price.__doc__) == ("price", "Return what `count` things of `amount` cost.")

    @pytest.mark.parametrize("owner", [workers.Cart, workers.Cart(1)], ids=["class", "object"])
    def test_class_methods_and_static_methods(self, owner, anywhere):
        """The decorator goes above `classmethod`, and above or below `staticmethod`, on class and object alike."""
        assert owner.label(3) == "3 EUR"
        assert list(owner.label.with_options(**anywhere).map([3, 4])) == ["3 EUR", "4 EUR"]
        assert list(owner.rounded.with_options(**anywhere).map([1.2, 2.7])) == [1, 3]
        assert list(owner.halved.with_options(**anywhere).map([3])) == [1.5]

    def test_a_subclass_is_the_class_of_its_class_methods(self):
        """A class method sees the class that it was asked on."""

        class Dollars(workers.Cart):
            currency = "USD"

        assert list(Dollars.label.map([3])) == ["3 USD"]

    def test_super_and_aliases(self):
        """An overriding method reaches the decorated one, and an alias of a method binds too."""

        class Generous(workers.Cart):
            def price(self, amount):
                return super().price(amount) - 1

            cost = workers.Cart.price

        assert Generous(1).price(10) == 8
        assert list(Generous(1).cost.map([10])) == [9]


class TestPickling:
    """A decorated function travels as functions do: by name."""

    def test_by_name(self):
        """A module's decorated function comes back as the very same object."""
        assert pickle.loads(pickle.dumps(workers.area)) is workers.area
        assert pickle.loads(pickle.dumps(workers.Cart.price)) is workers.Cart.price
        assert pickle.loads(pickle.dumps(workers.shout)) is workers.shout

    def test_derived_ones_follow_the_way_again(self):
        """Other options, bound methods and class methods come back with what they had."""
        quiet = pickle.loads(pickle.dumps(workers.area.with_options(on_error="return", backend="serial")))
        cart = workers.Cart(discount=1)

        assert isinstance(next(quiet.map([None], height=None)), TypeError)
        assert pickle.loads(pickle.dumps(cart.price))(10) == 9
        assert pickle.loads(pickle.dumps(cart.prices.with_options(n_jobs=1)))([10]) == [9]
        assert pickle.loads(pickle.dumps(workers.Cart.label))(3) == "3 EUR"
        assert pickle.loads(pickle.dumps(workers.Cart.rounded))(1.2) == 1

    def test_callables_without_a_name_travel_by_value(self):
        """Partials, callable objects and builtins that were decorated in passing are rebuilt."""
        for function, result in ((functools.partial(workers.add, 1), 3), (workers.Scale(2), 4), (abs, 2)):
            assert pickle.loads(pickle.dumps(amorsize.parallelize(function)))(2) == result

    def test_a_lambda_is_refused_as_functions_are(self):
        """What pickle cannot find by name is pickle's own error."""
        with pytest.raises((pickle.PicklingError, AttributeError)):
            pickle.dumps(amorsize.parallelize(lambda number: number))

    def test_copies(self):
        """As for functions, copies are the same object; a copied bound method still works."""
        assert copy.copy(workers.area) is workers.area
        assert copy.deepcopy({"key": workers.shout})["key"] is workers.shout
        assert copy.deepcopy(workers.Cart(1).price)(10) == 9

    def test_the_stock_pool_can_run_it(self):
        """A decorated function is a callable like any other to `multiprocessing`."""
        method, *arguments = pickle.loads(pickle.dumps((workers.Cart(1).price, 10)))

        assert method(*arguments) == 9

    def test_the_original_has_its_own_type(self):
        """The two kinds are told apart by type, and one is the other's base."""
        assert type(workers.area) is Parallelized
        assert type(workers.shout) is ParallelizedOver
        assert issubclass(ParallelizedOver, amorsize.Parallelized)
