# Built by `make images` with dist/ as the context: what a function's image begins with, see
# sample-functions/catservice/Dockerfile. It holds nothing but fwatchdog, and runs as nobody.
FROM scratch
COPY fwatchdog /fwatchdog
USER 65534:65534
EXPOSE 8080
# There is no directory here that a lock file could be written to, and nothing that would look for it.
ENV suppress_lock=true
# See gateway.Dockerfile for the interval; `docker service create --health-interval` and `--no-healthcheck`
# say otherwise for one function.
HEALTHCHECK --interval=5s --timeout=3s --retries=3 CMD ["/fwatchdog", "--healthcheck"]
ENTRYPOINT ["/fwatchdog"]
