#!/usr/bin/env bash
# Prepares what the chain needs: the program, and the tiny data set under the config's names.
#
# usage: [N2N=path/of/n2n] bash test_tipc/prepare.sh CONFIG MODE
set -euo pipefail

if [ $# -ne 2 ] || [ ! -f "$1" ]; then
    echo "usage: bash test_tipc/prepare.sh CONFIG MODE; CONFIG must exist" >&2
    exit 2
fi
CONFIG=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
MODE=$2
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=test_tipc/common_func.sh
source test_tipc/common_func.sh
check_mode "$MODE"

if [ -z "${N2N:-}" ]; then
    cargo build --release --locked
fi
binary=$(program)
[ -x "$binary" ] || die "no program at $binary"

# The names that the Paddle port's data sets have, below test_tipc/data as in its config.
data=test_tipc/data
rm -rf "$data/mini_Imagenet_val" "$data/BSD300"
mkdir -p "$data/mini_Imagenet_val" "$data/BSD300/test"
cp "$data"/train/*.png "$data/mini_Imagenet_val/"
cp "$data"/test/*.png "$data/BSD300/test/"
echo "ready for $MODE with $("$binary" --version)"
