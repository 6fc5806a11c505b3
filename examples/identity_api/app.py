"""Sign-in and tokens: `uvicorn app:app`. The user "ada" has the password "enigma"; sign-ins are counted by result."""

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
TOKEN_LIFETIME = 3600
SALT = b"an example"


def hash_password(password: str) -> bytes:
    """Derive the hash under which a password is stored."""
    return hashlib.scrypt(password.encode(), salt=SALT, n=1024, r=8, p=1)


ACCOUNTS = {"ada": hash_password("enigma")}
log = obs.get_logger("identity")
sign_ins = obs.counter(
    "identity.sign_ins", unit="{attempt}", labels=("identity.result",), help="Number of attempts to sign in."
)
app = FastAPI(title="Identity")
app.add_middleware(
    obs.ObservabilityMiddleware, service="identity-api", slo_file=str(Path(__file__).with_name("slo.toml"))
)


class Credentials(BaseModel):
    """User name and password."""

    username: str
    password: str


@obs.readiness_check("signing-key")
def signing_key() -> None:
    """Fail if the key is too short to sign tokens."""
    if len(KEY) < 16:
        message = "the signing key is too short"
        raise ValueError(message)


@app.post("/connect/token")
def token(credentials: Credentials) -> dict[str, Any]:
    """Exchange a password for a token.

    Wrong credentials are a client error: status 401, outcome `rejected`, no error budget consumed.
    """
    password_hash = ACCOUNTS.get(credentials.username)
    if password_hash is None or not hmac.compare_digest(password_hash, hash_password(credentials.password)):
        reason = "unknown_account" if password_hash is None else "wrong_password"
        sign_ins.add(1, {"identity.result": reason})
        log.warning("sign-in refused", reason=reason)  # without the user name, which would help an attacker
        raise HTTPException(401, "invalid user name or password")
    sign_ins.add(1, {"identity.result": "accepted"})
    return {"access_token": create_token(credentials.username), "token_type": "Bearer", "expires_in": TOKEN_LIFETIME}


@app.get("/connect/userinfo")
def userinfo(bearer: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]) -> dict[str, str]:
    """Return the subject of a token; other services call this to authenticate a request."""
    subject = verify_token(bearer.credentials)
    if subject is None:
        raise HTTPException(401, "invalid token")
    return {"sub": subject}


def create_token(subject: str) -> str:
    """Create a signed token that every worker with the same key can verify."""
    claims = json.dumps({"sub": subject, "exp": time.time() + TOKEN_LIFETIME}).encode()
    return ".".join(base64.urlsafe_b64encode(part).decode() for part in (claims, sign(claims)))


def verify_token(token: str) -> str | None:
    """Return the subject of a token, or None if the token is invalid or has expired."""
    try:
        payload, signature = (base64.urlsafe_b64decode(part) for part in token.split("."))
        claims: dict[str, Any] = json.loads(payload) if hmac.compare_digest(signature, sign(payload)) else {}
    except ValueError:
        return None
    return str(claims["sub"]) if claims.get("exp", 0) > time.time() else None


def sign(claims: bytes) -> bytes:
    """Compute the signature of claims."""
    return hmac.digest(KEY, claims, "sha256")
