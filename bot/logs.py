"""What matters in a log: the lines that say why, without secrets.

Everything here is a table: add a rule there, and a case to the tests. All functions are deterministic.
"""

from __future__ import annotations

import math
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

LINE_LIMIT = 300
"""Characters of one line that are shown."""
_READ_LIMIT = 2000
"""Characters of one line that are looked at: more than are shown, so that no secret is cut into something unknown."""

# --- cleaning -------------------------------------------------------------------------------------------------------

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[@-Z\\-_])")
# C0 and C1 controls but tab, and what turns the reading direction or hides text.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")


def clean(line: str) -> str:
    """One line as a terminal would leave it: no colours, no controls, only the last state of a progress bar."""
    line = _ESCAPES.sub("", line.rstrip("\r\n"))
    return _CONTROLS.sub("", line.rpartition("\r")[2]).rstrip()


# --- secrets --------------------------------------------------------------------------------------------------------

_HIDDEN = "[redacted]"
_KEYWORD = (  # Bounded everywhere: a hostile line must not cost more than a long one.
    r"(?<!unexpected )(?:password|passwd|passphrase|[_-]pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|"
    r"credentials?|authorization|auth[_-]?key|session[_-]?id|cookie|webhook[_-]?url)[\w-]{0,40}"
)
_VALUE = r"""("[^"]*"|'[^']*'|(?:(?:bearer|basic)\s+)?[^\s,;&"'{}]+)"""


@dataclass(frozen=True, slots=True)
class _Secret:
    """A shape of secret. `keep` is what stays of a match, as a template."""

    pattern: re.Pattern[str]
    keep: str = _HIDDEN


