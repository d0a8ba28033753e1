# The image: one static binary with all emulators inside. Build it with: docker build -t binfmtctl .
#
# For other hosts than this one, `--platform linux/arm64` cross-builds: nothing is emulated on the way. The hosts are amd64,
# arm64, riscv64, ppc64le, s390x and loong64.
#
# EMULATORS=source builds small and fast emulators from Debian's source package, in a quarter of an hour or half;
# EMULATORS=debian takes Debian's prebuilt ones: two minutes, and an image seven times as large.
ARG RUST_IMAGE=rust:1-trixie
ARG DEBIAN_IMAGE=debian:trixie
ARG EMULATORS=source

FROM --platform=$BUILDPLATFORM ${DEBIAN_IMAGE} AS emulators-debian
WORKDIR /src
RUN apt-get update && apt-get install -y --no-install-recommends xz-utils ca-certificates
COPY scripts/lib scripts/debian scripts/get-qemu scripts/
COPY qemu-bins/debian.lock qemu-bins/
ARG TARGETARCH
RUN scripts/get-qemu --locked --host "$TARGETARCH"

FROM --platform=$BUILDPLATFORM ${DEBIAN_IMAGE} AS emulators-source
WORKDIR /src
RUN apt-get update && apt-get install -y --no-install-recommends xz-utils ca-certificates
COPY scripts/ scripts/
COPY qemu-bins/source.lock qemu-bins/
ARG TARGETARCH
ARG BUILDARCH
# What training gains on other machines than this one is not measured. The cache keeps what was built of the same source. For the secret see below.
RUN --mount=type=cache,target=/root/.cache/binfmtctl-build --mount=type=secret,id=ca \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    scripts/qemu-build --host "$TARGETARCH" $([ "$TARGETARCH" != "$BUILDARCH" ] || echo --pgo)

FROM emulators-${EMULATORS} AS emulators

FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS build
WORKDIR /src
RUN apt-get update && apt-get install -y --no-install-recommends musl-tools
COPY Cargo.toml Cargo.lock build.rs ./
COPY .cargo/ .cargo/
COPY scripts/lib scripts/debian scripts/guests scripts/build scripts/
COPY src/ src/
COPY licenses/ licenses/
COPY LICENSE ./
COPY --from=emulators /src/qemu-bins/ qemu-bins/
# Extra certificate authorities, for builders behind a proxy that has its own:
# docker build --secret id=ca,src=/etc/ssl/certs/ca-certificates.crt
ARG TARGETARCH
RUN --mount=type=secret,id=ca \
    if [ -s /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca CARGO_HTTP_CAINFO=/run/secrets/ca; fi; \
    cp "$(scripts/build --host "$TARGETARCH" --release --locked)" /binfmtctl

# --target buildkit: only the emulators, under the names by which BuildKit finds them in its PATH. With them it builds for
# other platforms without binfmt_misc: COPY --from=THIS_IMAGE / /usr/bin/ onto moby/buildkit.
FROM emulators AS unpacked
COPY scripts/lib scripts/buildkit-emulators scripts/
RUN scripts/buildkit-emulators /buildkit

FROM scratch AS buildkit
COPY --from=unpacked /buildkit/ /

FROM scratch AS binfmtctl
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="binfmtctl" \
      org.opencontainers.image.description="Run and build container images of other architectures" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT AND GPL-2.0-only AND LGPL-2.1-or-later"
COPY --from=build /binfmtctl /usr/bin/binfmtctl
ENTRYPOINT ["/usr/bin/binfmtctl"]
