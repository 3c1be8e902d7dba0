"""What a person reads of a failed build: the cause, and never a secret."""

from __future__ import annotations

import pytest

from bot.logs import PIECE, Readable, clean, error_lines, failed_tests, redact, tail

PYTEST = """
============================= test session starts ==============================
collected 12 items
tests/test_pay.py ....F.                                                 [100%]
=================================== FAILURES ===================================
__________________________________ test_total __________________________________
    def test_total():
>       assert total([1, 2]) == 4
E       assert 3 == 4
E        +  where 3 = total([1, 2])
tests/test_pay.py:9: AssertionError
=========================== short test summary info ============================
FAILED tests/test_pay.py::test_total - assert 3 == 4
========================= 1 failed, 11 passed in 0.12s =========================
"""
UNITTEST = """
test_ok (test_pay.Total.test_ok) ... ok
test_total (test_pay.Total.test_total) ... FAIL

======================================================================
FAIL: test_total (test_pay.Total.test_total)
----------------------------------------------------------------------
Traceback (most recent call last):
  File "/build/test_pay.py", line 9, in test_total
    self.assertEqual(total([1, 2]), 4)
AssertionError: 3 != 4

----------------------------------------------------------------------
Ran 2 tests in 0.001s

FAILED (failures=1)
"""
TRACEBACK = """
loading config
Traceback (most recent call last):
  File "/app/build.py", line 3, in <module>
    main()
  File "/app/build.py", line 2, in main
    return config["port"]
KeyError: 'port'
"""
GCC = """
gcc -O2 -Werror -c error_handler.c
gcc -O2 -c total.c
total.c: In function 'total':
total.c:4:12: warning: unused variable 'x' [-Wunused-variable]
total.c:5:10: error: 'y' undeclared (first use in this function)
    5 |   return y;
      |          ^
make: *** [Makefile:3: total.o] Error 1
"""
GO = """
=== RUN   TestTotal
--- FAIL: TestTotal (0.00s)
    total_test.go:9: got 3, want 4
FAIL
FAIL\texample.com/pay\t0.003s
"""
NPM = """
> pay@1.0.0 test
> jest
 FAIL  src/total.test.js
  ● total › adds up

    expect(received).toBe(expected)

    Expected: 4
    Received: 3

npm ERR! Test failed.  See above for more details.
npm ERR! A complete log of this run can be found in: /root/.npm/_logs/x-debug-0.log
"""
MAVEN = """
[INFO] Running com.example.TotalTest
[ERROR] Tests run: 3, Failures: 1, Errors: 0, Skipped: 0, Time elapsed: 0.1 s <<< FAILURE!
[ERROR]   TotalTest.addsUp:12 expected:<4> but was:<3>
[INFO] Tests run: 3, Failures: 0, Errors: 0
[ERROR] Failed to execute goal surefire:test: There are test failures.
[ERROR] -> [Help 1]
[ERROR]
[ERROR] To see the full stack trace of the errors, re-run Maven with the -e switch.
"""
DOCKER = """
#7 [3/5] RUN pip install -r requirements.txt
#7 ERROR: process "/bin/sh -c pip install" did not complete successfully: exit code: 1
------
Dockerfile:3
ERROR: failed to solve: process "/bin/sh -c pip install" did not complete successfully: exit code: 1
"""
RUST = """
   Compiling pay v0.1.0
error[E0308]: mismatched types
 --> src/lib.rs:2:5
test total::adds ... FAILED
"""
DISK = "copying\ncp: error writing 'dist/app': No space left on device\nok\n"

CAUSES = [
    (PYTEST, ["E       assert 3 == 4", "FAILED tests/test_pay.py::test_total - assert 3 == 4"], ["collected 12 items"]),
    (UNITTEST, ["FAIL: test_total (test_pay.Total.test_total)", "AssertionError: 3 != 4"], ["Ran 2 tests in 0.001s"]),
    (TRACEBACK, ["KeyError: 'port'", '    return config["port"]'], ["loading config"]),
    (
        GCC,
        ["total.c:5:10: error: 'y' undeclared (first use in this function)", "    5 |   return y;"],
        [
            "total.c:4:12: warning: unused variable 'x' [-Wunused-variable]",
            "gcc -O2 -Werror -c error_handler.c",
        ],
    ),
    (GO, ["--- FAIL: TestTotal (0.00s)", "    total_test.go:9: got 3, want 4"], ["=== RUN   TestTotal"]),
    (
        NPM,
        ["  ● total › adds up", "    Expected: 4", "    Received: 3"],
        [
            "npm ERR! A complete log of this run can be found in: /root/.npm/_logs/x-debug-0.log",
        ],
    ),
    (
        MAVEN,
        ["[ERROR]   TotalTest.addsUp:12 expected:<4> but was:<3>"],
        [
            "[INFO] Tests run: 3, Failures: 0, Errors: 0",
            "[ERROR] -> [Help 1]",
            "[INFO] Running com.example.TotalTest",
        ],
    ),
    (DOCKER, ['#7 ERROR: process "/bin/sh -c pip install" did not complete successfully: exit code: 1'], ["------"]),
    (RUST, ["error[E0308]: mismatched types", " --> src/lib.rs:2:5"], ["   Compiling pay v0.1.0"]),
    (DISK, ["cp: error writing 'dist/app': No space left on device"], ["copying"]),
]


