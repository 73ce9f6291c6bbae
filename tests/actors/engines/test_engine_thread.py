from actors.engines.engine_thread import LoadProgress


def test_steps_that_only_count_are_logged_once_a_second() -> None:
    lines = LoadProgress()
    logged = [step for step in range(1, 41) if lines.is_due(f"loading layer {step} of 40", step * 0.1)]
    assert logged == [1, 11, 21, 31]


def test_another_kind_is_always_logged() -> None:
    lines = LoadProgress()
    steps = ("loading layer 1 of 2", "loading layer 2 of 2", "warming up", "loading layer 1 of 2")
    assert [lines.is_due(step, 0.0) for step in steps] == [True, False, True, True]