_SECRETS = (
    _Secret(re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)),
    _Secret(re.compile(r"\b([a-z][a-z0-9+.-]{1,20}://)[^\s/@'\"]+@", re.IGNORECASE), rf"\1{_HIDDEN}@"),
    _Secret(re.compile(r"\b(https://hooks\.slack\.com/\w+/)\S+"), rf"\1{_HIDDEN}"),
    _Secret(re.compile(r"\b(https://open\.(?:feishu|larksuite)\.\w+/open-apis/bot/v2/hook/)\S+"), rf"\1{_HIDDEN}"),
    _Secret(
        re.compile(r"\b(bearer|basic|negotiate|digest)(\s+)(?=[^\s'\"]*[\d=+/._-])[\w.~+/=-]{8,}", re.IGNORECASE),
        rf"\1\2{_HIDDEN}",
    ),
    _Secret(re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?")),
    _Secret(re.compile(r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|gl(?:pat|ptt|cbt|dt|rt|soat|ft)-[\w-]{16,})")),
    _Secret(re.compile(r"\bxox[a-z]-[\w-]{10,}|\bxapp-[\w-]{10,}")),
    _Secret(re.compile(r"\b(?:AKIA|ASIA|AIDA|AROA)[A-Z0-9]{16}\b|\bLTAI[A-Za-z0-9]{12,}\b|\bAIza[\w-]{35}")),
    _Secret(re.compile(r"\b(?:npm_[A-Za-z0-9]{30,}|pypi-[\w-]{30,}|dop_v1_\w{40,}|sq[a-z]_\w{30,})")),
    _Secret(re.compile(r"\b(?:sk-[\w-]{20,}|hvs\.[\w-]{20,}|dckr_pat_[\w-]{20,})")),
    _Secret(
        re.compile(
            rf"""({_KEYWORD}["']?\s{{0,8}}(?:=>|:=|=|:)\s{{0,8}})(?!{re.escape(_HIDDEN)}){_VALUE}""", re.IGNORECASE
        ),
        rf"\1{_HIDDEN}",
    ),
    _Secret(re.compile(rf"""(--?[\w-]{{0,40}}{_KEYWORD}\s{{1,8}})(?!-)(\S+)""", re.IGNORECASE), rf"\1{_HIDDEN}"),
    _Secret(
        re.compile(r"([?&](?:sig|signature|key|code|auth|x-amz-signature|x-amz-credential)=)[^&\s'\"]+", re.IGNORECASE),
        rf"\1{_HIDDEN}",
    ),
)
_ASSIGNED = re.compile(r"""(\b[\w.-]{1,60}["']?\s{0,8}[=:]\s{0,8}["']?)([A-Za-z0-9+/_=-]{32,})(?![\w/.])""")
# Digests, commits and UUIDs are long and random, and no secret: they are what a reader looks for.
_HARMLESS = re.compile(
    r"(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.IGNORECASE
)


def redact(text: str) -> str:
    """The text with every known shape of secret replaced. Works on one line or on many."""
    for secret in _SECRETS:
        text = secret.pattern.sub(secret.keep, text)
    return _ASSIGNED.sub(_hide_random, text)


def _hide_random(match: re.Match[str]) -> str:
    value = match[2]
    if _HARMLESS.fullmatch(value) or "/" in value.strip("/") or _entropy(value) < 4.0:
        return match[0]
    return match[1] + _HIDDEN


def _entropy(value: str) -> float:
    """Bits per character: words stay under 4, random letters and digits are above."""
    counts = Counter(value).values()
    return -sum(count / len(value) * math.log2(count / len(value)) for count in counts)


# --- lines that matter ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Matter:
    """A shape of telling line. weight: 1 (perhaps) to 9 (surely the cause); before, after: lines of context."""

    pattern: re.Pattern[str]
    weight: int
    before: int = 0
    after: int = 0


def _matter(pattern: str, weight: int, before: int = 0, after: int = 0, *, fold: bool = False) -> _Matter:
    return _Matter(re.compile(pattern, re.IGNORECASE if fold else 0), weight, before, after)


_NOISE = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"^(?!.*\b[1-9]\d* (?:errors?|failures?|failed)).*\b0 (?:errors?|failures?|failed)\b",
        r"^(?!.*\b(?:errors?|failures?)[:=] ?[1-9]).*\b(?:errors?|failures?)[:=] ?0\b",
        r"^\[ERROR\]\s*$|^\[ERROR\] (?:->|To see the full|Re-run Maven|For more information|\[Help|After correcting)",
        r"^npm (?:ERR!|error)\s*$|^npm (?:ERR!|error) (?:A complete log|.*-debug-\d*\.log|path |workspace |location )",
        r"^\s*(?:warning|warn|info|debug|notice)\b[:\]]|^(?:INFO|WARN|DEBU)\[\d{4}\] ",
        r"^=+ (?:FAILURES|ERRORS|short test summary info) =+$",
        r"^\s+at .*(?:\(node:|\bnode:internal/|/node_modules/)",
        r"^remote: +(?:Counting|Compressing|Enumerating|Resolving|Total|Processing)\b|^npm verbose ",
        r"^\s*(?:✓|✔|√|ok \d+|--- PASS:) |\.\.\. ok$|^\S+ PASSED\b",
        r"^(?!.*(?: error: |\*\*\* |undefined reference|multiple definition))"
        r".*(?:error_(?:log|page|handler|code)s?\b|-Werror)",
        r"continue-on-error|\.error\.(?:js|log)\b|(?:no|without) errors?\b",
    )
)

_NOT_OURS = r"(?:java|javax|jdk|sun|kotlin|scala|org\.(?:junit|gradle|apache|hamcrest))\."
"""Packages in a stack of the JVM that no service is written in."""

