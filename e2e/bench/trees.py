"""Uploads a directory to S3, or downloads a prefix, with boto3 and ten threads."""

import os
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor

import boto3
from boto3.s3.transfer import TransferConfig

direction, bucket, directory = sys.argv[1:]
THREADS = 10
# Parts of one large file and several files share the threads.
config = TransferConfig(max_concurrency=THREADS)
client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
root = pathlib.Path(directory)


def upload(file):
    client.upload_file(str(file), bucket, f"boto3/{file.relative_to(root)}", Config=config)


def download(key):
    file = root / key
    file.parent.mkdir(parents=True, exist_ok=True)
    client.download_file(bucket, key, str(file), Config=config)


if direction == "upload":
    work, items = upload, [file for file in root.rglob("*") if file.is_file()]
else:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="boto3/")
    work, items = download, [entry["Key"] for page in pages for entry in page.get("Contents", [])]
assert items, "nothing to do"
with ThreadPoolExecutor(THREADS) as threads:
    list(threads.map(work, items))
