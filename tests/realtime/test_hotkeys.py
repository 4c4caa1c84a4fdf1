from realtime.hotkeys import HOTKEYS, Action, Command, command_for_code, command_for_key


def test_no_key_has_two_meanings_and_no_action_is_without_a_key():
    keys = [key for row in HOTKEYS for key in row.keys]
    assert len(keys) == len(set(keys))
    assert {row.action for row in HOTKEYS} == set(Action) - {Action.SET_STRENGTH}


def test_keys_by_name_and_by_window_code_are_the_same_commands():
    for key, code in (
        ("n", ord("n")),
        ("Escape", 27),
        (" ", 32),
        ("ArrowLeft", 65361),
        ("ArrowRight", 2555904),
        ("+", 65451),
        ("-", 45),
    ):
        assert command_for_key(key) == command_for_code(code) is not None
    assert command_for_code(ord("N")) == Command(Action.NEXT_STYLE)
    assert command_for_code(0x100000 + ord("q")) == Command(Action.QUIT)  # NumLock sets a high bit on X11
    assert command_for_key("7") == Command(Action.CHOOSE_STYLE, 7)
    assert command_for_key("0") == Command(Action.CHOOSE_STYLE, 10)


def test_other_keys_do_nothing():
    for code in (-1, 0, ord("z"), 65362, 0x10FFFF):
        assert command_for_code(code) is None
    assert command_for_key("Shift") is None and command_for_key("") is None
