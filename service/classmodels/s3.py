"""S3-compatible storage for every room: what `s3://` URIs say, and clients made from the job and the environment.

Credentials come from boto3's usual chain and from nowhere else. What S3 answers is put into words by `s3_errors.py`;
`store/s3.py` keeps results in a bucket. boto3 is imported when the first client is made: most jobs need none.
"""

import logging
import os
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from classmodels.errors import InputError

ATTEMPTS = 4
CONNECT_TIMEOUT = 4.0
READ_TIMEOUT = 5.0
"""Seconds: all attempts together give up before 30, which is as long as a person waits to be told of a typing error.

AWS_MAX_ATTEMPTS and CLASSMODELS_S3_CONNECT_TIMEOUT, CLASSMODELS_S3_READ_TIMEOUT change them for slow storage.
"""
CONNECTIONS = 32
"""Connections that are kept open; more threads than that wait for each other. CLASSMODELS_S3_CONNECTIONS changes it."""

_URI = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]{1,254})(?:/(.*))?", re.DOTALL)
_ENDPOINT = re.compile(r"https?://[^\s/?#@]+(/[^\s?#@]*)?")


@dataclass(frozen=True)
class S3Settings:
    """How to reach the storage, as the `storage` block of a job has it; what is None comes from the environment.

    endpoint_url: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL. region: AWS_REGION, AWS_DEFAULT_REGION.
    path_style: CLASSMODELS_S3_PATH_STYLE (true | false); else with an endpoint of one's own, and not at AWS.
    checksum: AWS_REQUEST_CHECKSUM_CALCULATION, AWS_RESPONSE_CHECKSUM_VALIDATION; else when_required, which every store
    understands: what is written is signed with its sha256, and what is read is compared with that.
    """

    endpoint_url: str | None = None
    region: str | None = None
    path_style: bool | None = None
    checksum: Literal["when_required", "when_supported"] | None = None


def parse_uri(uri: str) -> tuple[str, str]:
    """The bucket and the key (or prefix; maybe empty) of `s3://bucket/key`. Raises InputError for anything else."""
    match = _URI.fullmatch(uri)
    if match is None:
        # What stands before an @ may be a secret.
        shown = "a URI with an @ before the bucket" if "@" in uri.removeprefix("s3://").split("/")[0] else repr(uri)
        raise InputError(
            f"found {shown}, expected s3://bucket/prefix, where the bucket's name has letters, digits, dots and hyphens"
        )
    return match[1], match[2] or ""


def connect(settings: S3Settings) -> Any:
    """A boto3 client of S3, safe to use from many threads. Nothing is asked over the network yet.

    Also reads AWS_CA_BUNDLE, AWS_PROFILE and all else that boto3 does. Raises InputError where a setting is no setting.
    """
    import boto3
    import botocore.session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    if settings.endpoint_url is not None:
        _check_endpoint(settings.endpoint_url)
    # At DEBUG botocore logs every request with its signature and the id of its key.
    botocore_log = logging.getLogger("botocore")
    botocore_log.setLevel(max(botocore_log.level, logging.INFO))
    environment = os.environ
    path_style = _flag("CLASSMODELS_S3_PATH_STYLE") if settings.path_style is None else settings.path_style
    retries: dict[str, Any] = {"mode": "standard"}
    if "AWS_MAX_ATTEMPTS" not in environment:
        retries["total_max_attempts"] = ATTEMPTS
    try:
        config = Config(
            signature_version="s3v4",
            s3=None if path_style is None else {"addressing_style": "path" if path_style else "virtual"},
            retries=retries,
            connect_timeout=_number("CLASSMODELS_S3_CONNECT_TIMEOUT", CONNECT_TIMEOUT),
            read_timeout=_number("CLASSMODELS_S3_READ_TIMEOUT", READ_TIMEOUT),
            max_pool_connections=int(_number("CLASSMODELS_S3_CONNECTIONS", CONNECTIONS, least=1)),
            request_checksum_calculation=settings.checksum
            or environment.get("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required"),
            response_checksum_validation=settings.checksum
            or environment.get("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required"),
        )
        # A session of its own: boto3's default one is not made for several threads.
        session = botocore.session.Session()
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
        client = boto3.session.Session(botocore_session=session).client(
            "s3",
            endpoint_url=settings.endpoint_url,
            region_name=settings.region or environment.get("AWS_REGION"),
            config=config,
        )
    except ValueError as error:
        if isinstance(error, BotoCoreError):  # a region that is none
            raise InputError(f"the settings of S3 cannot be used: {error}") from None
        raise _wrong_endpoint() from None
    except BotoCoreError as error:  # an unknown profile, a config file that cannot be parsed
        raise InputError(f"the settings of S3 cannot be used: {error}") from None
    _check_endpoint(client.meta.endpoint_url)
    return client


def _timestamp(value: Any) -> datetime:
    """As botocore reads times, but for those of listings in a tenth of the time, which is most of what a page takes."""
    from botocore.utils import parse_timestamp

    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        found: datetime = parse_timestamp(value)
        return found


def _check_endpoint(url: str) -> None:
    if not _ENDPOINT.fullmatch(url):
        raise _wrong_endpoint("" if "@" in url else f"found {url!r}, ")


def _wrong_endpoint(found: str = "") -> InputError:
    return InputError(
        f"storage.endpoint_url, or AWS_ENDPOINT_URL: {found}expected http://host:port or https://host, without a user"
        " name or password: credentials come from the environment, such as AWS_ACCESS_KEY_ID"
    )


def _flag(variable: str) -> bool | None:
    value = os.environ.get(variable)
    if value not in (None, "true", "false"):
        raise InputError(f"{variable}: found {value!r}, expected true or false")
    return None if value is None else value == "true"


def _number(variable: str, default: float, least: float = 0.01) -> float:
    value = os.environ.get(variable)
    if value is None:
        return default
    try:
        number = float(value)
    except ValueError:
        number = -1
    if not least <= number <= 3600:
        raise InputError(f"{variable}: found {value!r}, expected a number from {least:g} to 3600")
    return number