@pytest.mark.parametrize(("log", "told", "untold"), CAUSES)
def test_the_cause_is_told_and_noise_is_not(log: str, told: list[str], untold: list[str]) -> None:
    """People read twenty lines, not twenty thousand."""
    lines = error_lines(log)
    assert set(told) <= set(lines), lines
    assert not set(untold) & set(lines), lines
    assert [line for line in log.splitlines() if line in lines] == list(dict.fromkeys(lines)) or len(lines) <= 20


FAILED = [
    (PYTEST, ("tests/test_pay.py::test_total",)),
    (UNITTEST, ("test_total (test_pay.Total.test_total)",)),
    (GO, ("TestTotal",)),
    (NPM, ("total › adds up",)),
    (MAVEN, ("TotalTest.addsUp",)),
    (RUST, ("total::adds",)),
    ("not ok 2 - adds up # time=1ms\nok 3 - x", ("adds up",)),
    ("[  FAILED  ] Total.Adds (0 ms)", ("Total.Adds",)),
    ("1) Pay\\TotalTest::testAdds\nFailed asserting that 3 is 4.", ("Pay\\TotalTest::testAdds",)),
    ("pay.TotalTest > adds FAILED", ("pay.TotalTest > adds",)),
    (TRACEBACK, ()),
]


@pytest.mark.parametrize(("log", "names"), FAILED)
def test_failed_tests_are_named_as_their_tool_names_them(log: str, names: tuple[str, ...]) -> None:
    """A name that can be pasted into the tool is worth more than its message."""
    assert failed_tests(log) == names


def test_the_first_errors_win_and_the_order_stays() -> None:
    """The first error is the cause; the hundred after it follow from it."""
    lines = error_lines("\n".join(f"a.c:{n}:1: error: number {n}" for n in range(1000)))
    assert len(lines) == 20
    assert lines[0] == "a.c:0:1: error: number 0"
    assert lines == tuple(sorted(lines, key=lambda line: int(line.split()[-1])))


def test_a_log_without_any_error_gives_its_end() -> None:
    """Silent tools exist; the last words are better than nothing."""
    lines = error_lines("\n".join(f"line {n}" for n in range(100)))
    assert lines == tuple(f"line {n}" for n in range(90, 100))
    assert error_lines("") == ()


