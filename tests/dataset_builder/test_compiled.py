import numba

from dataset_builder.compiled import compiled


def test_a_place_for_the_cache_is_not_needed(monkeypatch):
    njit = numba.njit

    def no_place(*functions: object, **options: object):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(*functions, **options)

    monkeypatch.setattr("numba.njit", no_place)
    assert compiled(lambda number: number + 1)(2) == 3
