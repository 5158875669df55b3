"""How a master is told who asks: HTTP Basic, or a token of DC/OS' identity service.

The token is got with a signed statement (RS256) before each connection, as the original does it
(spec/dns-lb-autoscale.md §1.2). It is signed by `openssl`, which saves every node a cryptographic
library for the one place that needs it.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import msgspec

from mesostk.base import regular
from mesostk.base.client import Client
from mesostk.dns.config import Config
from mesostk.errors import ConfigError, Unavailable, WireError
from mesostk.wire import json

#: For which the statement is good; the original's.
_LIFETIME_S = 3600

_SIGN_TIMEOUT_S = 10.0


class _Account(msgspec.Struct, frozen=True):
    """The file of a DC/OS service account."""

    uid: str
    private_key: str
    login_endpoint: str


class _Login(msgspec.Struct, frozen=True):
    token: str


class Authorizer:
    """Tells the value of the Authorization header."""

    def __init__(self, config: Config, client: Client, wall: Callable[[], float]) -> None:
        self._config = config
        self._client = client
        self._wall = wall
        self._account: _Account | None = None
        if config.mesos_authentication == "iam":
            self._account = _read_account(Path(config.iam_config_file))

    async def header(self) -> str | None:
        """The header's value, None without authentication; Unavailable if no token can be had."""
        if self._config.mesos_authentication == "basic":
            said = self._config.mesos_credentials
            return "Basic " + _base64(f"{said.principal}:{said.secret}".encode())
        if self._account is None:
            return None
        return f"token={await self._log_in(self._account)}"

    async def _log_in(self, account: _Account) -> str:
        statement: dict[str, str | int] = {
            "uid": account.uid,
            "exp": int(self._wall()) + _LIFETIME_S,
        }
        signed = await _sign(statement, account.private_key)
        body = json.encode({"uid": account.uid, "token": signed})
        headers = {"Content-Type": "application/json"}
        answer = await self._client.request("POST", account.login_endpoint, body, headers)
        if answer.status != 200:
            raise Unavailable(f"{account.login_endpoint} refuses the login: {answer.status}")
        return answer.json(_Login).token


def _read_account(path: Path) -> _Account:
    try:
        return json.decode(regular.read(path), _Account)
    except (OSError, WireError) as error:
        raise ConfigError(
            f"IAMConfigFile {path}: {error}; expected uid, private_key, login_endpoint"
        ) from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


async def _sign(statement: dict[str, str | int], private_key: str) -> str:
    """A JSON Web Token of `statement`. Source: RFC 7519, RFC 7518 §3.3."""
    head = _base64url(json.encode({"alg": "RS256", "typ": "JWT"}))
    text = f"{head}.{_base64url(json.encode(statement))}"
    try:
        with _KeyFile(private_key) as key:
            process = await asyncio.create_subprocess_exec(
                "openssl", "dgst", "-sha256", "-sign", key,
                stdin=-1, stdout=-1, stderr=-1,
            )  # fmt: skip
            async with asyncio.timeout(_SIGN_TIMEOUT_S):
                signature, trouble = await process.communicate(text.encode())
    except OSError as error:
        reason = str(error) or "it does not end"
        raise Unavailable(f"openssl, which signs the login, cannot be used: {reason}") from error
    if process.returncode != 0:
        raise Unavailable(f"openssl cannot sign: {trouble.decode(errors='replace')[:200]}")
    return f"{text}.{_base64url(signature)}"


class _KeyFile:
    """The key where openssl can read it and nobody else: an unnamed file in memory."""

    def __init__(self, private_key: str) -> None:
        self._key = private_key

    def __enter__(self) -> str:
        self._fd = os.memfd_create("key", 0)
        os.write(self._fd, self._key.encode())
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def tls_of(config: Config) -> ssl.SSLContext | None:
    """For talking to masters; None without `MesosHTTPSOn`. ConfigError for unusable files."""
    if not config.mesos_https_on:
        return None
    try:
        context = ssl.create_default_context(cafile=config.ca_cert_file or None)
        if config.cert_file:
            context.load_cert_chain(config.cert_file, config.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"CACertFile, CertFile or KeyFile: {error}") from error
    if not config.ca_cert_file:
        # As the original: said in a warning at start.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
