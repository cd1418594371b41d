# docker build -t davsr . && docker run --rm -v "$PWD:/clips" davsr restore in.mp4 out.mp4
FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
ARG TORCH="torch --index-url https://download.pytorch.org/whl/cpu"
RUN pip install --no-cache-dir $TORCH && pip install --no-cache-dir "setuptools>=77"
COPY . /source
RUN DAVSR_REQUIRE_EXT=1 pip install --no-cache-dir --no-build-isolation /source

FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* && useradd --create-home davsr
COPY --from=build /usr/local/lib/python3.12/site-packages /usr/local/lib/python3.12/site-packages
COPY --from=build /usr/local/bin/davsr /usr/local/bin/davsr
USER davsr
WORKDIR /clips
ENTRYPOINT ["davsr"]
CMD ["--help"]
