#!/usr/bin/env bash
# Installs what the integration tests need beyond Go: PyTorch, scikit-learn and safetensors as references, qemu-user to
# run arm64 binaries, iproute2 for network namespaces. On Debian, as root. What is there already is left alone.
set -euo pipefail

need=()
have() { command -v "$1" >/dev/null 2>&1; }
have qemu-aarch64 || need+=(qemu-user)
have ip || need+=(iproute2)
have openssl || need+=(openssl)
/usr/bin/python3 -c 'import torch' 2>/dev/null || need+=(python3-torch)
/usr/bin/python3 -c 'import sklearn' 2>/dev/null || need+=(python3-sklearn)
have pip || have pip3 || need+=(python3-pip)
if ((${#need[@]})); then
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi
