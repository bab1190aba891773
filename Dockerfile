# docker build -t pulsegate .            for this machine's architecture; --platform linux/arm64 for another
#
# A mirror of Go's modules is given with --build-arg GOPROXY=URL.

FROM golang:1.26 AS build
ARG GOPROXY
WORKDIR /src
# The modules are a layer of their own, so that they are fetched again only when they change.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# Empty with a builder that does not set them, which makes Go build for the machine it runs on.
ARG TARGETOS
ARG TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags="-s -w" -o /image/ ./cmd/pulsegate ./device-sim
RUN mkdir -p /image/data/gate /image/data/keys /image/data/nats /image/data/credentials /image/data/devices /image/data/ledger

FROM scratch
# For tls:// to a NATS whose certificate a public authority signed.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# Docker gives a new volume the owner of the directory that it covers, so /data and what is in it can be volumes without
# anybody changing owners. Only volumes are written to: the root file system may be read-only.
COPY --from=build --chown=65532:65532 /image/ /
USER 65532:65532
# A container's own loopback is out of everybody's reach. Who may connect is decided where the ports are published.
ENV PULSEGATE_DATA=/data/gate \
    PULSEGATE_MQTT_LISTEN=0.0.0.0:1883 \
    PULSEGATE_HTTP_LISTEN=0.0.0.0:8080
EXPOSE 1883 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s CMD ["/pulsegate", "health"]
ENTRYPOINT ["/pulsegate"]
CMD ["serve"]
