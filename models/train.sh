#!/usr/bin/env bash
# Trains the shipped models from scratch: models/train.sh IMAGES MORE WORK [MODEL...]
#
# IMAGES, MORE: folders of clean images (README.md lists the ones these models were trained on). WORK: a new folder for
# data and runs. MODEL: a shipped model, which is trained with the runs that it starts from; all by default. If a run was
# interrupted, calling the script again resumes it. README.md has the training times.
set -euo pipefail
images=$(cd "$1" && pwd) more=$(cd "$2" && pwd) work=$3
shift 3
models="gauss5_50 gauss25 poisson30 poisson5_50 gauss5_50_gray poisson5_50_gray gauss5_50_fast"
test $# -gt 0 || set -- $models
for model in "$@"; do
    if [[ " $models " != *" $model "* ]]; then
        echo "there is no model $model; the models are $models" >&2
        exit 2
    fi
done
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

# flat FOLDER COPIES: adds flat images, so that flat areas stay flat: black, white, and each gray, equally often.
flat() {
    local gray level copy
    mkdir -p "$1/flat"
    for gray in $(seq 8 8 248); do
        for level in 0 255 "$gray"; do
            for copy in $(seq "$2"); do
                { printf 'P5\n512 512\n255\n'; head -c 262144 /dev/zero | tr '\0' "\\$(printf %03o "$level")"; } \
                    >"$1/flat/$copy-$gray-$level.pgm"
            done
        done
    done
}
if ! test -d magnified_flat; then
    mkdir -p magnified_flat.part
    cp -r magnified magnified_flat.part/
    flat magnified_flat.part 1
    mv magnified_flat.part magnified_flat
fi
# For gray images, where bicubic interpolation does better.
if ! test -d bicubic_flat; then
    "$n2n" prepare --input-dir clean --save-dir bicubic_flat.part --max-size 800 --magnification 2 \
        --interpolation bicubic
    flat bicubic_flat.part 4
    mv bicubic_flat.part bicubic_flat
fi

# train NAME START NOISE IMAGES FLAGS: leaves the averaged weights of the run in runs/NAME. START is the run whose
# weights it starts from, or none.
train() {
    local name=$1 start=$2 noise=$3 data=$4
    shift 4
    if test "$start" != none; then
        run "$start"
        set -- --init-from "$(last "$start")" "$@"
    fi
    if test -f "runs/$name/latest.safetensors"; then
        "$n2n" train --resume "runs/$name"
    else
        # A later flag replaces an earlier one.
        "$n2n" train --data-dir "$data" --val-dirs tuning --recipe fast --noisetype "$noise" \
            --log-name "$name" --save-model-path runs --batchsize 4 --patchsize 128 "$@"
    fi
    touch "runs/$name.done"
}
# The weights of a run after its last epoch.
last() { find "runs/$1" -name 'epoch_model_*' | sort | tail -n 1; }

papers="--optimizer adam --target drawn --regularized-patches 4"
constant="--increase-ratio 2 --lambda-schedule constant --n-epoch 1"
large="--batchsize 1 --patchsize 256"
# With the read noise of cameras.
camera="poisson5_50+gauss0_30"

