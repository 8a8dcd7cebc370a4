"""A provider of OpenID Connect on loopback: discovery, an authorization endpoint that asks nobody, tokens, keys."""

import hashlib
import time
from base64 import b64decode, urlsafe_b64encode
from typing import Any
from urllib.parse import urlencode

from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from aiosessions import new_key

__all__ = ["Provider"]

CLIENT, SECRET = "shop", "a secret of the shop's"


class Provider:
    """Whoever comes is the user it has in mind.

    Attributes:
        issuer: its address.
        subject: the user.
        claims: what takes the place of a claim of the next id_token.
        key: what it signs with; `keys` are those it publishes.
    """

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.subject = "ann"
        self.claims: dict[str, Any] = {}  # Any: as JSON has them
        self.key: RSAKey = RSAKey.generate_key(2048, {"kid": "1"})
        self.keys = KeySet([self.key])
        self._codes: dict[str, dict[str, str]] = {}
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._metadata),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/keys", self._keys),
            ]
        )

    async def _metadata(self, _: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT)
        assert asked["code_challenge_method"] == "S256"
        code = new_key()
        self._codes[code] = asked
        answer = urlencode({"code": code, "state": asked["state"]})
        return RedirectResponse(f"{asked['redirect_uri']}?{answer}", 302)

    async def _token(self, request: Request) -> Response:
        form = await request.form()
        asked = self._codes.pop(str(form["code"]), None)
        basic = b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        proof = urlsafe_b64encode(hashlib.sha256(str(form["code_verifier"]).encode()).digest()).decode().rstrip("=")
        if asked is None or basic != f"{CLIENT}:{SECRET}" or proof != asked["code_challenge"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        assert form["redirect_uri"] == asked["redirect_uri"]
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": self.subject, "aud": CLIENT, "iat": now, "exp": now + 60}
        claims |= {"nonce": asked["nonce"]} | self.claims
        id_token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.key)
        return JSONResponse({"access_token": new_key(), "token_type": "Bearer", "expires_in": 60, "id_token": id_token})

    async def _keys(self, _: Request) -> Response:
        return JSONResponse(self.keys.as_dict())
