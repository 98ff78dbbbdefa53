# go test ./... is the gate and needs only Go. The rest is here.

export CGO_ENABLED = 0

build: ## the binary, bin/covey
	go build -o bin/covey ./cmd/covey

test: ## what the README says
	go test ./...

integration: ## what needs more than Go; installs it (Debian, as root)
	./integration/setup.sh
	./vec/gen/check.sh
	COVEY_NOASM=1 go test -count=1 -short ./vec ./model/... ./optim
	go test -count=1 -timeout 40m -tags integration,s3,gs,azblob ./ckpt ./optim ./model ./integration

chaos: ## a hundred runs on real processes, to each of which a few things happen, and twenty networks cut in two; forty minutes
	COVEY_CHAOS="$${COVEY_CHAOS:-100}" COVEY_PARTITIONS="$${COVEY_PARTITIONS:-20}" go test -count=1 -timeout 90m -tags integration -run 'Test(Chaos|Partitions)$$' -v ./integration

bench: ## compare with other systems, and write BENCHMARKS.md; installs them (Debian, as root); two hours
	./bench/peers/setup.sh
	"$${XDG_CACHE_HOME:-$$HOME/.cache}/covey-python/bin/python3" bench/peers/run.py all

fidelity: ## predicted and measured step times of the simulator (Debian, as root); half an hour
	./bench/peers/setup.sh fidelity
	"$${XDG_CACHE_HOME:-$$HOME/.cache}/covey-python/bin/python3" bench/peers/run.py fidelity

generate: ## the assembly of vec, from vec/gen
	go generate ./vec

.PHONY: build test integration chaos bench fidelity generate
