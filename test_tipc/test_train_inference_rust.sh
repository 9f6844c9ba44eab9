#!/usr/bin/env bash
# Certifies the chain from clean images to denoised pictures: trains, exports, and runs the
# exported model with every combination of the config's lists. Call prepare.sh first.
#
# usage: [N2N=path/of/n2n] bash test_tipc/test_train_inference_rust.sh CONFIG MODE
#
# Exit status: 0 when every command succeeded, 1 when one failed, 2 for incorrect usage.
set -euo pipefail

if [ $# -ne 2 ] || [ ! -f "$1" ]; then
    echo "usage: bash test_tipc/test_train_inference_rust.sh CONFIG MODE; CONFIG must exist" >&2
    exit 2
fi
CONFIG=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
MODE=$2
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=test_tipc/common_func.sh
source test_tipc/common_func.sh

OUTPUT=./test_tipc/output
RESULTS=$OUTPUT/results_rust.log
SUMMARY=()
FAILED=0

main() {
    local key
    check_mode "$MODE"
    for key in model_name python trainer norm_export infer_model inference --model_file \
        --use_gpu --use_tensorrt --enable_mkldnn --cpu_threads --batch_size --precision; do
        required_value "$key" >/dev/null
    done
    BINARY=$(program)
    [ -x "$BINARY" ] || die "no program at $BINARY; run test_tipc/prepare.sh first"
    mkdir -p "$OUTPUT"
    # One log for all calls, as in the Paddle port.
    echo "# $(required_value model_name) $MODE $(date '+%Y-%m-%d %H:%M:%S')" >>"$RESULTS"
    if [ "$MODE" = whole_infer ]; then
        whole_infer
    else
        train_export_infer
    fi
    [ "${#SUMMARY[@]}" -gt 0 ] || die "$CONFIG: nothing to run"
    show_summary
    [ "$FAILED" -eq 0 ]
}

# For every trainer of the config that has a command: train, export, infer. After a failed
# step, the next one is not tried: it would find what an earlier run left.
train_export_infer() {
    local trainer trainers exporter
    IFS='|' read -ra trainers <<<"$(required_value trainer)"
    for trainer in "${trainers[@]}"; do
        [ "$(config_value "$trainer")" != null ] || continue
        exporter=${trainer/train/export}
        begin "$(config_value "$trainer")"
        add_flags model_name trainer
        run train "$trainer" "$OUTPUT/rust_$trainer.log" || continue
        begin "$(required_value "$exporter")"
        add_flags infer_params "$exporter"
        run export "$trainer" "$OUTPUT/rust_$exporter.log" || continue
        infer "$(required_value --model_file)"
    done
}

# For every given model of the config: infer, after its export command if it has one.
whole_infer() {
    local models exports k
    IFS='|' read -ra models <<<"$(required_value infer_model)"
    IFS='|' read -ra exports <<<"$(config_value infer_export)"
    for k in "${!models[@]}"; do
        if [ "${exports[k]:-null}" != null ]; then
            begin "${exports[k]}"
            run export "${models[k]}" "$OUTPUT/rust_infer_export.log" || continue
        fi
        infer "${models[k]}"
    done
}

# infer MODEL: runs it on every device of the config, in every precision, with every batch size.
infer() {
    local device precision size
    while IFS= read -r device; do
        while IFS= read -r precision; do
            while IFS= read -r size; do
                infer_once "$1" "$device" "$precision" "$size"
            done < <(items --batch_size)
        done < <(items --precision)
    done < <(devices)
}

# A line for each device: its part of a log's name, then its flags.
devices() {
    local gpu mkldnn threads tensorrt
    for gpu in $(items --use_gpu); do
        if [ "$gpu" = True ]; then
            for tensorrt in $(items --use_tensorrt); do
                echo "gpu_usetrt_$tensorrt --use_gpu=True --use_tensorrt=$tensorrt"
            done
        else
            for mkldnn in $(items --enable_mkldnn); do
                for threads in $(items --cpu_threads); do
                    echo "cpu_usemkldnn_${mkldnn}_threads_$threads" \
                        "--use_gpu=$gpu --enable_mkldnn=$mkldnn --cpu_threads=$threads"
                done
            done
        fi
    done
}

infer_once() { # MODEL DEVICE PRECISION BATCH_SIZE
    local name flags
    read -r name flags <<<"$2"
    name=${name}_precision_$3_batchsize_$4
    # The Paddle port's models are two files; an ONNX file holds both.
    flags="$flags --model_file=$1 --params_file=$1 --batch_size=$4 --precision=$3"
    begin "$(required_value inference) $flags"
    add_flags inference '' --use_gpu --use_tensorrt --enable_mkldnn --cpu_threads \
        --model_file --params_file --batch_size --precision
    run infer "$name" "$OUTPUT/rust_infer_$name.log" || true
}

# items KEY: the items of the config's list KEY, one per line.
items() {
    required_value "$1" | tr '|' '\n'
}

# begin WORDS: starts COMMAND with the program and WORDS, split at blanks and not expanded.
begin() {
    read -ra COMMAND <<<"$1"
    COMMAND=("$BINARY" "${COMMAND[@]}")
}

# add_flags FROM TO [FLAG…]: adds to COMMAND the config's flags between those lines, except the FLAGs.
add_flags() {
    local from=$1 to=$2 flag
    shift 2
    while IFS= read -r flag; do
        case " $* " in *" ${flag%%=*} "*) ;; *) COMMAND+=("$flag") ;; esac
    done < <(config_flags "$from" "$to" "$MODE")
}

# run STEP WHAT LOG: runs COMMAND, shows and keeps what it says, and notes how it ended.
run() {
    local started=$SECONDS result=ok verdict=successfully
    printf '\n> %s\n' "${COMMAND[*]}"
    if ! "${COMMAND[@]}" </dev/null 2>&1 | tee "$3"; then
        result=FAILED verdict=failed FAILED=1
    fi
    echo "Run $verdict with command - ${COMMAND[*]}!" | tee -a "$RESULTS"
    SUMMARY+=("$(printf '%-7s %-60s %8d %10s  %s' \
        "$1" "$2" $((SECONDS - started)) "$(inference_ms "$3")" "$result")")
    [ "$result" = ok ]
}

# inference_ms LOG: the time of an image in the benchmark report, if LOG has one.
inference_ms() {
    sed -n 's/.*inference_time(ms): \([0-9.]*\).*/\1/p' "$1" | tail -n 1
}

show_summary() {
    printf '\n%-7s %-60s %8s %10s  %s\n' step what seconds ms/image result
    printf '%s\n' "${SUMMARY[@]}"
}

main
