# One image for operator and gateway: `docker build -t belay .`. Its one step of substance is hack/install.sh, which
# hack/image.sh runs and checks where there is no container engine.
ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build
COPY . /src
RUN /src/hack/install.sh /src /opt/belay

# Nothing here needs a shell, writes to its root or runs as root.
FROM python:${PYTHON}
COPY --from=build /opt/belay /opt/belay
ENV PATH=/opt/belay/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /tmp
CMD ["belay-operator"]
