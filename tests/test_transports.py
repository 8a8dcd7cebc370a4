"""Where tokens travel: what is read from requests, and what leaves in responses, in every framework's headers."""

import logging
import string
from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from werkzeug.datastructures import Headers

from aiosessions import AESGCMSealer, CookieOverseer, Session, Store, new_key
from aiosessions._errors import ConfigError, EncodeError, SessionTooLargeError
from aiosessions._request import ASGIRequest, RawHeaders, response_view
from aiosessions._views import ResponseView
from aiosessions.testing.jar import CookieJar
from aiosessions.transports import cookies as cookie_rules
from aiosessions.transports.cookies import CookieOptions, CookieTransport, default_transport
from aiosessions.transports.headers import HeaderTransport
from aiosessions.transports.transport import Carried, HTTPSOnly, Transport, check_name

TOKEN = "tOk3n_-" * 9
ATTRIBUTES = "; Path=/; Secure; HttpOnly; SameSite=Lax"
CHUNKED = CookieTransport(CookieOptions(max_bytes=6144))
URL = "https://testserver/"

SIZES = {"logout": 0, "small": 1, "large": 4000}
COOKIES = {"logout": 0, "small": 1, "large": 2}
WISHES = list(combinations_with_replacement(SIZES, 2))


def request(*cookies: str, scheme: str = "https", **headers: str | list[str]) -> ASGIRequest:
    lines = [("cookie", each) for each in cookies]
    for name, values in headers.items():
        lines += [(name.replace("_", "-"), each) for each in ([values] if isinstance(values, str) else values)]
    return ASGIRequest({"scheme": scheme, "headers": [(name.encode(), each.encode("latin-1")) for name, each in lines]})


def raw_headers() -> ResponseView:
    return RawHeaders([])


def starlette_headers() -> ResponseView:
    return response_view(MutableHeaders(raw=[]))


def werkzeug_headers() -> ResponseView:
    return response_view(Headers())


def multidict_headers() -> ResponseView:
    return response_view(CIMultiDict[str]())


@pytest.fixture(params=[raw_headers, starlette_headers, werkzeug_headers, multidict_headers])
def response(request: pytest.FixtureRequest) -> ResponseView:
    make: Callable[[], ResponseView] = request.param
    return make()


def cookies_of(response: ResponseView) -> dict[str, str]:
    """What a browser would keep of the Set-Cookie lines, which must name no cookie twice."""
    pairs = [line.partition(";")[0].partition("=") for line in response.header("Set-Cookie")]
    names = [name for name, _, _ in pairs]
    assert len(set(names)) == len(names)
    return {name: value for name, _, value in pairs}


def back(response: ResponseView) -> str:
    """The Cookie header that a browser makes of them."""
    alive = [line.partition(";")[0] for line in response.header("Set-Cookie") if "Max-Age=0" not in line]
    return "; ".join(alive)


class TestNames:
    @pytest.mark.parametrize(
        ("options", "name"),
        [
            (CookieOptions(), "__Host-app"),
            (CookieOptions(path="/shop"), "__Secure-app"),
            (CookieOptions(domain="example.org"), "__Secure-app"),
            (CookieOptions(prefix=False), "app"),
            (CookieOptions(secure=False), "app"),
            (CookieOptions.debug(), "app"),
        ],
    )
    def test_a_cookie_has_the_strongest_prefix_that_its_attributes_allow(
        self, options: CookieOptions, name: str
    ) -> None:
        """F10; ASVS 5 3.3.1, 3.3.3: __Host-, else __Secure-, else none."""
        transport = CookieTransport(options)
        assert transport.read(request(f"{name}=x"), "app") == Carried(
            where=f"cookie {name}",
            token="x",
            present=True,
        )

    @pytest.mark.parametrize("name", ["", "1app", "app.0", "app;x", "app\r\n", "ä", "app\n", "a" * 65, "-a", "a b"])
    @pytest.mark.parametrize("transport", [CookieTransport(), HeaderTransport()])
    def test_names_outside_the_grammar_or_like_a_chunks_are_refused(self, transport: Transport, name: str) -> None:
        """F10, F12: a name can neither inject nor be taken for a chunk."""
        with pytest.raises(ConfigError, match="name="):
            check_name(transport, name)

    def test_names_inside_the_grammar_are_accepted(self) -> None:
        """F10."""
        for name in ("a", "App_2-x", "a" * 64):
            check_name(CookieTransport(), name)
        check_name(HeaderTransport(), "app-2")

    @pytest.mark.parametrize("name", ["App", "a_b"])
    def test_a_header_takes_lower_case_names_only(self, name: str) -> None:
        """F10: header names know no case."""
        with pytest.raises(ConfigError, match="lower-case"):
            check_name(HeaderTransport(), name)

    def test_a_prefix_and_a_name_cannot_spell_another_header(self) -> None:
        """F12."""
        with pytest.raises(ConfigError, match="Set-Cookie"):
            check_name(HeaderTransport(prefix="Set-"), "cookie")

    @pytest.mark.parametrize("prefix", ["", "X Y", "X:", "X\r\n", "é"])
    def test_a_prefix_that_cannot_begin_a_header_is_refused(self, prefix: str) -> None:
        """F10, F12."""
        with pytest.raises(ConfigError, match="prefix="):
            HeaderTransport(prefix=prefix)
        if prefix:
            with pytest.raises(ConfigError, match="suffix="):
                HeaderTransport(suffix=prefix)


