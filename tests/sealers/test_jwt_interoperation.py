"""Other software reads our JWTs, and we read theirs: PyJWT, and the npm package `jose` under node."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import jwt as pyjwt
import pytest
from joserfc import jwk

from aiosessions.sealers.hmac import HMACSealer
from aiosessions.sealers.keys import new_key
from aiosessions.sealers.sealer import Claims
from tests.sealers.jwt_keys import AUDIENCE, ISSUER, KINDS, make, make_jwk, private, public

NOW = float(int(time.time()))  # the others have no clock to inject
CLAIMS = Claims(b'{"cart":[1],"note":"h\xc3\xa9llo"}', False, "an-id", NOW, NOW + 600, "ann", b"meta")
SIGNED = [kind for kind, options in KINDS.items() if not options.get("encrypt")]
ENCRYPTED = [kind for kind in KINDS if kind not in SIGNED]

Ask = Callable[..., Any]  # Any: JSON out and JSON in


def expected_audience(kind: str) -> str:
    return AUDIENCE if "issuer" in KINDS[kind] else "app"


def registered(kind: str) -> dict[str, Any]:  # Any: JSON
    issuer = {"iss": ISSUER} if "issuer" in KINDS[kind] else {}
    times = {"iat": int(NOW), "nbf": int(NOW), "exp": int(NOW) + 600}
    return {**issuer, **times, "aud": expected_audience(kind), "jti": "an-id", "sub": "ann", "session": {"cart": [1]}}


def algorithm_of(kind: str) -> str:
    return {"A256KW": "A256KW", "ECDH P-256": "ECDH-ES+A256KW", "ECDH X25519": "ECDH-ES+A256KW"}.get(kind, kind)


def header_of(kind: str) -> dict[str, str]:
    enc = {"enc": "A256GCM"} if kind in ENCRYPTED else {}
    return {"alg": algorithm_of(kind), **enc, "typ": "aiosessions+jwt"}


@pytest.mark.parametrize("kind", SIGNED)
def test_pyjwt_verifies_ours(kind: str) -> None:
    """F11: with the public half where there is one."""
    key = make_jwk(kind)
    token = make(kind, private(key)).seal(CLAIMS, name="app")

    verifier = pyjwt.PyJWK(json.loads(public(key)), kind)
    claims = pyjwt.decode(
        token,
        verifier,
        algorithms=[kind],
        audience=expected_audience(kind),
        issuer=KINDS[kind].get("issuer"),
        options={"require": ["exp", "iat", "jti"]},
    )
    assert claims["session"] == {"cart": [1], "note": "héllo"}
    assert (claims["sub"], claims["jti"], claims["exp"]) == ("ann", "an-id", NOW + 600)


@pytest.mark.parametrize("kind", SIGNED)
def test_we_verify_what_pyjwt_signs(kind: str) -> None:
    """F11: the same claims and a shared key."""
    key = make_jwk(kind)
    signer = pyjwt.PyJWK(json.loads(private(key)), kind)
    token = pyjwt.encode(registered(kind), signer.key, algorithm=kind, headers={"typ": "aiosessions+jwt"})

    claims = make(kind, private(key)).open(token, name="app", now=NOW)
    assert claims is not None
    assert (json.loads(claims.body), claims.user_id, claims.session_id) == ({"cart": [1]}, "ann", "an-id")


@pytest.fixture(scope="session")
def ask(tmp_path_factory: pytest.TempPathFactory, no_server: Callable[[str], NoReturn]) -> Iterator[Ask]:
    """A node process with `jose`, which answers questions."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        no_server("node and npm are not on the PATH: the interoperation with jose is not tested")
    folder = tmp_path_factory.mktemp("jose")
    (folder / "package.json").write_text('{"private": true}')
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "jose@6"]
    try:
        subprocess.run(install, cwd=folder, check=True, capture_output=True, text=True, timeout=120)
    except subprocess.SubprocessError as error:
        no_server(f"npm cannot install jose: {error}")
    shutil.copy(Path(__file__).with_name("jose_peer.mjs"), folder)

    process = subprocess.Popen(
        [node, "jose_peer.mjs"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    questions, answers = process.stdin, process.stdout

    def ask(action: str, **arguments: Any) -> Any:  # Any: JSON out and JSON in
        questions.write(json.dumps({"action": action, **arguments}) + "\n")
        questions.flush()
        answer = json.loads(answers.readline())
        assert "error" not in answer, answer["error"]
        return answer["result"]

    with process:
        yield ask
        questions.close()


def options_for(kind: str) -> dict[str, Any]:  # Any: JSON
    issuer = {"issuer": ISSUER} if "issuer" in KINDS[kind] else {}
    return {"audience": expected_audience(kind), "typ": "aiosessions+jwt", **issuer}


@pytest.mark.parametrize("kind", SIGNED)
def test_jose_verifies_ours(ask: Ask, kind: str) -> None:
    """F11: with the public half where there is one, and out of a published set of keys by its kid."""
    document = {**make_jwk(kind).as_dict(private=True), "kid": "2026-01"}
    key = jwk.import_key(document)
    token = make(kind, document).seal(CLAIMS, name="app")
    verifier = {**json.loads(public(key)), "alg": kind}

    for action in ["verify"] + (["verify with a set"] if key.key_type != "oct" else []):
        claims = ask(action, token=token, key=verifier, options=options_for(kind))
        assert claims["session"] == {"cart": [1], "note": "héllo"}


@pytest.mark.parametrize("kind", ENCRYPTED)
def test_jose_decrypts_ours(ask: Ask, kind: str) -> None:
    """F11."""
    key = make_jwk(kind)
    token = make(kind, private(key)).seal(CLAIMS, name="app")

    document = {**json.loads(private(key)), "alg": algorithm_of(kind)}
    claims = ask("decrypt", token=token, key=document, options=options_for(kind))
    assert claims["session"] == {"cart": [1], "note": "héllo"}


@pytest.mark.parametrize("kind", list(KINDS))
def test_we_open_what_jose_makes(ask: Ask, kind: str) -> None:
    """F11: the same claims and a shared key, or the public half to encrypt with."""
    key = make_jwk(kind)
    document = json.loads(private(key) if kind in SIGNED else public(key))
    action = "sign" if kind in SIGNED else "encrypt"
    token = ask(action, key=document, header=header_of(kind), claims=registered(kind))

    claims = make(kind, private(key)).open(token, name="app", now=NOW)
    assert claims is not None
    assert (json.loads(claims.body), claims.user_id, claims.session_id) == ({"cart": [1]}, "ann", "an-id")


def test_front_end_code_reads_a_signed_cookie(ask: Ask) -> None:
    """F8: the HMACSealer's payload is base64url of UTF-8 JSON."""
    token = HMACSealer(new_key()).seal(CLAIMS, name="app")
    key = json.loads(private(make_jwk("HS256")))
    assert ask("read", token=token, key={**key, "alg": "HS256"}) == {"cart": [1], "note": "héllo"}