_MATTERS = (
    # Python
    _matter(r"^E\s{2,}\S", 8),
    _matter(r"^(?:FAILED|ERROR) \S+(?:::\S+)?(?: - |$)", 9),
    _matter(r"^(?:FAIL|ERROR): \S+", 9),
    _matter(r"^FAILED \((?:failures|errors|unexpected)", 7),
    _matter(r"^(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Failure|Warning|Interrupt|Exit)(?:: |$)", 8, before=2),
    _matter(r"^(?!/)\S+\.py:\d+: (?:in \w|\w+(?:Error|Exception|Failed)$)", 6),
    _matter(r'^\s+File "(?!<frozen)(?!.*(?:/site-packages/|/lib/python\d))[^"]+", line \d+', 4, after=1),
    _matter(r"^The conflict is caused by:", 7, after=4),
    _matter(r"^_{3,} (?:ERROR collecting|.*) _{3,}$", 3),
    _matter(r"^=+ .*\b[1-9]\d* (?:failed|errors?)\b.*=+$", 6),
    # Compilers, linkers, make, shells
    _matter(r"^\S+?[:(]\d+(?:[:,]\d+)?\)?:? (?:fatal )?error\b", 9, after=2),
    _matter(r"(?:^|\s)(?:fatal )?error(?:\[E\d+\]|\s+[A-Z]{1,4}\d+)?: ", 7, after=1, fold=True),
    _matter(r"^\S+:\d+:\d+:\s+required from here", 7),
    _matter(r"^CMake Error\b", 9, after=4),
    _matter(r"^\s+symbol: ", 6),
    _matter(r"multiple definition of|undefined reference to|ld returned \d+ exit|cannot find -l", 8),
    _matter(r"^make(?:\[\d+\])?: \*\*\* ", 6),
    _matter(r": (?:command )?not found$|: No such file or directory|: Permission denied$", 7),
    # Git
    _matter(r"^CONFLICT \(", 9),
    _matter(r"^\s*! \[(?:remote )?rejected\]", 9),
    _matter(r"^remote: ", 3),
    # JavaScript
    _matter(r"^npm (?:ERR!|error) ", 6),
    _matter(r"^\s*● .+", 8, after=6),
    _matter(r"^\s*(?:✕|✖|×) ", 8),
    _matter(r"^not ok \d+", 8, after=3),
    _matter(r"^\s+\d+\) \S", 4, after=1),
    _matter(r"^\s+at .+ \([^()]+:\d+:\d+\)$", 4),
    _matter(r"^\s*\S.{0,200} !==? \S", 5),
    _matter(r"^\s*(?:Uncaught )?(?:Type|Reference|Syntax|Range|Assertion)Error\b", 8, after=2),
    _matter(r"Module not found|Cannot find module", 8, after=2),
    _matter(r"^\s*✘ ", 8, after=3),
    _matter(r"^\W?ERR_PNPM_\w+\W", 8),
    _matter(r"^\[vite[\]:]|\bis not exported by ", 8),
    _matter(r"^file: \S+:\d+:\d+$", 6),
    _matter(r"^\s*>\s*\d+ \|", 6, after=1),
    _matter(r"^\s*(?:\|\s*)?\^+$", 5, before=1, after=1),
    # Go, Rust
    _matter(r"^\s*--- FAIL: ", 9, after=3),
    _matter(r"^FAIL\s+\S+", 7),
    _matter(r"^panic: |^fatal error: ", 9, after=4),
    _matter(r"^\S+\.go:\d+(?::\d+)?: ", 7),
    _matter(r"^\s+\S+_test\.go:\d+: ", 8),
    _matter(r"^\t(?!/usr/local/go/|.*/pkg/mod/)\S+\.go:\d+ \+0x", 4),
    _matter(r"^\s*--> \S+:\d+:\d+", 5, before=1),
    _matter(r"^test .+ \.\.\. FAILED$", 9),
    _matter(r"^thread '.+' (?:\(\d+\) )?panicked at", 9, after=3),
    _matter(r"^assertion .+ failed", 8, after=2),
    _matter(r"^error(?:\[E\d+\])?: ", 9, after=4),
    # Java, Gradle, Scala, .NET
    _matter(r"^\[ERROR\] .*(?:ERROR|FAILURE)!", 8),
    _matter(r"^\[ERROR\] \S", 7),
    _matter(r"^(?:Caused by|Exception in thread)\b", 9, after=1),
    _matter(r"^(?:[a-z]\w*\.)+[A-Z]\w*(?:Exception|Error)\b", 8, after=2),
    _matter(r"^\* What went wrong:", 8, after=3),
    _matter(r"^\* Where:", 6, after=1),
    _matter(r"^> Could not ", 8),
    _matter(rf"^\s+at (?!{_NOT_OURS})[\w.$]+\(\w+\.\w+:\d+\)$", 4),
    _matter(r"^> Task .* FAILED$|^.* > .* FAILED$", 8, after=2),
    _matter(r": error (?:CS|MSB|NU|FS|BC|TS)\d+:", 9),
    # Tests of C and C++, Ruby, PHP
    _matter(r"^\[  FAILED  \] ", 8),
    _matter(r"^\s+(?:Expected|Actual|Received|expected|got|want)\b.*:", 4),
    _matter(r"^rspec \./", 9),
    _matter(r"^\s+Failure/Error: ", 8),
    _matter(r"^\s+(?:\w+::)*[A-Z]\w*Error:$", 8, after=1),
    _matter(r"^\tfrom (?!<internal)", 4),
    _matter(r"^PHP (?:Fatal|Parse) error", 9),
    _matter(r"^\d+\) [\w\\]+::\w+", 8, after=1),
    _matter(r"\bFailed asserting ", 8),
    _matter(r"^--- Expected$", 6, after=9),
    _matter(r"^(?:\s*│ )?/(?!.*/vendor/)\S+\.php:\d+$", 6),
    _matter(r"^\s*│ (?:\w+\\)*\w*(?:Error|Exception): ", 8),
    _matter(r"^Tests: \d+, Assertions: .*(?:Errors|Failures): [1-9]", 6),
    _matter(r"^Your requirements could not be resolved", 7),
    _matter(r"^\s+- (?:Root composer\.json|\S+/\S+ \S+) requires ", 8),
    _matter(r"^Errors parsing ", 7),
    _matter(r" at \S+ line \d+\.$", 7),
    # Containers, clusters, the machine
    _matter(r"^ERROR: (?:failed to|process|executor failed)|failed to solve", 8),
    _matter(r"^ ?> ?\[.+\]:?$|^Dockerfile:\d+$", 4),
    _matter(r"ImagePullBackOff|ErrImagePull|CrashLoopBackOff|OOMKilled|CreateContainerConfigError", 9),
    _matter(r"No space left on device|Cannot allocate memory|Out of memory|Killed$|Segmentation fault|core dumped", 9),
    _matter(
        r"Address already in use|Connection refused|Could not resolve host|no such host|certificate verify failed",
        7,
        fold=True,
    ),
    _matter(r"UPGRADE FAILED", 8),
    _matter(r"^(?:│ )?Error: ", 8, after=5),
    _matter(r"^slipway: ", 9),
    # Anything that says so itself
    _matter(r"\b(?:AssertionError|assertion failed)\b", 7, fold=True),
    _matter(r"(?:^|\W)(?:FATAL|CRITICAL|SEVERE|PANIC)(?:\W|$)", 6),
    _matter(r"(?:^|[\s\[])ERROR(?:[\s\]:]|$)", 4, after=1),
    _matter(r"\b(?:failed|failure|error|cannot|unable to|denied|refused|timed? ?out)\b", 2, fold=True),
)
# Every rule above needs one of these. Looking for plain text first makes a line that says nothing ten times cheaper.
# fmt: off
_HINTS = (
    "error", "fail", "exception", "warning", "interrupt", "exit", "e  ", "*** ", "undefined reference", "cannot",
    "not found", "no such file", "denied", "●", "✕", "✖", "×", "not ok", "panic", ".go:", "caused by",
    "went wrong", "expected", "actual", "received", "got", "want", "rspec", "executor", "> [", "dockerfile:",
    "backoff", "errimagepull", "oomkilled", "no space", "out of memory", "allocate memory", "killed",
    "segmentation", "core dumped", "already in use", "refused", "could not resolve", "no such host", "certificate",
    "slipway:", "assert", "fatal", "critical", "severe", "unable", "timed out", "timedout", "timeout", "time out",
    "___", ".py:", 'file "', "conflict", "required from", "symbol:", "multiple definition", "rejected", "remote:", ") ",
    "at ", "!=", "-->", "\tfrom ", "✘", "err_pnpm", "[vite", "exported", "file: ", " | ", "^", "where:", "could not",
    "::", ".php:", "│", "assertions", "requires", "parsing",
)
# fmt: on
_MAX_KEPT = 400
_TAIL = 10