# run NAME: makes a run, after those that it depends on, unless it is done.
run() {
    if test -f "runs/$1.done"; then
        return
    fi
    case $1 in
    # First on images that are not magnified, with Adam and the paper's gradient. Without the regularizer, there is no
    # second forward pass; the network learns what images look like.
    base) train "$1" none gauss5_50 clean/a $papers --lr-schedule step --gamma 1 --increase-ratio 0 \
        --n-epoch 6 --steps-per-epoch 1500 --n-snapshot 2 ;;
    # With it: the detail that the gap between neighbors had blurred comes back.
    half) train "$1" base gauss5_50 clean/a $papers --increase-ratio 2 --lr 5e-4 \
        --n-epoch 14 --steps-per-epoch 1000 --n-snapshot 2 ;;
    muon) train "$1" half gauss5_50 clean $constant --lr 7e-4 --lr-schedule trapezoid --steps-per-epoch 14000 ;;

    # Then from magnified images.
    mixed) train "$1" muon gauss25 mixed $constant --lr 4e-4 --steps-per-epoch 2000 ;;
    blind) train "$1" mixed gauss5_50 magnified $constant --lr 6e-4 --lr-schedule trapezoid --steps-per-epoch 7000 ;;

    # The blind model is where the others begin.
    gauss5_50_first) train "$1" blind gauss5_50 magnified $constant --lr 3e-4 --steps-per-epoch 4700 $large ;;
    gauss25_first) train "$1" gauss5_50_first gauss25 magnified $constant --lr 4e-4 --steps-per-epoch 8700 $large ;;
    gauss25) train "$1" gauss25_first gauss25 magnified $constant --lr 4e-4 --steps-per-epoch 20000 $large ;;
    gauss5_50_second) train "$1" gauss25 gauss5_50 magnified $constant --lr 4e-4 --steps-per-epoch 10000 $large ;;
    # Where the noise is strong, small patches teach the network too little of whole images.
    gauss5_50_large) train "$1" gauss5_50_second gauss5_50 magnified $constant --lr 3e-4 --steps-per-epoch 1500 \
        $large --patchsize 512 ;;
    gauss5_50_third) train "$1" gauss5_50_large gauss5_50 magnified $constant --lr 3e-4 --steps-per-epoch 1500 \
        $large --patchsize 512 ;;
    # Images with little noise or none.
    gauss5_50_fourth) train "$1" gauss5_50_third gauss0_50 magnified_flat $constant --lr 4e-4 --steps-per-epoch 4000 \
        $large --patchsize 512 ;;
    gauss5_50) train "$1" gauss5_50_fourth gauss0_50 magnified_flat $constant --lr 4e-4 --steps-per-epoch 5000 \
        $large --patchsize 512 ;;
    poisson30) train "$1" gauss25 poisson30 magnified $constant --lr 4e-4 --steps-per-epoch 9000 $large ;;
    poisson5_50_first) train "$1" gauss5_50_second poisson5_50 magnified $constant --lr 4e-4 \
        --steps-per-epoch 4000 $large ;;
    poisson5_50_second) train "$1" poisson5_50_first poisson5_50 magnified $constant --lr 4e-4 \
        --steps-per-epoch 20000 $large ;;
    poisson5_50_third) train "$1" poisson5_50_second poisson5_50 magnified $constant --lr 3e-4 \
        --steps-per-epoch 7000 $large ;;
    poisson5_50_fourth) train "$1" poisson5_50_third poisson5_50 magnified $constant --lr 4e-4 \
        --steps-per-epoch 12000 $large ;;
    read_noise) train "$1" poisson5_50_fourth $camera magnified $constant --lr 4e-4 --steps-per-epoch 12000 $large ;;
    read_noise_large) train "$1" read_noise $camera magnified $constant --lr 3e-4 --steps-per-epoch 1500 $large \
        --patchsize 512 ;;
    poisson5_50) train "$1" read_noise_large $camera magnified $constant --lr 3e-4 --steps-per-epoch 1500 $large \
        --patchsize 512 ;;

    # With Λ = 2, a single channel keeps noise.
    gauss5_50_gray_first) train "$1" gauss5_50 gauss0_50 bicubic_flat --n-channel 1 $constant --increase-ratio 1.5 \
        --lr 5e-4 --n-epoch 5 --steps-per-epoch 1000 --n-snapshot 1 $large ;;
    gauss5_50_gray) train "$1" gauss5_50_gray_first gauss0_50 bicubic_flat --n-channel 1 $constant \
        --increase-ratio 1.5 --lr 3e-4 --steps-per-epoch 1000 $large --patchsize 512 ;;
    # From random weights in one run, with the recipe's Λ: trained this long with Λ = 2, a single channel keeps noise.
    gray_first) train "$1" none gauss5_50 magnified --n-channel 1 --lr 7e-4 --lr-schedule trapezoid \
        --n-epoch 12 --steps-per-epoch 2000 --n-snapshot 2 $large ;;
    gray_read_noise) train "$1" gray_first $camera magnified --n-channel 1 $constant --increase-ratio 1 \
        --lr 4e-4 --steps-per-epoch 8000 $large ;;
    poisson5_50_gray) train "$1" gray_read_noise $camera magnified --n-channel 1 $constant --increase-ratio 1 \
        --lr 3e-4 --steps-per-epoch 1500 $large --patchsize 512 ;;

    # The small network learns from the blind model's results on noisy images that are not magnified. Its patches have
    # to be large.
    fast_first)
        run blind
        train "$1" none gauss5_50 clean --architecture fast --teacher "$(last blind)" --n-epoch 1 \
            --lr 1.5e-3 --lr-schedule trapezoid --steps-per-epoch 2300
        ;;
    gauss5_50_fast)
        run blind
        train "$1" fast_first gauss5_50 clean --architecture fast --teacher "$(last blind)" --n-epoch 1 \
            --lr 1e-3 --steps-per-epoch 10100 $large
        ;;
    esac
}

for model in "$@"; do
    run "$model"
    "$n2n" export --model-path "$(last "$model")" --save-dir "$model" \
        --format safetensors --dtype f16 --license "MIT OR Apache-2.0"
done
