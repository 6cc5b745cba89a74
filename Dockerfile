# goss-supervisor in a container; docs/install.md says how it is built and run.
#
#   docker build --tag goss-supervisor .                            # no GPU
#   docker build --tag goss-supervisor --build-arg FLAVOUR=vulkan . # AMD, Intel
#   docker build --tag goss-supervisor --build-arg FLAVOUR=cuda .   # NVIDIA, with its container toolkit
#
# llama.cpp is not in the image: the first start gets what suits the machine, proves it, and keeps it in the volume.

ARG FLAVOUR=cpu

FROM ubuntu:24.04 AS cpu

FROM ubuntu:24.04 AS vulkan
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libvulkan1 mesa-vulkan-drivers vulkan-tools \
    && rm -rf /var/lib/apt/lists/*

# The driver's libraries come from the host, CUDA's own with llama.cpp.
FROM nvidia/cuda:12.8.1-base-ubuntu24.04 AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM ubuntu:24.04 AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN python3 -m venv /opt/goss-supervisor \
    && /opt/goss-supervisor/bin/pip install --no-cache-dir /source

# hadolint ignore=DL3006
FROM ${FLAVOUR} AS goss-supervisor
ENV GOSS_SUPERVISOR_HOME=/var/lib/goss-supervisor
# Folders on which something may be mounted are there, else Docker makes them, as root's. And python3-venv, not
# python3: an embedded engine has an environment of its own.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates libgomp1 python3-venv tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 goss \
    && useradd --uid 10001 --gid goss --no-log-init --home-dir "$GOSS_SUPERVISOR_HOME" --no-create-home goss \
    && install -d -o goss -g goss -m 0700 "$GOSS_SUPERVISOR_HOME" \
        "$GOSS_SUPERVISOR_HOME/data" "$GOSS_SUPERVISOR_HOME/data/models" \
        "$GOSS_SUPERVISOR_HOME/config" "$GOSS_SUPERVISOR_HOME/config/profiles" \
    && ln -s /opt/goss-supervisor/bin/goss-supervisor /usr/local/bin/goss-supervisor
COPY --from=build /opt/goss-supervisor /opt/goss-supervisor
COPY --chmod=0755 docker/entrypoint /usr/local/bin/entrypoint

WORKDIR /var/lib/goss-supervisor
VOLUME ["/var/lib/goss-supervisor", "/var/lib/goss-supervisor/data/models"]
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM

# As /supervisor/ready says it, on whatever port. The first start may download tens of gigabytes.
HEALTHCHECK --interval=30s --timeout=10s --start-period=2h --retries=3 CMD ["goss-supervisor", "status"]

# tini: the first process of a container takes no SIGTERM unless it asks for it, and a download does not.
ENTRYPOINT ["tini", "--", "entrypoint"]
CMD ["start"]
