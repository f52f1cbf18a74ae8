# make setup | demo | test | lint | bench. Everything happens in .venv; see README.md.
PYTHON ?= python3
BIN := .venv/bin
DEMO := runs/demo
PHANTOM_WEIGHTS := mdnet_tiny topic_mdnet show_attend_tell

.PHONY: setup demo test lint bench sample weights weights-check weights-ecnet_cifar \
	$(PHANTOM_WEIGHTS:%=weights-%) figures clean

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mdnet needs Python 3.11 or newer: make PYTHON=python3.11 setup")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	touch $@

# The main job from nothing: data, training, evaluation, and reports for tiles never seen.
demo: setup
	rm -rf $(DEMO)
	$(BIN)/mdnet data phantom --out $(DEMO)/data --studies 4400 --seed 1
	$(BIN)/python train.py --config recipes/demo.yaml --out $(DEMO) --data $(DEMO)/data
	$(BIN)/python evaluate.py --run $(DEMO) --split test
	$(BIN)/mdnet data phantom --out $(DEMO)/unseen --studies 6 --seed 2
	$(BIN)/mdnet generate $(DEMO)/unseen/images --weights $(DEMO) --format html --out $(DEMO)/findings
	$(BIN)/mdnet generate $(DEMO)/unseen/images --weights $(DEMO)

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The weights that ship in the package, from nothing; `make weights-mdnet_tiny` makes one of them.
weights: $(PHANTOM_WEIGHTS:%=weights-%) weights-ecnet_cifar

$(PHANTOM_WEIGHTS:%=weights-%): weights-%: runs/weights/data/studies.jsonl runs/weights/fresh/studies.jsonl
	rm -rf runs/weights/$*
	$(BIN)/python train.py --config recipes/$*_phantom.yaml
	$(BIN)/python recipes/publish_weights.py --run runs/weights/$* --name $*/phantom \
		--fresh runs/weights/fresh --recipe "make weights-$*"

weights-ecnet_cifar: runs/weights/cifar10/dataset.json
	rm -rf runs/weights/ecnet_cifar
	$(BIN)/python train.py --config recipes/ecnet_cifar10.yaml
	$(BIN)/python recipes/publish_weights.py --run runs/weights/ecnet_cifar --name ecnet/cifar10 \
		--fresh runs/weights/cifar10 --split test --recipe "make weights-ecnet_cifar"

# Whether data that nobody has seen bear out what the cards of the shipped weights say.
weights-check: setup
	test -f runs/weights/cifar10/dataset.json || $(BIN)/python recipes/cifar10_studies.py \
		--out runs/weights/cifar10 || echo "without CIFAR-10, the weights of it are not checked"
	$(BIN)/python recipes/check_weights.py --cifar10 runs/weights/cifar10

runs/weights/data/studies.jsonl: | setup
	rm -rf runs/weights/data
	$(BIN)/mdnet data phantom --out runs/weights/data --studies 10000 --seed 11

runs/weights/fresh/studies.jsonl: | setup
	rm -rf runs/weights/fresh
	$(BIN)/mdnet data phantom --out runs/weights/fresh --studies 500 --seed 20261120

runs/weights/cifar10/dataset.json: | setup
	rm -rf runs/weights/cifar10
	$(BIN)/python recipes/cifar10_studies.py --out runs/weights/cifar10

# The sample that is committed under data/.
sample: setup
	rm -rf data/sample
	$(BIN)/mdnet data phantom --out data/sample --studies 50 --seed 5

# Every picture in the docs; the first needs Debian's chromium.
figures: setup
	$(BIN)/python docs/screenshot.py
	$(BIN)/mdnet explain data/sample/images/p00000.png --aspect mitosis --format png --out docs/figures \
		--method evidence,cam,grad_cam,saliency,integrated_gradients,occlusion,lime
	mv docs/figures/p00000.png docs/figures/methods.png
	$(BIN)/mdnet counterfactual data/sample/images/p00000.png --aspect mitosis --out docs/figures
	mv docs/figures/p00000.png docs/figures/counterfactual.png
	rm docs/figures/p00000.json

# Every table of benchmarks/README.md that needs no real data (two hours on two cores).
bench: setup
	test -d runs/fresh500 || $(BIN)/mdnet data phantom --out runs/fresh500 --studies 500 --seed 20261120
	test -d runs/weights/data || $(BIN)/mdnet data phantom --out runs/weights/data --studies 10000 --seed 11
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/language_overhead.py
	$(BIN)/python benchmarks/language_metrics.py
	$(BIN)/python benchmarks/evidence_cost.py
	$(BIN)/python benchmarks/onnx_speed.py
	$(BIN)/python benchmarks/attention_use.py --data runs/fresh500
	$(BIN)/python benchmarks/counterfactuals.py --data runs/fresh500
	$(BIN)/python benchmarks/faithfulness.py --data runs/fresh500 --few 50
	$(BIN)/python benchmarks/out_of_distribution.py --data runs/weights/data
	$(BIN)/python benchmarks/label_randomisation.py --studies 2000 --epochs 5
	$(BIN)/python benchmarks/attention_variants.py
	$(BIN)/python benchmarks/loading.py
	$(BIN)/python benchmarks/training_speed.py --threads 1 --clock cpu
	$(BIN)/python benchmarks/training_growth.py --threads 1 --clock cpu
	$(BIN)/python benchmarks/kill_resume.py --kills 20
	$(BIN)/python benchmarks/decoding_peers.py
	$(BIN)/python benchmarks/sharding.py
	$(BIN)/python benchmarks/retrieval_quality.py --studies 300
	$(BIN)/python benchmarks/retrieval_scale.py
	$(BIN)/python benchmarks/generate_scale.py
	$(BIN)/python benchmarks/render.py

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
