# The service, without an engine: it speaks to servers such as vLLM's (see compose.yaml).
FROM python:3.11-slim AS build
WORKDIR /src
# `router` holds links to the other folders, which the wheel follows.
COPY pyproject.toml README.md cli.py ./
COPY difficulty difficulty
COPY models models
COPY router router
COPY strategies strategies
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
# LightGBM needs OpenMP. Debian keeps one version of it in each release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
# `fit` reads bundles, `served` is for a verifier behind a server. EXTRAS=service,local adds torch,
# for a verifier in this container.
ARG EXTRAS=service,fit,served
# hadolint ignore=DL3013
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    --mount=type=bind,source=requirements/dev.txt,target=/lock.txt \
    wheel=$(ls /wheels/*.whl) \
    && pip install --no-cache-dir --constraint /lock.txt "${wheel}[${EXTRAS}]"
RUN useradd --uid 10001 --create-home router
USER 10001
ENV ROUTER_HOST=0.0.0.0 \
    ROUTER_PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health')"]
ENTRYPOINT ["router"]
CMD ["serve"]
