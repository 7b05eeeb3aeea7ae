# The service with a digits model in it. Build: docker build -t layerserve .   Run: docker run -p 8000:8000 layerserve
# Without TensorFlow, a third of the size: docker build --build-arg PACKAGES=slim -t layerserve:slim .
# With gRPC on port 8001: docker run -p 8000:8000 -p 8001:8001 -e LAYERSERVE_GRPC_PORT=8001 layerserve
# Mount your own versions over the built-in ones: docker run -p 8000:8000 -v "$PWD/artifacts:/artifacts:ro" layerserve
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# The packages that serving needs, in a virtual environment without pip: `serve` has all runtimes, `slim` the light ones.
FROM ${PYTHON_IMAGE} AS packages
ARG PACKAGES=serve
RUN apt-get update \
    && apt-get install -y --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --without-pip /opt/venv
COPY requirements/${PACKAGES}.txt /tmp/packages.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/venv/bin/python install --quiet --no-compile --require-hashes --requirement /tmp/packages.txt
# What is only for building against TensorFlow goes, and so do the symbols of its largest library (stripping the others
# breaks NumPy). Byte code is made here, since a read-only container cannot keep any.
RUN cd /opt/venv/lib/python3*/site-packages \
    && rm -rf tensorflow/include \
    && find . -path '*clang/native*' -type f -delete \
    && find . -name 'libtensorflow_cc.so.2' -exec strip --strip-unneeded {} + \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash .

# A digits model, trained and proved here.
FROM packages AS trained
COPY requirements/export.txt /tmp/export.txt
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/venv/bin/python install --quiet --require-hashes --requirement /tmp/export.txt
WORKDIR /app
COPY models models
COPY export export
RUN /opt/venv/bin/python -m export train --artifacts /artifacts

FROM ${PYTHON_IMAGE}
# TensorFlow will not start without a folder for temporary files. In a read-only container /tmp is none unless one is
# mounted there; /usr/tmp is the last place Python looks, and /dev/shm is writable everywhere.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin layerserve \
    && ln -s /dev/shm /usr/tmp
COPY --from=packages /opt/venv /opt/venv
COPY --from=trained /artifacts /artifacts
WORKDIR /app
COPY models models
COPY service service
RUN python3 -m compileall -q --invalidation-mode unchecked-hash .
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LAYERSERVE_HOST=0.0.0.0 \
    LAYERSERVE_PORT=8000 \
    LAYERSERVE_ARTIFACTS=/artifacts
USER 10001:10001
EXPOSE 8000 8001
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"LAYERSERVE_PORT\"]}/health/ready', timeout=4)"]
CMD ["python", "-m", "service"]
