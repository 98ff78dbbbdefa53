#!/usr/bin/env bash
# Installs what the integration tests need beyond Go: PyTorch, scikit-learn and safetensors as references, qemu-user to
# run arm64 binaries, iproute2 and nftables for network namespaces that lose packets, toxiproxy, servers of three object stores, Slurm and
# OpenSSH, MPI, OpenBLAS and oneDNN as peers. On Debian, as root. What is there already is left alone.
set -euo pipefail

need=()
have() { command -v "$1" >/dev/null 2>&1; }
have qemu-aarch64 || need+=(qemu-user)
have ip || need+=(iproute2)
have nft || need+=(nftables)
have srun && have slurmctld && have slurmd || need+=(slurm-client slurmctld slurmd)
have munged || need+=(munge)
have ssh && have ssh-keygen || need+=(openssh-client)
[[ -x /usr/sbin/sshd ]] || need+=(openssh-server)
have ps || need+=(procps)
have npm || need+=(nodejs npm)
/usr/bin/python3 -c 'import torch, venv, ensurepip' 2>/dev/null || need+=(python3-torch python3-venv)
if ((${#need[@]})); then
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi

# What stands between two workers' sockets and delays or stops what passes.
tools="${XDG_CACHE_HOME:-$HOME/.cache}/covey-tools"
if [[ ! -x $tools/toxiproxy-server ]]; then
	CGO_ENABLED=0 GOBIN="$tools" go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0
	mv "$tools/server" "$tools/toxiproxy-server"
fi

# An S3 server over a folder, which checkpoints are saved to.
if [[ ! -x $tools/versitygw ]]; then
	CGO_ENABLED=0 GOBIN="$tools" go install github.com/versity/versitygw/cmd/versitygw@v1.8.0
fi

# What speaks Google's protocol, and Azure's.
if [[ ! -x $tools/fake-gcs-server ]]; then
	CGO_ENABLED=0 GOBIN="$tools" go install github.com/fsouza/fake-gcs-server@v1.56.1
fi
if [[ ! -x $tools/azurite-blob ]]; then
	mkdir -p "$tools/azurite"
	echo '{}' >"$tools/azurite/package.json"
	npm install --prefix "$tools/azurite" --no-audit --no-fund --omit=dev --loglevel=error azurite@3.37.0
	ln -s azurite/node_modules/.bin/azurite-blob "$tools/azurite-blob"
fi

# NATS servers as their makers build them.
if [[ ! -x $tools/nats-server ]]; then
	CGO_ENABLED=0 GOBIN="$tools" go install github.com/nats-io/nats-server/v2@v2.15.2
fi

# The systems that Covey is compared with, and the Python with scikit-learn and safetensors that internal/python looks for.
"$(dirname "$0")/../bench/peers/setup.sh" products allreduce-shm
