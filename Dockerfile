# An image with the `airut` binary. Any role, any command: `docker run airut serve --config …`.
#
# It keeps its files in /var/lib/airut, a volume as a rule; the rest may be read-only. There is no HEALTHCHECK, because what is
# healthy is the role's to say: deploy/compose asks with `airut health`.

FROM rust:1.95.0-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --profile dist --package airut && \
    cp target/dist/airut /airut

# The same Debian as the one that it was built on: it is linked to that one's C library, and to nothing else.
FROM debian:12.12-slim
# Volumes take their owner from here. Nobody has the number in a password file, and nothing asks for the name.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/airut /exchange /exchange/objects
COPY --from=build /airut /usr/local/bin/airut
USER 10001:10001
WORKDIR /var/lib/airut
EXPOSE 7443 9464
ENTRYPOINT ["airut"]