class TestOptions:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"same_site": "none", "secure": False}, "secure=True"),
            ({"partitioned": True, "secure": False}, "secure=True"),
            ({"same_site": "Lax"}, "same_site='Lax'"),
            ({"path": "shop"}, "path="),
            ({"path": "/a;b"}, "path="),
            ({"path": "/a\r\nX: y"}, "path="),
            ({"path": "/a\n"}, "path="),
            ({"path": "/ä"}, "path="),
            ({"path": "/" + "a" * 1024}, "path="),
            ({"path": None}, "path="),
            ({"domain": ".example.org"}, "leading dot"),
            ({"domain": "exa mple"}, "domain="),
            ({"domain": "a.org; Path=/x"}, "domain="),
            ({"domain": "a.org\n"}, "domain="),
            ({"domain": ""}, "domain="),
            ({"domain": "bücher.example"}, "domain="),
            ({"domain": ".".join(["a" * 63] * 4)}, "domain="),
            ({"max_bytes": 511}, "max_bytes="),
            ({"max_bytes": 6145}, "max_bytes="),
            ({"max_bytes": "4096"}, "max_bytes="),
            ({"max_bytes": 4097, "prefix": False}, "chunks"),
            ({"max_bytes": 4097, "secure": False}, "chunks"),
            ({"secure": "no"}, "secure="),
            ({"http_only": None}, "http_only="),
        ],
    )
    def test_options_that_cannot_work_name_the_argument_and_the_fix(
        self, arguments: dict[str, Any], message: str
    ) -> None:
        """F10, F12; CHIPS: ConfigError at construction."""
        with pytest.raises(ConfigError, match=message):
            CookieOptions(**arguments)

    def test_domains_are_lower_cased(self) -> None:
        """R7: the same domain in every Set-Cookie."""
        assert CookieOptions(domain="Shop.Example.ORG").domain == "shop.example.org"

    @pytest.mark.parametrize(
        ("options", "attributes"),
        [
            (CookieOptions(), ATTRIBUTES),
            (CookieOptions(same_site="strict"), "; Path=/; Secure; HttpOnly; SameSite=Strict"),
            (CookieOptions(http_only=False), "; Path=/; Secure; SameSite=Lax"),
            (
                CookieOptions(path="/a", domain="a.org", same_site="none", partitioned=True),
                "; Path=/a; Domain=a.org; Secure; HttpOnly; SameSite=None; Partitioned",
            ),
            (CookieOptions.debug(), "; Path=/; HttpOnly; SameSite=Lax"),
        ],
    )
    def test_every_attribute_is_stated_when_setting_and_when_removing(
        self, options: CookieOptions, attributes: str
    ) -> None:
        """R7; ASVS 5 3.3.2, 3.3.4: SameSite always; removal repeats path, domain and flags."""
        transport = CookieTransport(options)
        name = f"{options.name_prefix}app"
        sent, cleared = raw_headers(), raw_headers()
        transport.write(sent, "app", TOKEN, Carried(""), None)
        transport.clear(cleared, "app", Carried(""))
        assert sent.header("set-cookie") == [f"{name}={TOKEN}{attributes}"]
        assert cleared.header("set-cookie") == [f"{name}=; Max-Age=0{attributes}"]

    def test_debug_mode_comes_from_the_environment_at_construction(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """ASVS 5 3.3.1: off unless asked for, said once, and explicit options win."""
        cookie_rules._warn_debug.cache_clear()
        monkeypatch.setenv("AIOSESSIONS_DEBUG", "1")
        assert default_transport().options == CookieOptions.debug()
        assert CookieTransport().options == CookieTransport.debug().options
        assert CookieTransport(CookieOptions()).options.secure
        assert [each.levelname for each in caplog.records] == ["WARNING"]
        assert "secure=False" in repr(CookieTransport())

        monkeypatch.setenv("AIOSESSIONS_DEBUG", "0")
        assert default_transport().options == CookieOptions()


class TestReading:
    @pytest.mark.parametrize(
        "lines",
        [
            [f"__Host-app={TOKEN}"],
            [f"  __Host-app={TOKEN}\t"],
            [f"a=b; __Host-app={TOKEN}; c=d"],
            [f"a=b;__Host-app={TOKEN};;c"],
            ["a=b", f"__Host-app={TOKEN}"],
            [f"__host-app=other; __Host-app={TOKEN}"],
            [f"__Host-app2=other; __Host-app={TOKEN}; x__Host-app=y"],
            [f"x=__Host-app=1; __Host-app={TOKEN}"],
            [f'__Host-app={TOKEN}; theme="a; b"'],
        ],
    )
    def test_our_cookie_is_found_among_others(self, lines: list[str]) -> None:
        """R6."""
        assert CookieTransport().read(request(*lines), "app") == Carried(
            "cookie __Host-app",
            TOKEN,
            present=True,
        )

    @pytest.mark.parametrize(
        "line",
        [
            "",
            "__Host-app",
            f"__host-app={TOKEN}",
            f"__Host-app ={TOKEN}",
            f"__Host-app\t={TOKEN}",
            f"\x0b__Host-app={TOKEN}",
            f"\xa0__Host-app={TOKEN}",
            f"\x1f__Host-app={TOKEN}",
            f"=__Host-app={TOKEN}",
            f"$__Host-app={TOKEN}",
            f'"__Host-app"={TOKEN}',
            f"a=b, __Host-app={TOKEN}",
            f"__Host-apps={TOKEN}",
            f"__Host-app.x={TOKEN}",
            f"__Host-app.10={TOKEN}",
            f"__Host-app.0.0={TOKEN}",
            "__Host-app.0",
        ],
    )
    def test_a_line_that_another_parser_would_fold_or_trim_into_ours_is_not_ours(self, line: str) -> None:
        """R6: only SP and HTAB are stripped, and the name is equal to the letter."""
        assert CookieTransport().read(request(line), "app") == Carried("cookie __Host-app")

    @pytest.mark.parametrize(
        "lines",
        [
            ["__Host-app=a; __Host-app=b"],
            ["__Host-app=a; __Host-app=a"],
            ["__Host-app=a", "__Host-app=a"],
            ["__Host-app=a; x=y; __Host-app="],
        ],
    )
    def test_a_name_that_comes_twice_counts_as_forged(self, lines: list[str]) -> None:
        """R6: also with equal values, also over two header lines."""
        carried = CookieTransport().read(request(*lines), "app")
        assert (carried.token, carried.present, carried.duplicate) == (None, True, True)

    @pytest.mark.parametrize("value", ["", "é", "x" * 6145])
    def test_a_value_that_cannot_be_a_token_is_none(self, value: str) -> None:
        """R6: empty, not ASCII, oversized."""
        carried = CookieTransport().read(request(f"__Host-app={value}"), "app")
        assert (carried.token, carried.present, carried.duplicate) == (None, True, False)

    @pytest.mark.parametrize("value", [f'"{TOKEN}"', f"{TOKEN}\x1f", f" {TOKEN}", f"{TOKEN}\x0b", "a=b"])
    def test_a_value_is_taken_as_it_came(self, value: str) -> None:
        """R6: nothing is unquoted or trimmed into a token."""
        for cookies in (f"__Host-app={value}", f"a=b; __Host-app={value}"):
            assert CookieTransport().read(request(cookies), "app").token == value

    def test_the_token_is_not_shown(self) -> None:
        """V8: neither to a traceback's locals nor to rich's, which asks in its own way."""
        for cookies in (f"__Host-app={TOKEN}", f"a=b; __Host-app={TOKEN}"):
            carried = CookieTransport().read(request(cookies), "app")
            assert carried.token == TOKEN
            assert repr(carried) == "Carried(where='cookie __Host-app', present=True, duplicate=False)"
            assert TOKEN not in str(carried.__rich_repr__())

    @given(st.lists(st.text(alphabet="ap=. ;\t\"',\x0b\xa0b01~", max_size=30), max_size=3))
    def test_reading_agrees_with_the_grammar_word_for_word(self, lines: list[str]) -> None:
        """R6: a naive reading of the same rules."""
        pairs = [pair.strip(" \t") for line in lines for pair in line.split(";")]
        named = [(pair.split("=", 1)[0], pair.split("=", 1)[1]) for pair in pairs if "=" in pair]
        values = [value for name, value in named if name == "app"]
        chunks = [name for name, _ in named if name in {f"app.{digit}" for digit in string.digits}]

        carried = CookieTransport.debug().read(request(*lines), "app")
        assert carried.present == bool(values or chunks)
        assert carried.duplicate == (len(values) > 1 or len(set(chunks)) < len(chunks))
        assert set(carried.chunks) == set(chunks)
        if not chunks:
            whole = len(values) == 1 and values[0] and values[0].isascii()
            assert carried.token == (values[0] if whole else None)
        elif values or carried.duplicate:
            assert carried.token is None


class TestWriting:
    @pytest.mark.parametrize(
        ("max_age", "stated"),
        [
            (None, ""),
            (3600, "; Max-Age=3600"),
            (0, "; Max-Age=1"),
            (-5, "; Max-Age=1"),
            (10**9, "; Max-Age=34560000"),
        ],
    )
    def test_max_age_is_whole_seconds_never_zero_and_at_most_400_days(self, max_age: int | None, stated: str) -> None:
        """X3; RFC 6265bis §5.5: and none at all for a browser session."""
        response = raw_headers()
        CookieTransport().write(response, "app", TOKEN, Carried(""), max_age)
        assert response.header("set-cookie") == [f"__Host-app={TOKEN}{stated}{ATTRIBUTES}"]

    def test_one_name_leaves_once_and_other_cookies_stay_in_order(self, response: ResponseView) -> None:
        """R9: the last word on a session is the only one; the application's lines keep theirs."""
        transport, carried = CookieTransport(), Carried("")
        response.add("Set-Cookie", "theme=dark; Path=/")
        response.add("Set-Cookie", "__Host-app2=x; Path=/")
        transport.write(response, "app", "first", carried, None)
        response.add("Set-Cookie", "theme=light; Path=/x")
        transport.write(response, "app", "second", carried, None)
        assert response.header("set-cookie") == [
            "theme=dark; Path=/",
            "__Host-app2=x; Path=/",
            "theme=light; Path=/x",
            f"__Host-app=second{ATTRIBUTES}",
        ]

        transport.clear(response, "app", carried)
        assert response.header("Set-Cookie")[3:] == [f"__Host-app=; Max-Age=0{ATTRIBUTES}"]

    @pytest.mark.parametrize(
        ("lines", "merged"),
        [
            ([], "no-store"),
            (["no-store"], "no-store"),
            (["public, max-age=3600"], "no-store"),
            (["Public, S-MaxAge=5, max-age=1, must-revalidate"], "must-revalidate, no-store"),
            (["private", "max-age=60, no-cache"], "private, no-cache, no-store"),
            (['private="x, public", immutable'], 'private="x, public", immutable, no-store'),
            (["must-understand, no-store"], "no-store"),
            (['ext="a, b'], 'ext="a, b, no-store'),
            ([", ,"], "no-store"),
        ],
    )
    def test_no_store_is_merged_into_what_the_application_said(
        self, response: ResponseView, lines: list[str], merged: str
    ) -> None:
        """R4, R9; ASVS 5 14.3.2: what allows a cache to keep the response goes, the rest stays, on one line."""
        for line in lines:
            response.add("Cache-Control", line)
        CookieTransport().write(response, "app", TOKEN, Carried(""), None)
        assert response.header("Cache-Control") == [merged]

        CookieTransport().clear(response, "app", Carried(""))
        assert response.header("cache-control") == [merged]

    @pytest.mark.parametrize(
        ("lines", "merged"),
        [
            ([], ["Cookie"]),
            (["Accept, COOKIE"], ["Accept, COOKIE"]),
            (["*"], ["*"]),
            (["Accept", "Origin,"], ["Accept, Origin, Cookie"]),
            (["Cookie2"], ["Cookie2, Cookie"]),
            ([""], ["Cookie"]),
        ],
    )
    @pytest.mark.parametrize("transport", [CookieTransport(), HeaderTransport(prefix="Coo")])
    def test_vary_is_merged(
        self, response: ResponseView, transport: Transport, lines: list[str], merged: list[str]
    ) -> None:
        """R2, R9: without case, `*` stays, several lines become one."""
        # A header called "CooKie", so that both transports have the same expectations.
        name = "app" if isinstance(transport, CookieTransport) else "kie"
        for line in lines:
            response.add("Vary", line)
        for _ in range(2):
            transport.vary(response, name)
        assert [line.replace("CooKie", "Cookie") for line in response.header("Vary")] == merged

    @pytest.mark.parametrize("token", ["", "a b", "a;b", "a,b", 'a"b', "a\\b", "a\r\nSet-Cookie: x=y", "é", "a\n"])
    @pytest.mark.parametrize("transport", [CookieTransport(), HeaderTransport()])
    def test_a_sealer_cannot_inject_through_its_token(self, transport: Transport, token: str) -> None:
        """F12: refused before anything is sent, and not shown."""
        lines: list[tuple[bytes, bytes]] = []
        with pytest.raises(EncodeError) as caught:
            transport.write(RawHeaders(lines), "app", token, Carried(""), None)
        assert lines == []
        assert not token or token not in str(caught.value)


class TestPlainHTTP:
    def test_a_transport_says_whether_its_tokens_need_https(self) -> None:
        """SECURITY 3.3.1."""
        for transport, needs_https in ((CookieTransport(), True), (CookieTransport.debug(), False)):
            assert isinstance(transport, HTTPSOnly)
            assert transport.needs_https == needs_https
        assert not isinstance(HeaderTransport(), HTTPSOnly)

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        ("transport", "scheme", "warnings"),
        [
            (CookieTransport(), "http", 1),
            (CookieTransport(), "ws", 1),
            (CookieTransport(), "https", 0),
            (CookieTransport(), "wss", 0),
            (CookieTransport.debug(), "http", 0),
            (HeaderTransport(), "http", 0),
        ],
    )
    async def test_a_secure_cookie_on_plain_http_warns_once_and_names_the_fix(
        self, caplog: pytest.LogCaptureFixture, transport: Transport, scheme: str, warnings: int
    ) -> None:
        """SECURITY 3.3.1: some browsers drop it silently, Chromium not on loopback; a read warns of nothing."""
        store = CookieOverseer(dict[str, str], AESGCMSealer(new_key()), transport=transport)
        for wish, expected in (("logout", 0), ("small", warnings), ("small", warnings)):
            session = await ask(store, CookieJar(), scheme)
            await answer(store, session, wish, by="a")
            assert len(caplog.records) == expected
        for record in caplog.records:
            assert (record.name, record.levelno) == ("aiosessions", logging.WARNING)
            for fix in ("some browsers", "https", "proxy", "AIOSESSIONS_DEBUG=1", "CookieTransport.debug()"):
                assert fix in record.message


