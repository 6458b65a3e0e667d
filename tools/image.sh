#!/usr/bin/env bash
# Builds the container image with the first of docker, podman and buildah that works here: tools/image.sh TAG [FLAGS...]
#
# ENGINE=... insists on one of them; FLAGS go to its `build`, such as --build-arg BASE=my-python:3.12.
set -euo pipefail
cd "$(dirname "$0")/.."
tag=$1
shift

works() { command -v "$1" >/dev/null && "$1" info >/dev/null 2>&1; }

engine=${ENGINE:-}
for candidate in docker podman buildah; do
  if [ -z "$engine" ] && works "$candidate"; then engine=$candidate; fi
done
if [ -z "$engine" ]; then
  echo "found none of docker, podman and buildah that works here (docker needs its daemon); install one of them" >&2
  exit 1
fi

version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
revision=$(git rev-parse --verify --quiet HEAD || echo unknown)
# `--mount` of the Dockerfile needs docker's newer builder.
DOCKER_BUILDKIT=1 "$engine" build --tag "${tag:-classmodels:$version}" \
  --build-arg "VERSION=$version" --build-arg "REVISION=$revision" "$@" .
