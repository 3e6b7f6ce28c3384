# Built by `make images` with dist/ as the context.
#
# The gateway runs as nobody. To read the Engine's socket it needs the socket's group and nothing else; the
# group's number differs from host to host, so it is given where the service is created:
#
#   docker service create --name gateway --network functions --constraint node.role==manager \
#     --publish mode=host,target=8080,published=8080 \
#     --mount type=bind,source=/var/run/docker.sock,target=/var/run/docker.sock,readonly \
#     --group "$(stat -c %g /var/run/docker.sock)" faas/gateway
#
# `readonly` keeps the socket's file from being replaced; it does not limit what is asked through it. Whoever
# can write to that socket is root on the host: where that is too much, point DOCKER_HOST at a proxy that lets
# only GET requests for services, tasks, networks and events through.
FROM scratch
COPY gateway /gateway
USER 65534:65534
EXPOSE 8080
# Swarm calls a task running once its first probe has passed, one interval after its start; a probe costs the
# engine some 50 ms of CPU. Five seconds keep both small.
HEALTHCHECK --interval=5s --timeout=3s --retries=3 CMD ["/gateway", "--healthcheck"]
ENTRYPOINT ["/gateway"]
