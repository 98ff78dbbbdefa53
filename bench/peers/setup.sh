#!/usr/bin/env bash
# Installs the peers that bench/peers compares with, and builds covey. On Debian 12, as root; what is there is left alone.
#
#   setup.sh                  everything
#   setup.sh products ...     what these comparisons need (see run.py for the names)
set -euo pipefail
cd "$(dirname "$0")/../.."
cache="${XDG_CACHE_HOME:-$HOME/.cache}"
all=(products allreduce-shm allreduce-tcp link step logistic accuracy scaling compress tradeoff noniid flower fidelity shapes knee elastic ps stragglers)
names=("$@")
((${#names[@]})) || names=("${all[@]}")

fail() {
	echo "bench/peers/setup.sh: $*" >&2
	exit 1
}
wants() { # whether one of these comparisons is to be run
	for n in "${names[@]}"; do for w in "$@"; do [[ $n == "$w" ]] && return 0; done; done
	return 1
}
for n in "${names[@]}"; do
	[[ " ${all[*]} " == *" $n "* ]] || fail "no comparison $n (${all[*]})"
done

# From the distribution: OpenMPI 4.1.4, MPICH 4.0.2, PyTorch 1.13.0 with OpenBLAS 0.3.21, oneDNN 2.6.3, LIBLINEAR 2.3.0.
# The versions that are there when a comparison runs stand in its results.
need=()
have() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'install ok installed'; }
want() { for p in "$@"; do have "$p" || need+=("$p"); done; }
want gcc libc6-dev python3 python3-venv
if wants allreduce-shm allreduce-tcp; then want openmpi-bin libopenmpi-dev mpich libmpich-dev; fi
if wants products step accuracy allreduce-tcp compress flower elastic; then want python3-torch libopenblas0-pthread; fi
if wants products; then want libdnnl-dev; fi
if wants logistic; then want liblinear-tools; fi
if wants link compress fidelity; then want iproute2; fi
if wants ps; then want git g++ libzmq3-dev libprotobuf-dev protobuf-compiler; fi
if ((${#need[@]})); then
	command -v apt-get >/dev/null || fail "needs ${need[*]}: this is not Debian, install them by hand"
	[[ $(id -u) == 0 ]] || fail "needs ${need[*]}: run it as root, or install them with apt-get"
	apt-get -o DPkg::Lock::Timeout=600 update -qq || fail "apt-get update failed"
	DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 install -y -qq --no-install-recommends "${need[@]}" >/dev/null ||
		fail "apt-get could not install ${need[*]}"
fi

environment() { # environment NAME TEST PACKAGE...: a virtual environment in which a line of Python runs
	local dir="$cache/$1" test="$2"
	shift 2
	"$dir/bin/python3" -c "$test" 2>/dev/null && return
	/usr/bin/python3 -m venv --clear "$dir" || fail "python3 -m venv $dir failed"
	"$dir/bin/pip" install --quiet --disable-pip-version-check "$@" || fail "pip could not install $*"
	"$dir/bin/python3" -c "$test" || fail "$dir does not work"
}
# Debian's PyTorch wants Debian's numpy, and scikit-learn a newer one, so that one is here.
environment covey-python 'import sklearn, safetensors.numpy, matplotlib' \
	numpy==2.2.6 scipy==1.15.3 scikit-learn==1.7.2 safetensors==0.6.2 matplotlib==3.10.7
if wants step; then
	TF_CPP_MIN_LOG_LEVEL=3 environment covey-bench-tf 'import tensorflow' tensorflow-cpu==2.21.0
fi

if wants flower; then
	environment covey-bench-flower 'import flwr.simulation, ray' 'flwr[simulation]==1.42.0'
fi

# The newest ps-lite. COVEY_PSLITE is where to clone it from without a network: a folder, say.
if wants ps; then
	dir="$cache/covey-bench-build/ps-lite"
	if [[ ! -e $dir/libps.a ]]; then
		rm -rf "$dir"
		git clone --quiet "${COVEY_PSLITE:-https://github.com/dmlc/ps-lite}" "$dir" || fail "git could not clone ps-lite; COVEY_PSLITE can name another place"
		(cd "$dir" && git checkout --quiet 15b8adf17e9871ff6112c80e4b290fa38c2b4656 &&
			protoc --cpp_out=src --proto_path=src src/meta.proto &&
			for f in customer.cc postoffice.cc van.cc meta.pb.cc; do g++ -std=c++17 -O3 -march=native -w -Iinclude -Isrc -c "src/$f" || exit; done &&
			ar rcs libps.a ./*.o) || fail "ps-lite does not build"
	fi
fi
