#!/usr/bin/env bash
# Trains the shipped models from scratch: models/train.sh IMAGES MORE WORK
#
# IMAGES, MORE: folders of clean images (README.md lists the ones these models were trained on). WORK: folder for data
# and runs. If a run was interrupted, calling the script again resumes it. README.md has the training times.
set -euo pipefail
images=$(cd "$1" && pwd) more=$(cd "$2" && pwd) work=$3
n2n=${N2N:-n2n}
mkdir -p "$work"
cd "$work"

if ! test -d magnified; then
    "$n2n" prepare --input-dir "$images" --save-dir clean/a
    # Every 42nd image is for tuning: no model learns from it.
    mkdir -p tuning/BSD300/test
    find clean/a -type f | LC_ALL=C sort | awk 'NR % 42 == 21' | xargs -I{} mv {} tuning/BSD300/test/
    "$n2n" prepare --input-dir "$more" --save-dir clean/b --max-size 800
    # Training halves images: half-size copies of magnified ones are as sharp as the originals.
    "$n2n" prepare --input-dir clean --save-dir magnified.part --max-size 800 --magnification 2
    # Both sizes, for one run.
    mkdir -p mixed
    cp -r clean magnified.part mixed/
    mv magnified.part magnified
fi

# train NAME NOISE IMAGES FLAGS: leaves the averaged weights of the run in runs/NAME.
train() {
    local name=$1 noise=$2 data=$3
    shift 3
    if test -f "runs/$name/latest.safetensors"; then
        "$n2n" train --resume "runs/$name"
    else
        # A later flag replaces an earlier one.
        "$n2n" train --data-dir "$data" --val-dirs tuning --recipe fast --noisetype "$noise" \
            --log-name "$name" --save-model-path runs --batchsize 4 --patchsize 128 "$@"
    fi
}
# The weights of a run after its last epoch.
last() { find "runs/$1" -name 'epoch_model_*' | sort | tail -n 1; }

# First on images that are not magnified, with Adam and the paper's gradient. Without the regularizer, there is no second
# forward pass; the network learns what images look like.
papers="--optimizer adam --target drawn --regularized-patches 4"
train base gauss5_50 clean/a $papers --lr-schedule step --gamma 1 --increase-ratio 0 \
    --n-epoch 6 --steps-per-epoch 1500 --n-snapshot 2
# With it: the detail that the gap between neighbors had blurred comes back.
train half gauss5_50 clean/a $papers --init-from "$(last base)" --increase-ratio 2 --lr 5e-4 \
    --n-epoch 14 --steps-per-epoch 1000 --n-snapshot 2
constant="--increase-ratio 2 --lambda-schedule constant --n-epoch 1"
train muon gauss5_50 clean --init-from "$(last half)" $constant --lr 7e-4 --lr-schedule trapezoid --steps-per-epoch 14000

# Then from magnified images.
train mixed gauss25 mixed --init-from "$(last muon)" $constant --lr 4e-4 --steps-per-epoch 2000
train blind gauss5_50 magnified --init-from "$(last mixed)" $constant --lr 6e-4 --lr-schedule trapezoid \
    --steps-per-epoch 7000

# The blind model is where the others begin.
large="--batchsize 1 --patchsize 256"
train gauss5_50_first gauss5_50 magnified --init-from "$(last blind)" $constant --lr 3e-4 --steps-per-epoch 4700 $large
train gauss25_first gauss25 magnified --init-from "$(last gauss5_50_first)" $constant --lr 4e-4 \
    --steps-per-epoch 8700 $large
train gauss25 gauss25 magnified --init-from "$(last gauss25_first)" $constant --lr 4e-4 --steps-per-epoch 20000 $large
train gauss5_50 gauss5_50 magnified --init-from "$(last gauss25)" $constant --lr 4e-4 --steps-per-epoch 10000 $large
train poisson30 poisson30 magnified --init-from "$(last gauss25)" $constant --lr 4e-4 --steps-per-epoch 9000 $large
train poisson5_50_first poisson5_50 magnified --init-from "$(last gauss5_50)" $constant --lr 4e-4 \
    --steps-per-epoch 4000 $large
train poisson5_50_second poisson5_50 magnified --init-from "$(last poisson5_50_first)" $constant --lr 4e-4 \
    --steps-per-epoch 20000 $large
train poisson5_50_third poisson5_50 magnified --init-from "$(last poisson5_50_second)" $constant --lr 3e-4 \
    --steps-per-epoch 7000 $large
train poisson5_50_fourth poisson5_50 magnified --init-from "$(last poisson5_50_third)" $constant --lr 4e-4 \
    --steps-per-epoch 12000 $large
# With the read noise of cameras. Where the noise is strong, small patches teach the network too little of whole images.
camera="poisson5_50+gauss0_30"
train read_noise $camera magnified --init-from "$(last poisson5_50_fourth)" $constant --lr 4e-4 \
    --steps-per-epoch 12000 $large
train read_noise_large $camera magnified --init-from "$(last read_noise)" $constant --lr 3e-4 \
    --steps-per-epoch 1500 $large --patchsize 512
train poisson5_50 $camera magnified --init-from "$(last read_noise_large)" $constant --lr 3e-4 \
    --steps-per-epoch 1500 $large --patchsize 512
train gauss5_50_gray gauss5_50 magnified --init-from "$(last gauss5_50_first)" --n-channel 1 $constant --lr 5e-4 \
    --steps-per-epoch 5100 $large

# The small network learns from the blind model's results on noisy images that are not magnified. Its patches have to be
# large.
teacher="--architecture fast --teacher $(last blind) --n-epoch 1"
train fast_first gauss5_50 clean $teacher --lr 1.5e-3 --lr-schedule trapezoid --steps-per-epoch 2300
train gauss5_50_fast gauss5_50 clean --init-from "$(last fast_first)" $teacher --lr 1e-3 --steps-per-epoch 10100 $large

for model in gauss5_50 gauss25 poisson30 poisson5_50 gauss5_50_gray gauss5_50_fast; do
    "$n2n" export --model-path "$(last "$model")" --save-dir "$model" \
        --format safetensors --dtype f16 --license "MIT OR Apache-2.0"
done
