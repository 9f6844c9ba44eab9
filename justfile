# The recipes of the project: `just` lists them. CONTRIBUTING.md says what they need.

# Python with the packages of tests/golden/requirements.txt; `just python=… <recipe>` takes another.
python := ".venv/bin/python"

# List the recipes
@default:
    just --list --unsorted

# Everything a change must pass
check: format lint docs deny test

# Is the code formatted?
format:
    cargo fmt --all --check

# No warning from the compiler or clippy
lint:
    cargo clippy --workspace --all-targets --locked -- --deny warnings

# No warning from the documentation
docs:
    RUSTDOCFLAGS="--deny warnings" cargo doc --workspace --no-deps --locked

# No dependency that deny.toml refuses
deny:
    cargo deny --locked check --hide-inclusion-graph bans licenses sources

# Every test
test:
    cargo test --release --workspace

# The tests of the kernels on 64-bit ARM, emulated
test-aarch64:
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu" \
    cargo test --release --package n2n-kernels --target aarch64-unknown-linux-gnu

# From noisy images to denoised pictures in one go: test_tipc/README.md
chain mode="lite_train_lite_infer":
    bash test_tipc/prepare.sh test_tipc/configs/N2N/train_infer_rust.txt {{ mode }}
    bash test_tipc/test_train_inference_rust.sh test_tipc/configs/N2N/train_infer_rust.txt {{ mode }}

# No dependency with a known vulnerability; fetches their database
audit:
    cargo deny --locked check advisories

# Make .venv, the Python of the recipes below
python:
    python3 -m venv .venv
    .venv/bin/python -m pip install --require-hashes --requirement tests/golden/requirements.txt

# Make every golden value and the demonstration's pictures again
golden:
    {{ python }} tests/golden/make_network.py
    {{ python }} tests/golden/make_eval.py
    {{ python }} tests/golden/numpy_eval.py
    {{ python }} tests/golden/weights.py
    {{ python }} tests/golden/images/make.py
    {{ python }} docs/demo/make.py

# Hold `n2n val` against PyTorch; flags for both, as --noisetype gauss25 --sets BSD300 --repeats 1
parity model val_dirs *flags:
    cargo run --release --bin n2n -- val --model-path '{{ model }}' --val-dirs '{{ val_dirs }}' --csv target/parity.csv {{ flags }}
    {{ python }} tests/golden/eval_torch.py --model '{{ model }}' --val-dirs '{{ val_dirs }}' --against target/parity.csv {{ flags }}
