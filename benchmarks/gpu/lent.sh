#!/usr/bin/env bash
# What runs on a machine with a card that is lent for minutes: no network, torch and transformers
# installed, and 64 MB a call. README.md beside this has the order of the calls.
#
#   carry               (here)  write the wheels that are missing there to .whl, $MODEL to .parts
#   receive             (there) keep the parts that came with this call
#   test | kit | sample (there) results go to $OUT
set -euo pipefail

KEPT=/tmp/lent                      # lives as long as the machine is lent
MODEL=${MODEL:-Qwen2.5-Coder-0.5B-Instruct}
CHECKPOINT=$KEPT/cache/models/$MODEL
PARTS=.parts
PART_BYTES=38000000                 # the repository takes 20 MB of the call

carry() {
    # python3.12 is what runs there.
    python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 \
        --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
        --platform manylinux2014_x86_64 --platform any -d .whl \
        annotated-types antlr4-python3-runtime==4.13.2 click filelock gguf \
        latex2sympy2-extended math-verify platformdirs pydantic pydantic-core \
        pytest-asyncio pytest-timeout rich typing-inspection
    mkdir -p "$PARTS"
    PYTHONPATH=. "${PYTHON:-.venv/bin/python}" - "$MODEL" "$PARTS" <<'END'
import sys
from pathlib import Path
from rich.console import Console
from router.models.weights.embedded import EMBEDDED
from router.models.weights.fetch import fetch

source = EMBEDDED[sys.argv[1]].source
fetch(source, Path(sys.argv[2]), Console(stderr=True)).rename(Path(sys.argv[2]) / "model.gguf")
END
    split --bytes "$PART_BYTES" --numeric-suffixes --suffix-length 2 \
        "$PARTS/model.gguf" "$PARTS/$MODEL.gguf."
    rm -r "$PARTS/model.gguf" "$PARTS/parts"
    ls "$PARTS"
}

receive() {
    mkdir -p "$KEPT"
    cp "$PARTS"/* "$KEPT"
    ls "$KEPT"
}

ready() {
    export ROUTER_CACHE=$KEPT/cache PYTHONPATH=$PWD:$KEPT/site PYTHONUNBUFFERED=1
    [ -d "$KEPT/site" ] || python3 -m pip install -q --no-index --no-deps --no-compile \
        --no-cache-dir --target "$KEPT/site" .whl/*.whl
    if [ ! -d "$CHECKPOINT" ] && ls "$KEPT/$MODEL".gguf.* >/dev/null 2>&1; then
        cat "$KEPT/$MODEL".gguf.* >"$KEPT/$MODEL.gguf"
        sha256sum "$KEPT/$MODEL.gguf"
        # Its standard input stays open: the converter ends when its caller does.
        python3 -P models/weights/convert.py "$KEPT/$MODEL.gguf" "$KEPT/partial" < <(sleep 600)
        mkdir -p "$(dirname "$CHECKPOINT")"
        mv "$KEPT/partial" "$CHECKPOINT"
    fi
    nvidia-smi --query-gpu=name,memory.total,memory.free --format=csv
}

# sample PROBLEMS NAME SECONDS [OPTION ...]: eight solutions a problem until the time is over.
sample() {
    ready
    local store=$KEPT/$2.sqlite
    timeout --signal=INT "$3" python3 cli.py rollouts sample "$1" "$store" --engine transformers \
        --model "$MODEL" --samples 8 "${@:4}" 2>&1 | tail -5 || true
    python3 cli.py rollouts export "$store" "$OUT/$2.jsonl.gz"
}

run_tests() {
    ready
    python3 -m pytest -q -m gpu tests 2>&1 | tee "$OUT/gpu_tests.txt"
}

kit() {
    ready
    python3 -m benchmarks.gpu.kit --engine transformers --output "$OUT/gpu_transformers.json" "$@"
}

case ${1:-} in
carry | receive | sample | kit) "$@" ;;
test) run_tests ;;
*) sed -n '2,8p' "$0" && exit 2 ;;
esac