class TestChunks:
    def carried(self, *cookies: str) -> Carried:
        return CHUNKED.read(request(*cookies), "app")

    def written(self, token: str, carried: Carried | None = None) -> ResponseView:
        response = raw_headers()
        CHUNKED.write(response, "app", token, carried or Carried(""), None)
        return response

    @given(st.integers(1, 6144 - 100))
    def test_a_token_of_any_size_that_fits_comes_back(self, size: int) -> None:
        """ASVS 5 3.3.5: no cookie above 4096 bytes, all together within max_bytes."""
        token = "".join(chr(33 + 60 + index % 4) for index in range(size)).replace("\\", "~")
        response = self.written(token)
        for name, value in cookies_of(response).items():
            assert len(name) + len(value) <= 4096
        assert len(back(response)) <= 6144
        assert self.carried(back(response)).token == token

    def test_what_fits_in_one_cookie_travels_in_one(self) -> None:
        """ASVS 5 3.3.5: the boundary, name and value and what stands between them."""
        most = 4096 - len("__Host-app=")
        assert back(self.written("x" * most)).count("=") == 1
        assert back(self.written("x" * (most + 1))).count("=") == 2

    @pytest.mark.parametrize("limit", [512, 4096, 6144])
    def test_more_than_max_bytes_is_too_large_and_nothing_is_sent(self, limit: int) -> None:
        """R6, S18: name, size and limit are on the error, and the exact limit holds."""
        transport = CookieTransport(CookieOptions(max_bytes=limit))
        lines: list[tuple[bytes, bytes]] = []
        with pytest.raises(SessionTooLargeError) as caught:
            transport.write(RawHeaders(lines), "app", "x" * limit, Carried(""), None)
        assert (caught.value.name, caught.value.limit, lines) == ("app", limit, [])

        most = limit - (caught.value.size - limit)
        transport.write(RawHeaders(lines), "app", "x" * most, Carried(""), None)
        assert len(back(RawHeaders(lines))) == limit
        with pytest.raises(SessionTooLargeError):
            transport.write(RawHeaders(lines), "app", "x" * (most + 1), Carried(""), None)

    def test_a_mixed_or_incomplete_set_is_no_session(self) -> None:
        """R6, DESIGN 7: a set id and a count bind the chunks together."""
        first, second = (back(self.written(letter * 5000)).split("; ") for letter in "ab")
        assert self.carried("; ".join(reversed(first))).token == "a" * 5000
        for cookies in (
            [first[0]],
            [first[1]],
            [first[0], second[1]],
            [*first, "__Host-app=x"],
            [*first, first[0]],
            [*first, "__Host-app.2=x"],
            [first[0].replace(".0=", ".1="), first[1].replace(".1=", ".2=")],
            [first[0], first[1].replace("~2~", "~3~")],
            [each.replace("~2~", "~02~") for each in first],
            [each.replace("~2~", "x2~") for each in first],
            [first[0], first[1].partition("~2~")[0] + "~2~"],
            ["__Host-app.0=x"],
            ["__Host-app.0="],
        ):
            carried = self.carried("; ".join(cookies))
            assert (carried.token, carried.present) == (None, True)

    def test_growing_and_shrinking_remove_what_is_left_over(self) -> None:
        """R7, R9: the old form never stays beside the new one, whatever the request came with."""
        for carried in ("", "__Host-app=x", "__Host-app.0=x", back(self.written("b" * 5000))):
            grown = self.written("b" * 5000, self.carried(carried))
            assert list(cookies_of(grown)) == ["__Host-app.0", "__Host-app.1", "__Host-app"]
            assert back(grown).count("=") == 2
            shrunk = self.written("a", self.carried(carried))
            assert shrunk.header("set-cookie")[1:] == [f"__Host-app.{n}=; Max-Age=0{ATTRIBUTES}" for n in (0, 1)]
            assert back(shrunk) == "__Host-app=a"

        mended = self.written("c" * 5000, self.carried("__Host-app=x; __Host-app.7=y"))
        assert list(cookies_of(mended)) == ["__Host-app.0", "__Host-app.1", "__Host-app", "__Host-app.7"]

    def test_destroying_removes_every_chunk_that_can_be_there(self) -> None:
        """R7, R9: those that max_bytes can need, and those that came beside them."""
        response = self.written("c" * 5000)
        CHUNKED.clear(response, "app", self.carried("__Host-app.7=x"))
        names = ["__Host-app", "__Host-app.0", "__Host-app.1", "__Host-app.7"]
        assert response.header("set-cookie") == [f"{name}=; Max-Age=0{ATTRIBUTES}" for name in names]

    def test_a_transport_without_chunks_removes_those_that_come(self) -> None:
        """R7, R9: they were sent before max_bytes was lowered."""
        transport, large = CookieTransport(), back(self.written("b" * 5000))
        for cookies, names in ((large, ["__Host-app.0", "__Host-app.1"]), ("__Host-app=x", []), ("", [])):
            carried = transport.read(request(cookies), "app")
            response = raw_headers()
            transport.write(response, "app", "a", carried, None)
            assert list(cookies_of(response)) == ["__Host-app", *names]
            assert back(response) == "__Host-app=a"
            transport.clear(response, "app", carried)
            assert list(cookies_of(response)) == ["__Host-app", *names]
            assert back(response) == ""

    @given(st.lists(st.tuples(st.sampled_from([0, 1, 4000, 5000, 6000]), st.integers(0, 5)), min_size=1, max_size=6))
    def test_the_jar_is_what_the_last_answer_says(self, answers: list[tuple[int, int]]) -> None:
        """R7, R9: to whichever request it is an answer: each was sent with the jar of now or of any moment before."""
        jar = CookieJar()
        moments = [""]
        for number, (size, age) in enumerate(answers):
            asked_with = self.carried(moments[max(len(moments) - 1 - age, 0)])
            token = chr(ord("a") + number) * size
            response = raw_headers()
            if token:
                CHUNKED.write(response, "app", token, asked_with, None)
            else:
                CHUNKED.clear(response, "app", asked_with)
            hear(jar, response.header("set-cookie"))
            moments.append(jar.header(URL))

            now = self.carried(moments[-1])
            assert (now.token or "", now.present) == (token, bool(token))
            assert len(jar) == (2 if size >= 5000 else bool(token))


