# docker build -t penstock .            (docs/deployment.md)
FROM python:3.11-slim AS build
# Where the package index serves torch's CUDA build under the plain version: --build-arg TORCH_ARGS="--index-url URL".
ARG TORCH_ARGS=""
WORKDIR /src
RUN python -m venv /opt/penstock
ENV PATH=/opt/penstock/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock ./
RUN pip install "$(grep '^torch==' requirements.lock)" $TORCH_ARGS && pip install -r requirements.lock
COPY pyproject.toml README.md ./
COPY gateway gateway
COPY actors actors
COPY engine engine
COPY policies policies
COPY config config
COPY loadtests loadtests
RUN pip install --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --system --create-home --home-dir /var/lib/penstock penstock
COPY --from=build /opt/penstock /opt/penstock
# Kernels are compiled at the first start, for the processor that is there: a volume keeps them for the next one.
ENV PATH=/opt/penstock/bin:$PATH PYTHONUNBUFFERED=1 XDG_CACHE_HOME=/var/lib/penstock/cache
USER penstock
WORKDIR /var/lib/penstock
VOLUME /var/lib/penstock
EXPOSE 8080
# SIGTERM drains: answers under way may end.
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=3m CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/livez', timeout=3)"]
ENTRYPOINT ["penstock"]
CMD ["serve", "--config", "/etc/penstock", "--host", "0.0.0.0"]
