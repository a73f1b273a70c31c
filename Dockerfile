# syntax=docker/dockerfile:1
# The audit as a batch image. `make image-test` runs these steps in a root made by debootstrap.
# OVN must not be older than the cluster's: NEWER_OVN=26.03 puts one beside Debian 13's, from
# Debian's unstable.
# The base is of 2026-08-03, for every architecture: docker-library/repo-info lists its digest in
# repos/debian/remote/13-slim.md. What Debian has mended since is brought in by `apt-get upgrade`.
ARG BASE=debian:13-slim@sha256:3a39a0592364683e6bab97937b72cad5a8fa6dcbbee90edb3bb48c7f8e94f258

FROM ${BASE} AS build
ARG RAY_EXTRA=""
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv
COPY . /src
# Each file is compared with the hash that constraints.txt has of it; the audit itself is built of /src.
RUN python3 -m venv /opt/tools && /opt/tools/bin/pip install --no-cache-dir --only-binary :all: --require-hashes -r /src/constraints-tools.txt
RUN python3 -m venv /opt/ovn-audit && /opt/ovn-audit/bin/pip install --no-cache-dir --only-binary :all: --require-hashes -r /src/constraints.txt
RUN cd /src && /opt/tools/bin/hatchling build -t wheel -d /tmp/wheel && /opt/ovn-audit/bin/pip install --no-cache-dir --no-deps --no-index /tmp/wheel/*.whl
# KubeRay's RayJob needs RAY_EXTRA=default: the job server.
RUN [ -z "$RAY_EXTRA" ] || /opt/ovn-audit/bin/pip install --no-cache-dir --require-hashes -r "/src/constraints-ray-$RAY_EXTRA.txt"
ARG NEWER_OVN=""
RUN mkdir /opt/ovn-audit/sbom
RUN [ -z "$NEWER_OVN" ] || { XDG_DATA_HOME=/opt /opt/ovn-audit/bin/audit doctor --install-ovn --at-least "$NEWER_OVN" && cat /opt/ovn-audit/ovn*/packages.txt > /opt/ovn-audit/sbom/ovn.txt; }
RUN /opt/tools/bin/cyclonedx-py environment --output-reproducible --output-file /opt/ovn-audit/sbom/python.cdx.json /opt/ovn-audit/bin/python
RUN /opt/ovn-audit/bin/pip uninstall -y pip && rm -rf /opt/ovn-audit/lib/python3*/site-packages/setuptools*

FROM ${BASE}
# OVN's own release, with the fixes that Debian makes to it. The host's half is for --planes datapath.
ARG OVN=25.03.*
RUN apt-get update && apt-get upgrade -y && apt-get install -y --no-install-recommends python3 ovn-central=${OVN} ovn-host=${OVN} ovn-common=${OVN} openvswitch-switch python3-openvswitch && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/ovn-audit /opt/ovn-audit
RUN dpkg-query --show --showformat '${Package} ${Version} ${Architecture}\n' > /opt/ovn-audit/sbom/debian.txt
ENV PATH=/opt/ovn-audit/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENV HOME=/tmp
ENV XDG_DATA_HOME=/opt
LABEL org.opencontainers.image.title="ovn-audit" org.opencontainers.image.description="Cluster-wide connectivity audit for OVN-Kubernetes" org.opencontainers.image.licenses="Apache-2.0" org.opencontainers.image.source="https://ovn-audit.example/source"
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["audit"]