class TestTwoAnswers:
    """Two requests of one browser that overlap: it may hear their answers in either order."""

    pytestmark = pytest.mark.anyio

    @pytest.mark.parametrize("held", ["nothing", "small", "large"])
    @pytest.mark.parametrize("wishes", WISHES, ids="-".join)
    async def test_the_browser_holds_what_the_answer_says_that_it_hears_last(
        self, held: str, wishes: tuple[str, str]
    ) -> None:
        """R7, R9: a logout beside a growing session leaves nobody logged in, nor two sizes a jar without session."""
        store = CookieOverseer(dict[str, str], AESGCMSealer(new_key()), transport=CHUNKED)
        jar = CookieJar()
        if held != "nothing":
            hear(jar, await answer(store, await ask(store, jar), held, by="z"))
        one, other = await ask(store, jar), await ask(store, jar)
        answers = [await answer(store, one, wishes[0], by="a"), await answer(store, other, wishes[1], by="b")]
        for first, last in ((0, 1), (1, 0)):
            if not answers[last]:
                assert (held, wishes[last]) == ("nothing", "logout")  # there was nothing to log out of
                continue
            heard = jar.copy()
            hear(heard, answers[first])
            hear(heard, answers[last])
            text = "ab"[last] * SIZES[wishes[last]]
            assert (await ask(store, heard)).value == ({"text": text} if text else {})
            assert len(heard) == COOKIES[wishes[last]]


