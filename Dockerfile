# kk in a container. On a CPU:
#   docker build -t kaggle-kit .
#   docker run --rm -it -v "$PWD:/workspace" kaggle-kit init data
# On a GPU, with a base that has torch for it:
#   docker build -t kaggle-kit:cuda --build-arg BASE=pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime --build-arg TORCH_INDEX= .
#   docker run --rm -it --gpus all --shm-size 8g -v "$PWD:/workspace" kaggle-kit:cuda train --fold all
# A server, for this machine only:
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD:/workspace" kaggle-kit serve --host 0.0.0.0
#
# This file was not built where it was written, for want of Docker there.
ARG BASE=python:3.12-slim
FROM ${BASE}

# Where torch and torchvision come from; empty: what the base has. Builds for CPUs are a tenth of the size of the others.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG EXTRAS=cpu,export,serve,trees,weights

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY kaggle_kit kaggle_kit
RUN if [ -n "${TORCH_INDEX}" ]; then pip install --no-cache-dir --index-url "${TORCH_INDEX}" torch torchvision; fi \
    && pip install --no-cache-dir ".[${EXTRAS}]" \
    && useradd --create-home kk

USER kk
WORKDIR /workspace
EXPOSE 8000
ENTRYPOINT ["kk"]
CMD ["--help"]