@dataclass(slots=True)
class _Kept:
    """A line that may be shown: its place in the log, its text, and how much it says."""

    index: int
    text: str
    weight: int


def error_lines(log: str | Iterable[str], limit: int = 20) -> tuple[str, ...]:
    """At most `limit` lines that say why it failed, in their order, cleaned, redacted, each at most 300 characters.

    A log without any such line gives its last lines. Memory does not grow with the log.
    """
    finder = _Finder()
    for line in _lines(log):
        finder.feed(line)
    return finder.best(limit)


def _lines(log: str | Iterable[str]) -> Iterator[str]:
    """Cleaned lines without private keys, the only secret that is longer than a line."""
    in_key = False
    for raw in log.splitlines() if isinstance(log, str) else log:
        line = clean(raw[:_READ_LIMIT])
        if in_key or ("-----BEGIN " in line and "PRIVATE KEY" in line):
            in_key = "-----END " not in line
            line = _HIDDEN
        yield line


class _Finder:
    """Goes through a log once."""

    def __init__(self) -> None:
        self._kept: dict[int, _Kept] = {}
        self._recent: deque[tuple[int, str]] = deque(maxlen=_TAIL)
        self._after = 0
        self._after_weight = 0
        self._index = 0

    def feed(self, line: str) -> None:
        rule = _rule_for(line)
        if rule is not None:
            for index, text in list(self._recent)[-rule.before :] if rule.before else ():
                if not _is_noise(text):
                    self._keep(index, text, rule.weight - 2)
            self._keep(self._index, line, rule.weight)
            if rule.after >= self._after:
                self._after, self._after_weight = rule.after, rule.weight - 2
            else:  # A line that tells something itself stands in the context of the one before it.
                self._after -= 1
        elif self._after > 0 and any(map(str.isalnum, line)) and not _is_noise(line):
            self._keep(self._index, line, self._after_weight)
            self._after -= 1
        self._recent.append((self._index, line))
        self._index += 1

    def best(self, limit: int) -> tuple[str, ...]:
        # Weak hints alone ("failed" in a sentence) say less than the end of the log does.
        if not any(kept.weight > 2 for kept in self._kept.values()):
            for index, text in self._recent:
                self._keep(index, text, 1)
        chosen = sorted(self._strongest(limit), key=lambda kept: kept.index)
        return tuple(_shown(kept.text) for kept in chosen)

    def _strongest(self, limit: int) -> list[_Kept]:
        """The weightiest; of equals the first, because the first error is the cause; no text twice."""
        ranked = sorted(self._kept.values(), key=lambda kept: (-kept.weight, kept.index))
        chosen: dict[str, _Kept] = {}
        for kept in ranked:
            if kept.text.strip():
                chosen.setdefault(kept.text, kept)
            if len(chosen) == limit:
                break
        return list(chosen.values())

    def _keep(self, index: int, text: str, weight: int) -> None:
        known = self._kept.get(index)
        if known is None or known.weight < weight:
            self._kept[index] = _Kept(index, text, weight)
        if len(self._kept) > _MAX_KEPT:
            ranked = sorted(self._kept.values(), key=lambda kept: (-kept.weight, kept.index))
            self._kept = {kept.index: kept for kept in ranked[: _MAX_KEPT // 2]}


def _is_noise(line: str) -> bool:
    return any(pattern.search(line) for pattern in _NOISE)


def _rule_for(line: str) -> _Matter | None:
    folded = line.casefold()
    if not any(hint in folded for hint in _HINTS) or _is_noise(line):
        return None
    found = [rule for rule in _MATTERS if rule.pattern.search(line)]
    return max(found, key=lambda rule: rule.weight, default=None)


def _shown(line: str) -> str:
    line = redact(line)
    return line if len(line) <= LINE_LIMIT else line[: LINE_LIMIT - 1] + "…"


# --- tests that failed ----------------------------------------------------------------------------------------------

_FAILED_TESTS = tuple(
    re.compile(pattern)
    for pattern in (
        r"^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$",  # pytest
        r"^(?:FAIL|ERROR): (\w+ \([\w.]+\)|[\w.]+)",  # unittest
        r"^\s*--- FAIL: (\S+)",  # go
        r"^test (\S+) \.\.\. FAILED$",  # cargo
        r"^\s*● (.+ › .+)$",  # jest
        r"^not ok \d+ -? ?(.+?)(?: # .*)?$",  # TAP
        r"^\[ERROR\]   (\w+(?:\.\w+)+):\d+",  # maven
        r"^(\w[\w.]* > .+) FAILED$",  # gradle
        r"^\[  FAILED  \] (\w+\.\w+)",  # googletest
        r"^rspec (\S+)",
        r"^\d+\) ([\w\\]+::\w+)",  # phpunit
    )
)
_TESTS_HINT = re.compile(r"FAIL|ERROR|●|not ok|rspec|::")


def failed_tests(log: str | Iterable[str], limit: int = 50) -> tuple[str, ...]:
    """Names of the tests that failed, as their tool writes them, each once, in order of appearance."""
    names: dict[str, None] = {}
    for line in _lines(log):
        for pattern in _FAILED_TESTS if _TESTS_HINT.search(line) else ():
            if found := pattern.match(line):
                names.setdefault(_shown(found[1]), None)
        if len(names) >= limit:
            break
    return tuple(names)[:limit]


# --- big logs -------------------------------------------------------------------------------------------------------


def tail(read: Callable[[int, int], bytes], size: int, lines: int, *, limit: int = 1_000_000) -> tuple[str, ...]:
    """The last lines of a log that is read in pieces from its end.

    read(offset, count) returns bytes; size: of the log; limit: bytes read at most, whatever the lines' length.
    """
    data, position = b"", size
    while position > 0 and data.count(b"\n") <= lines and len(data) < limit:
        start = max(0, position - 65536)
        data = read(start, position - start) + data
        position = start
    text = data.decode(errors="replace").split("\n")
    if text and not text[-1]:
        text.pop()
    if position > 0 and len(text) > 1:
        text = text[1:]
    return tuple(_shown(line) for line in _lines(text[-lines:])) if lines > 0 else ()


# --- whole logs -----------------------------------------------------------------------------------------------------

PIECE = 65536
"""Bytes that are looked at in one go, and of one line that are shown; nothing larger is ever held."""


class Readable:
    """A log for people while it arrives: whole lines, cleaned, without secrets. Holds one unfinished line at most."""

    def __init__(self) -> None:
        """Nothing was read yet."""
        self._rest = b""
        self._is_cut = False
        self._in_key = False

    def feed(self, data: bytes) -> bytes:
        """Everything that became readable by these bytes."""
        *whole, rest = (self._rest + data).split(b"\n")
        if self._is_cut and whole:
            whole, self._is_cut = whole[1:], False
        if len(rest) > PIECE:
            # Cut where it stands, a secret would be two halves that nobody knows: the rest of the line is left out.
            whole, rest, self._is_cut = [*whole, rest[:PIECE] + b" [the rest of this line is left out]"], b"", True
        self._rest = b"" if self._is_cut else rest
        return self._shown(whole)

    def end(self) -> bytes:
        """The last line, if nothing ended it."""
        return self._shown([self._rest] if self._rest and not self._is_cut else [])

    def _shown(self, lines: list[bytes]) -> bytes:
        return "".join(f"{self._line(line.decode('utf-8', 'replace'))}\n" for line in lines).encode()

    def _line(self, raw: str) -> str:
        line = clean(raw)
        if self._in_key or ("-----BEGIN " in line and "PRIVATE KEY" in line):
            self._in_key = "-----END " not in line
            return _HIDDEN
        return redact(line) if _may_hide(line) else line


# Every shape of secret needs one of these. Looking for plain text first makes a line without any forty times cheaper.
# fmt: off
_MARKS = (
    "pass", "pwd", "secret", "token", "key", "credential", "auth", "session", "cookie", "webhook", "://", "bearer",
    "basic", "negotiate", "digest", "eyj", "gh", "gl", "xox", "xapp", "akia", "asia", "aida", "aroa", "ltai", "aiza",
    "npm_", "pypi-", "dop_v1", "sq", "sk-", "hvs.", "dckr_pat", "sig", "code=",
)
# fmt: on
_LONG_WORD = re.compile(r"[A-Za-z0-9+/_=-]{32}")


def _may_hide(line: str) -> bool:
    """Whether `redact` could find anything in it."""
    folded = line.casefold()
    return any(mark in folded for mark in _MARKS) or _LONG_WORD.search(line) is not None
