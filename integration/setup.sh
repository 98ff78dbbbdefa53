#!/usr/bin/env bash
# Installs what the integration tests need beyond Go: PyTorch, scikit-learn and safetensors as references, qemu-user to
# run arm64 binaries, iproute2 for network namespaces. On Debian, as root. What is there already is left alone.
set -euo pipefail

need=()
have() { command -v "$1" >/dev/null 2>&1; }
have qemu-aarch64 || need+=(qemu-user)
have ip || need+=(iproute2)
/usr/bin/python3 -c 'import torch, venv, ensurepip' 2>/dev/null || need+=(python3-torch python3-venv)
if ((${#need[@]})); then
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
fi

# Debian's PyTorch wants Debian's numpy, and scikit-learn a newer one: those live in an environment of their own, where
# internal/python looks for them.
venv="${XDG_CACHE_HOME:-$HOME/.cache}/covey-python"
if ! "$venv/bin/python3" -c 'import sklearn, safetensors.numpy' 2>/dev/null; then
	/usr/bin/python3 -m venv --clear "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check numpy==2.2.6 scipy==1.15.3 scikit-learn==1.7.2 safetensors==0.6.2
fi
