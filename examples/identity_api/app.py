"""Sign-in and tokens: `uvicorn app:app`. Ada may sign in with "enigma"; every failed attempt is counted, by reason."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
import time
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel

import connectsoft_obs as obs

KEY = os.environ.get("IDENTITY_KEY", secrets.token_hex()).encode()
LIFETIME = 3600
SALT = b"an example"


def stretched(password: str) -> bytes:
    """What is kept of a password."""
    return hashlib.scrypt(password.encode(), salt=SALT, n=1024, r=8, p=1)


ACCOUNTS = {"ada": stretched("enigma")}
log = obs.get_logger("identity")
sign_ins = obs.counter(
    "identity.sign_ins", unit="{attempt}", labels=("identity.result",), help="Number of attempts to sign in."
)
app = FastAPI(title="Identity")
app.add_middleware(
    obs.ObservabilityMiddleware, service="identity-api", slo_file=str(Path(__file__).with_name("slo.toml"))
)


class SignIn(BaseModel):
    """Who wants to sign in."""

    username: str
    password: str


@obs.readiness_check("signing-key")
def signing_key() -> None:
    """Without a key no token can be checked."""
    if len(KEY) < 16:
        message = "the signing key is too short"
        raise ValueError(message)


@app.post("/connect/token")
def token(given: SignIn) -> dict[str, Any]:
    """Exchange a password for a token. A wrong one is the caller's fault: 401, outcome `rejected`, no budget spent."""
    kept = ACCOUNTS.get(given.username)
    if kept is None or not hmac.compare_digest(kept, stretched(given.password)):
        reason = "unknown_account" if kept is None else "wrong_password"
        sign_ins.add(1, {"identity.result": reason})
        log.warning("sign-in refused", reason=reason)  # not who: the name of an account is a hint
        raise HTTPException(401, "the name or the password is wrong")
    sign_ins.add(1, {"identity.result": "accepted"})
    return {"access_token": issue(given.username), "token_type": "Bearer", "expires_in": LIFETIME}


@app.get("/connect/userinfo")
def userinfo(bearer: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> dict[str, str]:
    """Whose token it is; other services ask this."""
    subject = checked(bearer.credentials)
    if subject is None:
        raise HTTPException(401, "the token is not valid")
    return {"sub": subject}


def issue(subject: str) -> str:
    """A signed token; any worker can check it."""
    claims = json.dumps({"sub": subject, "exp": time.time() + LIFETIME}).encode()
    return ".".join(base64.urlsafe_b64encode(part).decode() for part in (claims, signed(claims)))


def checked(given: str) -> str | None:
    """The subject of a valid token."""
    try:
        claims, signature = (base64.urlsafe_b64decode(part) for part in given.split("."))
        found: dict[str, Any] = json.loads(claims) if hmac.compare_digest(signature, signed(claims)) else {}
    except ValueError:
        return None
    return str(found["sub"]) if found.get("exp", 0) > time.time() else None


def signed(claims: bytes) -> bytes:
    """The signature of claims."""
    return hmac.digest(KEY, claims, "sha256")
