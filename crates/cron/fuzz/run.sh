#!/bin/sh
# Fuzzes one target with the stable compiler: `./run.sh parse 120`. `cargo fuzz run parse` needs a nightly one.
set -eu
target=$1
seconds=${2:-60}
cd "$(dirname "$0")"
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Ccodegen-units=1"
host=$(rustc -vV | sed -n 's/^host: //p')
# A target triple of its own keeps the flags away from build scripts.
cargo build --release --target "$host" --bin "$target"
mkdir -p "corpus/$target"
exec "target/$host/release/$target" "corpus/$target" "seeds/$target" -dict=dictionary.txt -max_len=300 \
    -max_total_time="$seconds" -timeout=5
