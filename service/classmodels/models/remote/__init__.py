"""Files that a job names elsewhere: s3:// and https://, brought into a local cache, whole and verified.

`elsewhere.py` is what the other rooms use; `uri.py` tells without any network what can be named; `bucket.py` and
`https.py` read; `download.py` resumes; `cache.py` keeps, and `room.py` its bound. Importing this imports no client.
"""
