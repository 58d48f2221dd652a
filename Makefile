# make train    train the article's tensor network on Fashion-MNIST, on a GPU if there is one
# make test     run all tests: units, documentation, suite (CPU and Vulkan adapter), examples
# make swiftshader  check the program on SwiftShader, a second Vulkan driver that needs no GPU
# make onnxruntime  check exported networks in onnxruntime, where Python has it
# make pytorch  check exported networks in PyTorch, where Python has it
# make browser  open exported pages in Chromium, where it is installed
# make sklearn  compare a report of eval with scikit-learn, where Python has it
# make slurm    run a sweep as a job array of Slurm, where its daemons are installed
# make lint     check formatting, clippy (with and without the command line), documentation
# make bench    benchmark the layer on one device: make bench TNET_BENCH_DEVICE=vulkan
# make examples run the examples
# make setup    install what is missing: a Vulkan loader and driver, the data set

.PHONY: train test examples swiftshader browser onnxruntime pytorch sklearn slurm lint bench setup
CARGO ?= cargo
DATA_PACKAGE = /usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz

# ARGS holds further options: make train ARGS="--bond 16 --epochs 5". There is one profile for
# everything, release, so that nothing is built twice.
train: setup
	$(CARGO) run --release --locked -- train $(ARGS)

# The Rust code in README.md and in comments is compiled and run too.
# What runs on an adapter runs twice where that is software: with the kernels for it, and with a GPU's, and dense layers
# also with Burn's products.
test: setup
	$(CARGO) test --release --locked
	TNET_TARGET=gpu $(CARGO) test --release --locked --test suite vulkan -- --skip launches:: --skip tuning::
	for products in burn-simple burn-double; do \
		TNET_TARGET=gpu TNET_PRODUCTS=$$products $(CARGO) test --release --locked --test suite training_ops::vulkan || exit 1; \
	done
	$(MAKE) examples

# Trains the small model of own_model on the CPU, compresses that of compress_linear, loads a short run and predicts.
examples:
	$(CARGO) run --release --locked --example own_model -- cpu
	$(CARGO) run --release --locked --example compress_linear -- cpu
	@run=$$(mktemp -d) && trap 'rm -r "$$run"' EXIT && \
	$(CARGO) run -q --release --locked -- train --device cpu --train-images 6000 --epochs 1 --out "$$run/run" && \
	$(CARGO) run -q --release --locked --example predict -- "$$run/run" cpu

swiftshader: setup
	CARGO=$(CARGO) tests/swiftshader.sh

onnxruntime: setup
	CARGO=$(CARGO) tests/onnxruntime.sh

pytorch: setup
	CARGO=$(CARGO) tests/pytorch.sh

browser: setup
	CARGO=$(CARGO) tests/browser.sh

sklearn: setup
	CARGO=$(CARGO) tests/sklearn.sh

slurm: setup
	CARGO=$(CARGO) tests/slurm.sh

# The library must compile without the command line and without its dependencies.
lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --release --locked --all-targets -- -D warnings
	$(CARGO) clippy --release --locked --lib --no-default-features -- -D warnings
	$(CARGO) clippy --release --locked --lib --no-default-features --features images -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --locked --no-deps

# Prints one table; `tnet-gpu bench` has more options.
bench: setup
	TNET_BENCH_DEVICE=$${TNET_BENCH_DEVICE:-cpu} $(CARGO) bench --locked --bench layer

# Linux alone has no graphics API until a package brings one. Without root, or away from Debian, one
# line says what to install; the program then uses the CPU and downloads the data set.
setup:
	@command -v $(CARGO) >/dev/null || { echo "cargo was not found: install Rust 1.95 or newer from https://rustup.rs"; exit 1; }
	@[ "$$(uname)" = Linux ] || exit 0; missing=; \
	PATH="$$PATH:/sbin" ldconfig -p | grep -q 'libvulkan\.so\.1' || missing=libvulkan1; \
	ls /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json >/dev/null 2>&1 || missing="$$missing mesa-vulkan-drivers"; \
	[ -n "$$TNET_DATA" ] || [ -e $(DATA_PACKAGE) ] || missing="$$missing dataset-fashion-mnist"; \
	[ -n "$$missing" ] || exit 0; \
	if [ "$$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi; \
	if ! command -v apt-get >/dev/null; then \
		echo "missing (Debian's names): $$missing; install it to use the GPU, or continue with the CPU and a download"; \
	elif [ -n "$$sudo" ] && ! sudo -n true 2>/dev/null; then \
		echo "missing: run 'sudo apt-get install $$missing'; continuing without it"; \
	else \
		$$sudo apt-get update -qq && \
			$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing || \
			echo "apt-get could not install $$missing"; \
	fi
