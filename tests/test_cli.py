"""What every command shares."""

import re
import signal

import jax
import pytest

from fiancee_jax import cli
from fiancee_jax.errors import Interrupted, UserError


def test_run_turns_a_mistake_into_one_line_and_status_2(capsys):
    def main():
        raise UserError("the map [red] is bad; mend it.")

    with pytest.raises(SystemExit) as stop:
        cli.run(main)
    output = capsys.readouterr()
    assert stop.value.code == 2
    assert output.err == "error: the map [red] is bad; mend it.\n"
    assert output.out == ""


def test_run_colours_the_mistake_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")

    def main():
        raise UserError("the map [red] is bad.")

    with pytest.raises(SystemExit):
        cli.run(main)
    error = capsys.readouterr().err
    assert "\x1b[" in error
    assert "the map [red] is bad." in re.sub(r"\x1b\[[0-9;]*m", "", error)


def test_run_stops_quietly_when_interrupted(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        cli.run(main)
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_signal_is_one_line_and_the_status_that_shells_use(capsys):
    def main():
        raise Interrupted(signal.SIGTERM, " after step 3")

    with pytest.raises(SystemExit) as stop:
        cli.run(main)
    assert stop.value.code == 128 + 15
    assert capsys.readouterr().err == "stopped by SIGTERM after step 3\n"


@pytest.mark.parametrize("hosts", [1, 3])
def test_what_fails_with_another_host_is_one_line(capsys, monkeypatch, hosts):
    def main():
        raise jax.errors.JaxRuntimeError("INTERNAL: Gloo all-reduce failed\nand so on")

    monkeypatch.setattr(jax, "process_count", lambda: hosts)
    if hosts == 1:  # a bug like any other
        with pytest.raises(jax.errors.JaxRuntimeError):
            cli.run(main)
        return
    with pytest.raises(SystemExit) as stop:
        cli.run(main)
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: a computation over 3 hosts failed: INTERNAL: Gloo all-reduce")
    assert said.count("\n") == 1


def test_run_hides_no_bug():
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cli.run(main)


def test_commands_keep_what_they_compiled_where_the_user_keeps_caches(monkeypatch, tmp_path):
    changed = {}
    monkeypatch.setattr(cli.jax.config, "update", changed.__setitem__)
    cli.keep_compiled()
    assert not changed  # a folder was chosen already, by conftest.py
    monkeypatch.setattr(type(cli.jax.config), "jax_compilation_cache_dir", None, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cli.keep_compiled()
    assert changed["jax_compilation_cache_dir"] == str(tmp_path / "fiancee_jax" / "compiled")


def test_table_is_aligned_plain_text_in_a_log(capsys):
    cli.print_table(("exit", "GMACs"), [("tap1_w25", 0.5), ("full", 12.25)], "title")
    assert capsys.readouterr().out.splitlines() == [
        "title",
        "exit      GMACs",
        "tap1_w25    0.5",
        "full      12.25",
    ]


@pytest.mark.parametrize(("every", "lines"), [(0.0, 2), (60.0, 0)])
def test_progress_speaks_now_and_then_in_a_log(capsys, every, lines):
    with cli.Progress("pictures", 8, every) as progress:
        progress.say("compiling [once]")
        progress.advance(5)
        progress.advance(3)
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "compiling [once]"
    assert len(rest) == lines
    if lines:
        assert rest[0].startswith("5/8 pictures")
        assert rest[1].startswith("8/8 pictures")


def test_progress_is_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with cli.Progress("pictures", 8) as progress:
        progress.say("compiling [once]")
        progress.advance(8)
    output = capsys.readouterr().out
    assert "compiling [once]" in output
    assert "8/8" in output
