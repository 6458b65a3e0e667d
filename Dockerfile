# The image of the workers, and of the command for machines with a container engine: `make image`.
#
# Both stages have one base, for the virtual environment made in the first runs in the second: any Debian with Python
# 3.11 or later and its venv module. No GPU is needed to build. To run on one, CUDA 13.0 needs a driver of release 580
# or later; where there is none the image computes on the CPU.
#
# A package index of your own: --secret id=pip.conf,src=pip.conf, which leaves no trace in the image.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ python3-dev \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/classmodels/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY constraints.txt ./
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv /opt/classmodels \
    && pip install --constraint constraints.txt pip setuptools wheel ninja pybind11 \
    && pip install --constraint constraints.txt numpy torch torchvision
# nvcc and all that it compiles with, of the CUDA release that torch of constraints.txt is built for.
ARG CUDA=13.0.3
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    pip install --target /opt/cuda "cuda-toolkit[cccl,cudart,nvcc]==${CUDA}"
COPY pyproject.toml setup.py README.md LICENSE ./
COPY csrc csrc
COPY service service
# Machine code for every GPU from Turing (sm_75) to Blackwell: setup.py has the list.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    CUDA_HOME=/opt/cuda/nvidia/cu13 FORCE_CUDA=1 \
    pip install --constraint constraints.txt --no-build-isolation '.[examples,cluster]' \
    && pip uninstall --yes ninja pybind11 wheel \
    && classmodels info

FROM ${BASE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="classmodels" \
      org.opencontainers.image.description="See what each class means to an image classifier" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      dev.classmodels.nvidia-driver=">=580"
COPY --from=build /opt/classmodels /opt/classmodels
# Any user, known or not, and a read-only root: all that is written goes below HOME, or where TMPDIR says. There is no
# compiler, so torch.compile, which needs one, leaves a user's code as it is.
ENV PATH=/opt/classmodels/bin:$PATH HOME=/tmp USER=classmodels PYTHONUNBUFFERED=1 TORCHDYNAMO_DISABLE=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /tmp
USER 65532:65532
ENTRYPOINT ["classmodels"]
