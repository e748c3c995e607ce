#!/bin/sh
# Ask for an allowed host and for one that is not: the interceptor answers the second one itself, with 403.
for host in example.org example.com; do
    code=$(curl --silent --output /dev/null --max-time 10 --write-out '%{http_connect} %{http_code}' "https://$host/")
    echo "$host: CONNECT and HTTP status: $code"
done
