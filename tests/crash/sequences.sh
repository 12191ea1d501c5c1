#!/bin/sh
# Random operations against a plain model: check_engine_model, whose seed is the
# same every day, with seeds of its own, which are printed. LONG=1: thirty
# times as many operations.
: "${BUILD:=build}"
program=$BUILD/tests/unit/store/engine/check_engine_model
seeds=$([ -n "$LONG" ] && echo 20 || echo 4)
MODEL_STEPS=$([ -n "$LONG" ] && echo 300000 || echo 50000)
export MODEL_STEPS
n=0
while [ $n -lt "$seeds" ]; do
    n=$((n + 1))
    MODEL_SEED=${SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
    export MODEL_SEED
    "$program" || {
        echo "repeat with: MODEL_SEED=$MODEL_SEED MODEL_STEPS=$MODEL_STEPS $program"
        exit 1
    }
    [ -z "$SEED" ] || break
done
echo "$n seeds of $MODEL_STEPS operations, the last one $MODEL_SEED"