SECRETS = [
    ("Authorization: Bearer abcdef.ghijkl-123456", "abcdef"),
    ("curl -H 'Authorization: Basic Ym90OnBhc3M='", "Ym90"),
    ("https://bot:hunter22@git.example/x.git", "hunter22"),
    ("https://ghp_abcdefghijklmnopqrstuvwxyz0123456789@github.com/x", "ghp_"),
    ("password=hunter22", "hunter22"),
    ("PGPASSWORD: 'hunter 22'", "hunter"),
    ('{"api_key": "hunter22", "a": 1}', "hunter22"),
    ("--token hunter22 --other", "hunter22"),
    ("DB_PASSWORD=hunter22;x", "hunter22"),
    ("client_secret => hunter22", "hunter22"),
    ("AKIAIOSFODNN7EXAMPLE", "AKIA"),
    ("key glpat-abcdefghij0123456789", "glpat"),
    ("xoxb-123456789012-abcdefABCDEF", "xoxb"),
    ("https://hooks.slack.com/services/T0/B0/abcdef", "abcdef"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-def_ghi", "eyJ"),
    ("x = q7Kp2vR9sLmX4nT8bWcY1dFgH3jZ6aQe", "q7Kp"),
    ("GET /x?a=1&signature=abc123&b=2", "abc123"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIEabc\n-----END RSA PRIVATE KEY-----", "MIIE"),
    ("\x1b[31mpass\x1b[0mword=hunter22", "hunter22"),
    ("npm_abcdefghijklmnopqrstuvwxyz0123456789", "npm_"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_no_secret_leaves(text: str, secret: str) -> None:
    """Log excerpts go to chat rooms, where they stay."""
    assert secret not in redact(clean(text) if "\n" not in text else text)
    assert secret not in "\n".join(error_lines(f"error: {text}\n{text}\nfailed"))
    data = text.encode()
    assert secret not in Readable().feed(b"%s\n" % data).decode()
    assert secret not in "\n".join(tail(lambda offset, count: data[offset : offset + count], len(data), 10))


HARMLESS = [
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "commit = da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "id=123e4567-e89b-12d3-a456-426614174000",
    "https://git.example/group/pay.git",
    "SyntaxError: unexpected token: }",
    "path=/usr/share/java/some/very/long/path/to/a/file/that/goes/on.jar",
    "basic usage: see the manual",
    "AssertionError: 3 != 4",
    "PWD=/build",
]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_a_reader_needs_is_kept(text: str) -> None:
    """Digests, commits and paths are what one looks for."""
    assert redact(text) == text


def test_lines_are_as_a_terminal_leaves_them() -> None:
    """Colours, progress bars, bells and reversed text do not reach a chat."""
    assert clean("\x1b[1;31merror\x1b[0m: \x07bad\x08\r\n") == "error: bad"
    assert clean("10%\r50%\r100% done") == "100% done"
    assert clean("\x1b]0;title\x07x\u202edlrow") == "xdlrow"
    assert clean("a\tb") == "a\tb"


HOSTILE = ["a." * 4000, "password" * 1000, "-" * 8000, "eyJ" * 2500, "a=b " * 2000, " " * 8000 + "x", "://a" * 2000]


@pytest.mark.parametrize("line", HOSTILE)
@pytest.mark.timeout(5)
def test_a_hostile_line_costs_no_more_than_a_long_one(line: str) -> None:
    """A build's output must not be able to stop the bot."""
    error_lines([f"error {line}"] * 50)
    redact(line)


def test_the_tail_of_a_big_log_is_read_from_its_end() -> None:
    """`/logs` on ten megabytes reads a few pages."""
    data = b"".join(b"line %d\n" % n for n in range(200_000))
    read: list[int] = []

    def piece(offset: int, count: int) -> bytes:
        read.append(count)
        return data[offset : offset + count]

    assert tail(piece, len(data), 3) == ("line 199997", "line 199998", "line 199999")
    assert sum(read) <= 65536
    assert tail(piece, len(data), 0) == ()
    assert tail(piece, 0, 5) == ()
    assert tail(lambda offset, count: b"x" * count, 50_000_000, 5, limit=200_000)[0].endswith("…")


KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEabc\n-----END RSA PRIVATE KEY-----"
LOG = f"line 1\n\x1b[31mpassword=hunter22\x1b[0m\n{KEY}\nend"
SHOWN = "line 1\npassword=[redacted]\n[redacted]\n[redacted]\n[redacted]\nend\n"


@pytest.mark.parametrize("size", [1, 2, 7, 50, 1000])
def test_a_whole_log_reads_the_same_however_it_arrives(size: int) -> None:
    """A secret that is cut between two pieces is still one."""
    readable, data = Readable(), LOG.encode()
    pieces = [readable.feed(data[at : at + size]) for at in range(0, len(data), size)]
    assert b"".join([*pieces, readable.end()]).decode() == SHOWN


def test_a_line_without_an_end_is_cut_and_fills_no_memory() -> None:
    """A progress bar of a gigabyte is one line; half of a secret at the cut must not be shown."""
    readable = Readable()
    shown = sum(len(readable.feed(b"x" * 50_000)) for _ in range(100))
    assert shown <= PIECE + 100
    assert readable.feed(b"password=hunter22\nnext\n") == b"next\n"
    assert readable.end() == b""


def test_reading_a_log_holds_no_more_than_a_line_of_it() -> None:
    """However long it is: what went in comes out at once."""
    readable, line = Readable(), b"building module 1234 of 5678, all is well so far\n"
    came = went = 0
    for _ in range(200):
        piece = line * 400 + line[:20]
        came, went = came + len(piece), went + len(readable.feed(piece))
        assert came - went <= 200 * 20
