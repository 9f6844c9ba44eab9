#!/usr/bin/env bash
# Trains the shipped models again, from nothing: models/train.sh IMAGES WORK
#
# IMAGES: a folder of clean images (README.md says which ones these models saw). WORK: where data and runs go.
# A run that was interrupted goes on when the script is called again. README.md has the hours it takes.
set -euo pipefail
images=$(cd "$1" && pwd) work=$2
n2n=${N2N:-n2n}
mkdir -p "$work"
cd "$work"

if ! test -d tuning; then
    "$n2n" prepare --input-dir "$images" --save-dir prepared
    # Each 42nd image is for tuning: no model learns from it.
    mkdir -p tuning/BSD300/test
    find prepared -type f | LC_ALL=C sort | awk 'NR % 42 == 21' | xargs -I{} mv {} tuning/BSD300/test/
fi

# The shipped models are older than Muon and the sampled regularizer in the recipe.
estimator="--optimizer adam --target drawn --regularized-patches 4"

# train NAME NOISE FLAGS: leaves the averaged weights of the run in runs/NAME.
train() {
    local name=$1 noise=$2
    shift 2
    if test -f "runs/$name/latest.safetensors"; then
        "$n2n" train --resume "runs/$name"
    else
        "$n2n" train --data-dir prepared --val-dirs tuning --recipe fast --noisetype "$noise" \
            --log-name "$name" --save-model-path runs $estimator "$@"
    fi
}

# Without the regulariser, which leaves out the second forward pass: the network learns what images are.
train base gauss5_50 --lr-schedule step --gamma 1 --increase-ratio 0 \
    --n-epoch 6 --steps-per-epoch 1500 --n-snapshot 2
# With it: what the gap between neighbours had blurred comes back.
train gauss5_50 gauss5_50 --init-from runs/base/epoch_model_006.safetensors --increase-ratio 2 --lr 5e-4 \
    --n-epoch 14 --steps-per-epoch 1000 --n-snapshot 2
# The blind model is where the others begin.
for noise in gauss25 poisson30; do
    train "$noise" "$noise" --init-from runs/gauss5_50/epoch_model_014.safetensors --increase-ratio 2 --lr 3e-4 \
        --n-epoch 2 --steps-per-epoch 1000
done
train poisson5_50_first poisson5_50 --init-from runs/gauss5_50/epoch_model_014.safetensors \
    --increase-ratio 2 --lr 3e-4 --n-epoch 2 --steps-per-epoch 1000
train poisson5_50 poisson5_50 --init-from runs/poisson5_50_first/epoch_model_002.safetensors \
    --increase-ratio 2 --lr 5e-4 --n-epoch 4 --steps-per-epoch 2000 --seed 1

for noise in gauss5_50 gauss25 poisson30 poisson5_50; do
    last=$(find "runs/$noise" -name 'epoch_model_*' | sort | tail -n 1)
    "$n2n" export --model-path "$last" --save-dir "$noise" \
        --format safetensors --dtype f16 --license "MIT OR Apache-2.0"
done
