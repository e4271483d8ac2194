"""Talks to the S3 server of a test with boto3, as the panel does.

Usage: s3.py ENDPOINT COMMAND ...
  begin KEY PARTS EXPIRES   begins a multipart upload; prints {"upload_id", "parts": [links]}
  complete KEY UPLOAD_ID    reads {"parts": [{"etag", "part_number"}]} from standard input
  get KEY FILE              downloads an object
  uploads                   prints the number of multipart uploads that were neither completed nor aborted
"""

import json
import sys

import boto3
from botocore.client import Config

BUCKET = "backups"


def main(endpoint, command, *arguments):
    s3 = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )
    if command == "begin":
        key, parts, expires = arguments
        if not any(bucket["Name"] == BUCKET for bucket in s3.list_buckets()["Buckets"]):
            s3.create_bucket(Bucket=BUCKET)
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key, ContentType="application/x-gzip")["UploadId"]
        links = [
            s3.generate_presigned_url(
                "upload_part",
                Params={"Bucket": BUCKET, "Key": key, "UploadId": upload, "PartNumber": number},
                ExpiresIn=int(expires),
            )
            for number in range(1, int(parts) + 1)
        ]
        print(json.dumps({"upload_id": upload, "parts": links}))
    elif command == "complete":
        key, upload = arguments
        parts = [{"ETag": part["etag"], "PartNumber": part["part_number"]} for part in json.load(sys.stdin)["parts"]]
        s3.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
    elif command == "get":
        key, path = arguments
        s3.download_file(BUCKET, key, path)
    elif command == "uploads":
        print(len(s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])))
    else:
        sys.exit(f"unknown command {command}")


main(*sys.argv[1:])