async def ask(store: Store[dict[str, str]], jar: CookieJar, scheme: str = "https") -> Session[dict[str, str]]:
    """The session of a request that a browser sends now."""
    headers = [(b"cookie", jar.header(URL).encode())]
    return await store.get(Request({"type": "http", "scheme": scheme, "headers": headers}))


async def answer(store: Store[dict[str, str]], session: Session[dict[str, str]], wish: str, *, by: str) -> list[str]:
    """The Set-Cookie lines of the response."""
    if wish == "logout":
        session.destroy()
    else:
        session.value["text"] = by * SIZES[wish]
    response = Response()
    await store.save(session, response)
    return response.headers.getlist("set-cookie")


def hear(jar: CookieJar, lines: list[str]) -> None:
    """Keep what one response says."""
    assert all(jar.receive(line, URL) for line in lines)


class TestHeaders:
    @pytest.mark.parametrize(
        ("values", "token", "present", "duplicate"),
        [
            ([], None, False, False),
            ([f" {TOKEN}\t"], TOKEN, True, False),
            (["-"], None, True, False),
            ([""], None, True, False),
            (["é"], None, True, False),
            (["x" * 16_385], None, True, False),
            ([TOKEN, TOKEN], None, True, True),
        ],
    )
    def test_a_header_is_read_as_a_token_or_as_nothing(
        self, values: list[str], token: str | None, *, present: bool, duplicate: bool
    ) -> None:
        """R6: empty, oversized, not ASCII, twice: no session."""
        carried = HeaderTransport().read(request(session_app=values), "app")
        assert carried == Carried("header session-app", token, present, duplicate, ())

    def test_each_session_has_its_header_and_the_last_word_stands(self, response: ResponseView) -> None:
        """R9: `Session-App` for "app", deletion is `-`, other sessions' headers stay."""
        transport = HeaderTransport()
        transport.write(response, "app", "one", Carried(""), 60)
        transport.write(response, "my-cart", "two", Carried(""), None)
        transport.write(response, "app", "three", Carried(""), None)
        transport.vary(response, "app")
        assert response.header("Session-App") == ["three"]
        assert response.header("Session-My-Cart") == ["two"]
        assert response.header("Vary") == ["Session-App"]
        assert response.header("Access-Control-Expose-Headers") == ["Session-App, Session-My-Cart"]
        assert response.header("Cache-Control") == ["no-store"]

        transport.clear(response, "app", Carried(""))
        assert response.header("Session-App") == ["-"]

    def test_expose_is_merged_or_left_alone(self, response: ResponseView) -> None:
        """R9: and "*" does not cover requests with credentials."""
        response.add("Access-Control-Expose-Headers", "*")
        response.add("Access-Control-Expose-Headers", "ETag")
        HeaderTransport(expose=False).write(response, "app", TOKEN, Carried(""), None)
        assert response.header("Access-Control-Expose-Headers") == ["*", "ETag"]
        HeaderTransport().write(response, "app", TOKEN, Carried(""), None)
        assert response.header("Access-Control-Expose-Headers") == ["*, ETag, Session-App"]

    def test_a_token_over_the_limit_is_refused_before_anything_is_sent(self) -> None:
        """S18."""
        lines: list[tuple[bytes, bytes]] = []
        with pytest.raises(SessionTooLargeError, match="16384"):
            HeaderTransport().write(RawHeaders(lines), "app", "x" * 16_385, Carried(""), None)
        assert lines == []

    @pytest.mark.parametrize(
        ("transport", "header"),
        [
            (HeaderTransport(suffix="-Session"), "Test-Session"),
            (HeaderTransport("X-", suffix="-Session"), "X-Test-Session"),
            (HeaderTransport("", suffix="-S"), "Test-S"),
        ],
    )
    def test_a_suffix_alone_means_no_prefix_and_both_may_be_given(
        self, transport: HeaderTransport, header: str
    ) -> None:
        """S18: in requests, responses and `Vary`."""
        lines: list[tuple[bytes, bytes]] = []
        transport.write(RawHeaders(lines), "test", TOKEN, Carried(""), None)
        transport.vary(RawHeaders(lines), "test")
        sent = RawHeaders(lines)
        assert (sent.header(header), sent.header("Vary")) == ([TOKEN], [header])
        assert transport.read(request(**{header.lower().replace("-", "_"): TOKEN}), "test").token == TOKEN

    def test_prefixes_are_configurable(self) -> None:
        """Issue 4."""
        transport = HeaderTransport(prefix="X-My-")
        assert transport.read(request(x_my_app=TOKEN), "app").token == TOKEN
        assert repr(transport) == "HeaderTransport(prefix='X-My-', suffix='', expose=True)"


def test_names_without_end_are_read_and_written_and_few_are_remembered() -> None:
    """Where visitors choose the names of sessions."""
    transport = CookieTransport()
    for name in [f"chat{number}" for number in range(600)] * 2:
        headers = RawHeaders([])
        transport.write(headers, name, "token", Carried(""), None)
        assert headers.header("Set-Cookie")[0].startswith(f"__Host-{name}=token;")
        assert transport.read(request(f"__Host-{name}=token"), name).token == "token"
    assert len(transport._wires) <= 256
